"""The element types in an ONNX graph: TensorRT is strongly typed, so what an engine computes in stands there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from compress.errors import DataError
from compress.export.graph import every_node, read_model

FLOATS = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16"}
CODES = {"INT8": "int8", "UINT8": "uint8", "FLOAT8E4M3FN": "fp8", "INT4": "int4", "UINT4": "uint4", "INT32": "int32"}
"""Types of quantized numbers, by the names that `export.precision` gives them where it has one."""
PRODUCTS = ("MatMul", "Gemm", "Conv")
STANDARD = ("", "ai.onnx")
"""Names of the domain of ONNX's own operators."""


@dataclass(frozen=True)
class TypedGraph:
    """A model's graph with the type of each tensor, as far as ONNX can infer it; external weights are not read.

    Args:
        model: an onnx.ModelProto with inferred types. path: its file, for messages.
    """

    model: Any
    path: Path

    @classmethod
    def read(cls, path: Path) -> TypedGraph:
        """Read a file.

        Raises:
            DataError: it is missing, or types in it contradict each other.
            IntegrityError: it is no ONNX model.
        """
        import onnx

        if not path.is_file():
            raise DataError(f"{path} does not exist: name an .onnx file")
        try:
            return cls(onnx.shape_inference.infer_shapes(read_model(path)), path)
        except onnx.shape_inference.InferenceError as error:
            raise DataError(
                f"{path} contradicts itself ({str(error).strip().splitlines()[0]}): export it again"
            ) from error

    @cached_property
    def nodes(self) -> tuple[Any, ...]:
        """Every node, also of inner graphs."""
        return tuple(every_node(self.model.graph))

    @cached_property
    def inputs(self) -> tuple[Any, ...]:
        """What the model is given; weights are no inputs."""
        return tuple(value for value in self.model.graph.input if value.name not in self.constants)

    @cached_property
    def constants(self) -> dict[str, Any]:
        """Name -> onnx.TensorProto of each weight and constant."""
        found = {tensor.name: tensor for tensor in self.model.graph.initializer}
        for node in self.nodes:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    found[node.output[0]] = attribute.t
        return found

    @cached_property
    def types(self) -> dict[str, str]:
        """Tensor -> name of its type in ONNX, such as FLOAT16."""
        graph = self.model.graph
        values = [*graph.value_info, *graph.input, *graph.output]
        found = {value.name: type_name(value.type.tensor_type.elem_type) for value in values}
        return found | {name: type_name(tensor.data_type) for name, tensor in self.constants.items()}

    @property
    def size_bytes(self) -> int:
        """Bytes of the file and of weights that lie beside it."""
        outside = (entry for tensor in self.constants.values() for entry in tensor.external_data)
        return self.path.stat().st_size + sum(int(entry.value) for entry in outside if entry.key == "length")

    @property
    def arithmetic(self) -> set[str]:
        """Float types of products, or where there is none of all weights: fp32, fp16, bf16."""
        made = {self.types.get(node.output[0], "") for node in self.named(*PRODUCTS)}
        made = made & set(FLOATS) or {type_name(tensor.data_type) for tensor in self.constants.values()}
        return {FLOATS[name] for name in made & set(FLOATS)}

    @property
    def codes(self) -> set[str]:
        """What numbers are quantized to: int8, fp8, int4 and others."""
        read = {self.types.get(node.input[0], "") for node in self.named("DequantizeLinear")}
        return {CODES.get(name, name.lower()) for name in read}

    def named(self, *operators: str) -> Iterator[Any]:
        """Nodes of ONNX's own operators of these names."""
        return (node for node in self.nodes if node.op_type in operators and node.domain in STANDARD)


def type_name(number: int) -> str:
    """ONNX's name of an element type."""
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(number))

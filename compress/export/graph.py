"""What an .onnx file is, read from its graph alone: nothing is run, external weights stay where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compress.errors import IntegrityError
from compress.extras import require

Quantization = Literal["none", "dynamic", "static", "weights", "half"]
"""dynamic: activations get ranges while it runs; static: ranges are in the file; weights: these alone; half: they are
float16."""

DYNAMIC = {
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "ConvInteger",
    "QAttention",
}
STATIC = {"QLinearMatMul", "QLinearConv", "QGemm"}
WEIGHTS = {"DequantizeLinear", "MatMulNBits", "GatherBlockQuantized"}
KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"}
"""Domains of operators that onnxruntime has."""


@dataclass(frozen=True)
class Graph:
    """An ONNX graph in figures.

    opsets: operator set of each domain. inputs, outputs: name -> "dtype [shape]". parameters: numbers in the
    weights. operators: operator -> how often, most frequent first.
    """

    opsets: dict[str, int]
    inputs: dict[str, str]
    outputs: dict[str, str]
    parameters: int
    operators: dict[str, int]
    quantization: Quantization
    producer: str
    foreign: tuple[str, ...] = ()
    """Operators of domains that onnxruntime does not know and that the file does not define, as domain:operator."""

    @property
    def convolutional(self) -> bool:
        """Whether convolutions outnumber matrix products."""
        products = sum(self.operators.get(name, 0) for name in ("MatMul", "Gemm"))
        return self.operators.get("Conv", 0) > products


def read_model(path: Path) -> Any:
    """The onnx.ModelProto of a file, without weights that lie beside it.

    Raises:
        IntegrityError: the file is no ONNX model, or is cut short.
        EnvironmentProblem: the package onnx is not installed.
    """
    require("onnx", extra="train", why=f"reading the graph of {path}")
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises a class of its own, onnx others
        raise IntegrityError(f"{path} is no readable ONNX model ({error}); export it again") from error
    if not model.graph.node:
        raise IntegrityError(f"{path} is no ONNX model: its graph has 0 operators; export it again")
    return model


def read_graph(path: Path) -> Graph:
    """Read a model's graph.

    Raises:
        IntegrityError: the file is no ONNX model, or is cut short.
        EnvironmentProblem: the package onnx is not installed.
    """
    model = read_model(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = list(every_node(model.graph))
    operators = Counter(node.op_type for node in nodes)
    return Graph(
        opsets={entry.domain or "ai.onnx": int(entry.version) for entry in model.opset_import},
        inputs={value.name: _signature(value) for value in model.graph.input if value.name not in weights},
        outputs={value.name: _signature(value) for value in model.graph.output},
        parameters=sum(_count(tensor) for tensor in model.graph.initializer),
        operators=dict(operators.most_common()),
        quantization=_quantization(nodes, set(operators), model.graph.initializer),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        foreign=_foreign(model, nodes),
    )


def _foreign(model: Any, nodes: Sequence[Any]) -> tuple[str, ...]:
    own = {(function.domain, function.name) for function in model.functions}
    found = {
        node for node in ((n.domain, n.op_type) for n in nodes) if node[0] not in KNOWN_DOMAINS and node not in own
    }
    return tuple(f"{domain}:{operator}" for domain, operator in sorted(found))


def every_node(graph: Any) -> Iterator[Any]:
    """Every node, also of the graphs inside If, Loop and Scan."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from every_node(inner)


def _quantization(nodes: Sequence[Any], operators: set[str], weights: Sequence[Any]) -> Quantization:
    from onnx import TensorProto

    # Dynamic graphs hold QuantizeLinear or DequantizeLinear too: one after the other marks a static range,
    # and beside static ranges stand products that are quantized dynamically.
    codes = {name for node in nodes if node.op_type == "QuantizeLinear" for name in node.output}
    if operators & STATIC or any(node.op_type == "DequantizeLinear" and node.input[0] in codes for node in nodes):
        return "static"
    if operators & DYNAMIC:
        return "dynamic"
    if operators & WEIGHTS:
        return "weights"
    return "half" if any(tensor.data_type == TensorProto.FLOAT16 for tensor in weights) else "none"


def _count(tensor: Any) -> int:
    total = 1
    for size in tensor.dims:
        total *= int(size)
    return total


def _signature(value: Any) -> str:
    from onnx import TensorProto

    tensor = value.type.tensor_type
    sizes = [
        axis.dim_param or (str(axis.dim_value) if axis.HasField("dim_value") else "?") for axis in tensor.shape.dim
    ]
    return f"{TensorProto.DataType.Name(tensor.elem_type).lower()} [{', '.join(sizes)}]"

"""float16 and bfloat16 from a float32 graph: weights and arithmetic; inputs and outputs keep their types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import DataError
from compress.export.onnx import write_onnx
from compress.export.quiet import quiet

HALF_SCALES_OPSET = 19
"""First operator set whose QuantizeLinear takes float16."""
BFLOAT16_OPSET = 22
"""First operator set in which all operators of the students know bfloat16."""
BFLOAT16_LARGEST = float(255 * 2**120)


def to_fp16(source: Path, target: Path) -> None:
    """Write a float32 ONNX model, quantized or not, with fp16 weights and arithmetic.

    The same source gives the same bytes. Values beyond ±65504 are cut to it.

    Raises:
        DataError: the source is missing.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = loaded(source)
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        model = at_least(model, HALF_SCALES_OPSET, source)
    with quiet():
        model = convert_float_to_float16(model, keep_io_types=True, op_block_list=[])
    write_onnx(model, target)


def to_bf16(source: Path, target: Path) -> None:
    """Write a float32 ONNX model with bfloat16 weights and arithmetic, as operator set 22 or later.

    No tool that we know of does this to a graph (torch exports only what it has in memory). The same source gives the
    same bytes. Values beyond ±3.39e38, such as float32's own least one, are cut to it.

    Raises:
        DataError: the source is missing, or an operator of it does not know bfloat16.
    """
    import onnx

    model = at_least(loaded(source), BFLOAT16_OPSET, source)
    del model.graph.value_info[:]
    for graph in _graphs(model.graph):
        for tensor in graph.initializer:
            _cut(tensor)
        for node in graph.node:
            _in_bf16(node)
    _keep_outputs(model.graph)
    try:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{source} cannot compute in bfloat16 ({reason}): take fp16") from error
    write_onnx(model, target)


def at_least(model: Any, opset: int, source: Path) -> Any:
    """The model in this operator set of ONNX or its own later one.

    Raises:
        DataError: onnx cannot convert it.
    """
    import onnx

    if max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) >= opset:
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{source} cannot be raised to operator set {opset} ({reason}): export it with that") from error


def loaded(source: Path) -> Any:
    """The onnx.ModelProto of a file, with all weights.

    Raises:
        DataError: it is missing.
    """
    import onnx

    if not source.is_file():
        raise DataError(f"{source} does not exist: name an .onnx file")
    return onnx.load(source)


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _graphs(inner)


def _in_bf16(node: Any) -> None:
    """Let a node that names float32 name bfloat16."""
    from onnx import TensorProto, helper

    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.BFLOAT16
        elif attribute.name == "value" and attribute.HasField("t"):
            _cut(attribute.t)
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            attribute.CopyFrom(helper.make_attribute("value", _tensor("", np.asarray(numbers, np.float32))))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(helper.make_attribute("value", _tensor("", np.zeros(1, np.float32))))


def _cut(tensor: Any) -> None:
    """Make a float32 tensor bfloat16, in place."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(_tensor(tensor.name, numpy_helper.to_array(tensor)))


def _tensor(name: str, array: Any) -> Any:
    from ml_dtypes import bfloat16
    from onnx import numpy_helper

    cut = np.asarray(array).clip(-BFLOAT16_LARGEST, BFLOAT16_LARGEST)
    return numpy_helper.from_array(cut.astype(bfloat16), name)


def _keep_outputs(graph: Any) -> None:
    """Cast float outputs back, so that whoever runs the model need not know of bfloat16."""
    from onnx import TensorProto, helper

    kept = {value.name for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{name}/bf16" if name in kept else name for name in names]
    graph.node.extend(
        helper.make_node("Cast", [f"{name}/bf16"], [name], name=f"Cast_{name}", to=TensorProto.FLOAT)
        for name in sorted(kept)
    )

"""What TensorRT does not build, told from the ONNX file in a second instead of from its log after a build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from compress.errors import DataError
from compress.export.typed import FLOATS, STANDARD, TypedGraph

SYMMETRIC = "give the float model, which kdc quantizes symmetrically, or one quantized so"
INTEGER_OPERATORS = ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")
UNSIGNED = ("UINT8", "UINT4")
TOKEN_TYPES = ("INT64", "INT32")


def refuse(graph: TypedGraph) -> None:
    """Refuse a model that TensorRT cannot read, before the build.

    Raises:
        DataError: inputs that are not token ids, operators of another runtime, or numbers quantized or mixed as
            TensorRT does not take them.
    """
    for check in CHECKS:
        if (reason := check(graph)) is not None:
            raise DataError(f"{graph.path} {reason}")


def _inputs(graph: TypedGraph) -> str | None:
    for value in graph.inputs:
        kind, axes = graph.types[value.name], len(value.type.tensor_type.shape.dim)
        if kind not in TOKEN_TYPES or axes != 2:
            return (
                f"takes {value.name!r} as {kind.lower()} with {axes} axes: engines are built for models of token ids, "
                "whole numbers [batch, sequence]"
            )
    return None


def _operators(graph: TypedGraph) -> str | None:
    from onnx import defs

    own = {(function.domain, function.name) for function in graph.model.functions}
    for node in graph.nodes:
        if (node.domain, node.op_type) in own:
            continue
        if node.domain not in STANDARD:
            return (
                f"has the operator {node.op_type} of {node.domain}, which is none of ONNX's and unknown to TensorRT: "
                "give the model as it was exported, neither fused (-O2) nor quantized for another runtime"
            )
        if not defs.has(node.op_type):
            return f"has the operator {node.op_type}, which ONNX does not know: export it again"
    return None


def _integers(graph: TypedGraph) -> str | None:
    node = next(graph.named(*INTEGER_OPERATORS), None)
    if node is None:
        return None
    return f"is quantized with {node.op_type}, TensorRT takes pairs of QuantizeLinear and DequantizeLinear: {SYMMETRIC}"


def _biases(graph: TypedGraph) -> str | None:
    for node in graph.named("DequantizeLinear"):
        if graph.types.get(node.input[0]) == "INT32":
            return (
                f"has a quantized bias ({node.input[0]}, int32), TensorRT takes biases in float: {SYMMETRIC}, "
                "with QuantizeBias false"
            )
    return None


def _unsigned(graph: TypedGraph) -> str | None:
    for node in graph.named("QuantizeLinear", "DequantizeLinear"):
        kind = graph.types.get(node.output[0] if node.op_type == "QuantizeLinear" else node.input[0])
        if kind in UNSIGNED:
            return (
                f"is quantized to {kind.lower()} at {node.name or node.output[0]!r}, TensorRT takes int8: {SYMMETRIC}"
            )
    return None


def _zero_points(graph: TypedGraph) -> str | None:
    from onnx import numpy_helper

    for node in graph.named("QuantizeLinear", "DequantizeLinear"):
        if len(node.input) < 3 or not node.input[2]:
            continue
        zero = graph.constants.get(node.input[2])
        if zero is None:
            return f"finds the zero point {node.input[2]!r} while it runs, TensorRT takes 0 alone: {SYMMETRIC}"
        if (values := numpy_helper.to_array(zero).astype("float32")).any():
            worst = values.flat[abs(values).argmax()]
            return (
                f"has the zero point {worst:g} at {node.name or node.output[0]!r}, TensorRT takes 0 alone: {SYMMETRIC}"
            )
    return None


def _mixed(graph: TypedGraph) -> str | None:
    """Two float types where an operator wants one, which onnxruntime mends by itself and TensorRT refuses."""
    for node in graph.nodes:
        if node.domain not in STANDARD:
            continue
        for names in _of_one_type(node):
            kinds = {kind for name in names if (kind := graph.types.get(name)) in FLOATS}
            if len(kinds) > 1:
                both = " and ".join(sorted(kind.lower() for kind in kinds))
                return (
                    f"gives {node.op_type} {_name(node)} {both}, TensorRT casts nothing by itself: "
                    "give the float32 model and a precision (kdc converts all of it)"
                )
    return None


def _of_one_type(node: Any) -> Iterator[list[str]]:
    """Inputs of a node, by the type parameter that they share."""
    from onnx import defs

    formal = defs.get_schema(node.op_type).inputs
    groups: dict[str, list[str]] = {}
    for place, name in enumerate(node.input):
        # The last formal input may stand for any number.
        parameter = formal[min(place, len(formal) - 1)]
        if parameter.is_homogeneous and not parameter.type_str.startswith("tensor("):
            groups.setdefault(parameter.type_str, []).append(name)
    yield from groups.values()


def _name(node: Any) -> str:
    return repr(node.name or node.output[0])


CHECKS: tuple[Callable[[TypedGraph], str | None], ...] = (
    _inputs,
    _operators,
    _integers,
    _biases,
    _unsigned,
    _zero_points,
    _mixed,
)

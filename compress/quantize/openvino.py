"""OpenVINO models from a float ONNX file: float, int8 with calibration, int8 weights; the last two by NNCF.

NNCF's post-training quantization (https://arxiv.org/abs/2002.08679): int8 weights with a scale for each output
channel, embeddings too; activations with ranges measured on real rows. Sums, masks and products of two activations
outside of attention stay in float: a masked maximum, say, has a range that int8 cannot hold. Means do not: with a mean
in float between int8 products OpenVINO 2026.4 gives wrong answers (its low-precision passes carry the scale past it).
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from compress.artifacts import IR
from compress.errors import DataError, EnvironmentProblem, IntegrityError
from compress.export.quiet import quiet
from compress.extras import require
from compress.quantize.calibration import Feed, Reader
from compress.runtime.openvino_engine import NO_BFLOAT16, check_exact, core, has_bfloat16, openvino

FLOAT_TYPES = (
    *("Add", "Subtract", "Multiply", "Divide", "Power", "Sqrt", "Less", "Greater", "Maximum", "Minimum"),
    *("ReduceSum", "ReduceMax"),
)
"""Operators that NNCF would quantize and that gain nothing from it."""
WEIGHTED = ("MatMul", "Convolution", "GroupConvolution", "Gather")
UNCOMPUTED = ("Constant", "Parameter")


def write_float(source: Path, folder: Path) -> None:
    """Write model.xml and model.bin of a float ONNX file; the same source gives the same bytes.

    Raises:
        DataError: OpenVINO does not read an operator of it, or would compute it wrongly.
        IntegrityError: it is no ONNX model.
        EnvironmentProblem: openvino is not installed.
    """
    _save(_read(source), folder)


def write_bfloat16(source: Path, folder: Path) -> None:
    """As write_float, for a processor that computes in bfloat16; the weights stay in float32.

    Raises:
        EnvironmentProblem: this processor has no bfloat16, so the result could not be measured here.
    """
    require_bfloat16("openvino-bf16")
    write_float(source, folder)


def require_bfloat16(method: str) -> None:
    """Refuse a method that cannot be measured here.

    Raises:
        EnvironmentProblem: this processor has no bfloat16, or openvino is not installed.
    """
    openvino()
    if not has_bfloat16():
        raise EnvironmentProblem(f"{method} cannot be measured here: {NO_BFLOAT16}; take openvino or openvino-int8")


def write_int8(source: Path, folder: Path, feeds: Iterable[Feed], keep_float: frozenset[str] = frozenset()) -> None:
    """Write an int8 model whose activation ranges are those seen in `feeds`.

    Args:
        source: a float32 .onnx file. folder: gets model.xml and model.bin; same source and feeds, same bytes.
        feeds: model inputs, int64 [B, T] each; lengths may differ from batch to batch.
        keep_float: names of nodes of the source that stay in float.

    Raises:
        DataError: there are no feeds, nothing to quantize, or operators that OpenVINO does not read.
        EnvironmentProblem: nncf is not installed.
    """
    nncf = _nncf()
    batches = list(iter(Reader(feeds).get_next, None))
    model = _read(source)
    attention = any(op.get_type_name() == "Softmax" for op in model.get_ops())
    scope = _names_of(source, model, keep_float) | (set() if attention else _activation_products(model))
    with _silent():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(batches),
            subset_size=len(batches),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if attention else None,
            ignored_scope=nncf.IgnoredScope(names=sorted(scope), types=list(FLOAT_TYPES), validate=False),
        )
    if not any(op.get_type_name() == "FakeQuantize" for op in quantized.get_ops()):
        raise DataError(f"{source} holds nothing to quantize: no {', '.join(WEIGHTED)} that may leave float")
    _save(quantized, folder)


def write_int8_weights(source: Path, folder: Path, keep_float: frozenset[str] = frozenset()) -> None:
    """Write a model with int8 weights, symmetric per channel, and float activations; needs no calibration.

    Where the processor has int8 products, OpenVINO quantizes the activations while it runs, token by token.

    Args:
        source: a float32 .onnx file. folder: gets model.xml and model.bin; the same source gives the same bytes.
        keep_float: names of nodes of the source that stay in float.

    Raises:
        DataError: nothing to quantize, or operators that OpenVINO does not read.
        EnvironmentProblem: nncf is not installed.
    """
    nncf = _nncf()
    model = _read(source)
    kept = nncf.IgnoredScope(names=sorted(_names_of(source, model, keep_float)), validate=False)
    with _silent():
        compressed = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=kept)
    if not any(op.get_element_type().to_string() == "i8" for op in compressed.get_ops() if op.get_output_size()):
        raise DataError(f"{source} holds nothing to quantize: no {', '.join(WEIGHTED)} that may leave float")
    _save(compressed, folder)


def _nncf() -> Any:
    openvino()
    with _silent():
        return require("nncf", extra="nncf", why="int8 for OpenVINO")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """NNCF draws bars and tables on stdout."""
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        yield


def _read(source: Path) -> Any:
    if not source.is_file():
        raise DataError(f"{source} does not exist: name an .onnx file")
    openvino()
    try:
        model = core().read_model(source)
    except RuntimeError as error:  # OpenVINO's own errors, all of them
        reason = " ".join(str(error).split())
        raise IntegrityError(f"OpenVINO cannot read {source} ({reason}); give the float model") from error
    check_exact(model, source)
    return model


def _save(model: Any, folder: Path) -> None:
    """Write the model; names that OpenVINO counts up for as long as a process lives give way to positions."""
    model.set_friendly_name("model")
    for position, op in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{op.get_type_name()}_\d+", op.get_friendly_name()):
            op.set_friendly_name(f"{op.get_type_name()}.{position}")
    openvino().save_model(model, folder / IR, compress_to_fp16=False)


def _activation_products(model: Any) -> set[str]:
    """Names of matrix products of two activations, such as a weighted sum over tokens."""
    products = (op for op in model.get_ops() if op.get_type_name() == "MatMul")
    return {op.get_friendly_name() for op in products if not any(_constant(op, side) for side in (0, 1))}


def _constant(op: Any, side: int) -> bool:
    source = op.input_value(side).get_node()
    while source.get_type_name() in ("Convert", "Transpose", "Reshape"):
        source = source.input_value(0).get_node()
    return bool(source.get_type_name() == "Constant")


def _names_of(source: Path, model: Any, nodes: frozenset[str]) -> set[str]:
    """Names of the operators that OpenVINO made from nodes of an ONNX graph: all between their outputs and inputs.

    Raises:
        ValueError: the graph has no such node.
    """
    if not nodes:
        return set()
    import onnx

    graph = {node.name: node for node in onnx.load(source, load_external_data=False).graph.node}
    unknown = sorted(nodes - graph.keys())
    if unknown:
        raise ValueError(f"{source} has no node {unknown[0]!r}")
    makers = {
        name: out.get_node() for op in model.get_ordered_ops() for out in op.outputs() for name in out.get_names()
    }
    found: set[str] = set()
    for name in nodes:
        before = {makers[tensor].get_friendly_name() for tensor in graph[name].input if tensor in makers}
        open_ends = [makers[tensor] for tensor in graph[name].output if tensor in makers]
        while open_ends:
            op = open_ends.pop()
            seen = op.get_friendly_name()
            if seen not in before | found and op.get_type_name() not in UNCOMPUTED:
                found.add(seen)
                open_ends += [value.get_node() for value in op.input_values()]
    return found

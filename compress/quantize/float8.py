"""FP8 (E4M3, https://arxiv.org/abs/2209.05433) for TensorRT: Q/DQ around products, a scale a tensor or weight channel.

onnxruntime's own quantizer takes FP8 scales from the standard deviation, ten times as far from the float model as from
the largest magnitude (MiniLM: 0.04 against 0.004 in a logit). So the ranges are those of symmetric int8, in which

    int8: s = max|x| / 127        fp8: s = max|x| / 448,

and the graph is the same: scales grow by 127/448 and weights are rounded anew, from float.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from compress.batch import Floats
from compress.export.halves import HALF_SCALES_OPSET, at_least
from compress.export.onnx import write_onnx
from compress.quantize.calibration import Feed
from compress.quantize.preprocess import prepared
from compress.quantize.static import quantize_static_int8

INT8_LARGEST, FP8_LARGEST = 127, 448
CODES = "_quantized"
"""What onnxruntime appends to the name of a weight."""


def quantize_fp8(source: Path, target: Path, feeds: Iterable[Feed]) -> None:
    """Write a model whose Conv, MatMul and Gemm with constant weights read FP8; everything else stays float32.

    Args:
        source: a float32 .onnx file.
        target: the .onnx file to write. The same source and feeds give the same bytes.
        feeds: model inputs, int64 [B, T] each, whose largest magnitudes set the ranges.

    Raises:
        DataError: the source cannot be read or holds nothing to quantize, or there are no feeds.
    """
    import onnx

    model = prepared(source)
    with tempfile.TemporaryDirectory(prefix="kdc-quantize-") as temporary:
        plain, int8 = Path(temporary) / "float.onnx", Path(temporary) / "int8.onnx"
        onnx.save(model, plain)
        quantize_static_int8(plain, int8, feeds, tensorrt=True)
        quantized = at_least(onnx.load(int8), HALF_SCALES_OPSET, source)
    _to_fp8(quantized, {tensor.name: tensor for tensor in model.graph.initializer})
    write_onnx(quantized, target)


def _to_fp8(model: Any, weights: dict[str, Any]) -> None:
    """Put FP8 in the place of int8, in place; `weights` are the float ones."""
    from ml_dtypes import float8_e4m3fn
    from onnx import numpy_helper

    del model.graph.value_info[:]  # the types in it are int8's
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    done: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.input[1] in done:
            continue
        codes, scale, zero = node.input
        done.add(scale)
        if codes in constants:
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), None)
            rounded, scales = _rounded(numpy_helper.to_array(weights[codes.removesuffix(CODES)]), axis)
            constants[codes].CopyFrom(numpy_helper.from_array(rounded, codes))
        else:
            scales = numpy_helper.to_array(constants[scale]) * np.float32(INT8_LARGEST / FP8_LARGEST)
        constants[scale].CopyFrom(numpy_helper.from_array(np.asarray(scales, np.float32), scale))
        zeros = np.zeros(constants[zero].dims, float8_e4m3fn)
        constants[zero].CopyFrom(numpy_helper.from_array(zeros, zero))


def _rounded(weight: Floats, axis: int | None) -> tuple[Any, Floats]:
    """FP8 codes of a weight, and its scale: one number, or one for each place along `axis`."""
    from ml_dtypes import float8_e4m3fn

    others = tuple(place for place in range(weight.ndim) if place != axis) if axis is not None else None
    scale = np.abs(weight).max(axis=others, keepdims=axis is not None) / np.float32(FP8_LARGEST)
    scale = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)
    codes = (weight / scale).clip(-FP8_LARGEST, FP8_LARGEST).astype(float8_e4m3fn)
    return codes, scale.reshape(-1) if axis is not None else scale

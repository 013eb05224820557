"""Dynamic int8: weights are quantized once, activations while the model runs; needs no calibration data."""

from __future__ import annotations

from pathlib import Path

from compress.export.onnx import write_onnx
from compress.quantize.preprocess import prepared, require_some
from compress.quantize.rows import RowQuantizer


def quantize_dynamic_int8(source: Path, target: Path) -> None:
    """Write an int8 model: embeddings, MatMul and Gemm with constant weights; all else stays in float.

    Activations get a scale for each token (`quantize.rows`), not one for the whole batch as in
    `onnxruntime.quantization.quantize_dynamic`: an answer does not depend on the rest of its batch, and is
    closer to the float model's. For a convolution choose `quantize_static_int8`.

    Args:
        source: a float32 .onnx file.
        target: the .onnx file to write; about a quarter of the size. The same source gives the same bytes.

    Raises:
        DataError: the source cannot be read, or holds nothing to quantize.
    """
    model = prepared(source)
    require_some(RowQuantizer(model).run(), source, "Gather, MatMul or Gemm")
    write_onnx(model, target)

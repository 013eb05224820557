"""Static int8 (QDQ): ranges of activations are measured on real rows beforehand.

Two targets want two files:
- onnxruntime's CPU kernels: uint8 activations with a zero point, int8 weights. With int8 activations the same
  convolutions take 1.7-1.9 times as long (measured on AVX-512 VNNI, whose products are unsigned × signed).
- TensorRT: int8 activations and weights, zero points 0, biases in float, nothing but standard operators.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from compress.export.onnx import write_onnx
from compress.export.quiet import quiet
from compress.quantize.calibration import Feed, Reader
from compress.quantize.dynamic import LINEARS
from compress.quantize.layers import kept_nodes, name_of, named
from compress.quantize.preprocess import drop_unused_domains, prepared, require_some
from compress.quantize.rows import RowQuantizer

CPU_OPERATORS = ("Conv",)
"""Static ranges pay for convolutions; MatMul, Gemm and embeddings go by rows, which is more exact."""
TENSORRT_OPERATORS = ("Conv", "MatMul", "Gemm")
ACTIVATIONS = ("Relu", "Clip")
"""Vanish into the range of the operator before them."""


@dataclass(frozen=True)
class Ranges:
    """How activations become int8.

    calibrator: minmax takes all that was seen; entropy the range whose int8 histogram diverges least from the float one
    (Migacz 2017, https://on-demand.gputechconf.com/gtc/2017/presentation/s7310-8-bit-inference-with-tensorrt.pdf);
    percentile 99.999% of what was seen. symmetric: int8 around 0, else uint8 with a zero point.
    """

    calibrator: Literal["minmax", "entropy", "percentile"] = "minmax"
    symmetric: bool = False


def quantize_static_int8(
    source: Path,
    target: Path,
    feeds: Iterable[Feed],
    *,
    tensorrt: bool = False,
    op_types: Sequence[str] | None = None,
    ranges: Ranges = Ranges(),
    embedding_bits: int = 8,
    keep_float: Collection[str] = (),
) -> None:
    """Write an int8 model whose activation ranges are measured on `feeds`.

    Args:
        source: a float32 .onnx file.
        target: the .onnx file to write. The same source and feeds give the same bytes.
        feeds: model inputs, int64 [B, T] each; lengths may differ from batch to batch.
        tensorrt: for TensorRT instead of onnxruntime's CPU kernels: symmetric, embeddings in float.
        op_types: operators that get static ranges; Conv, and for TensorRT also MatMul and Gemm, when absent. On the
            CPU the other MatMul and Gemm and all embeddings are quantized by rows.
        ranges: how they are found.
        embedding_bits: 8, 4 or 32 (float).
        keep_float: names of the source's nodes that stay in float.

    Raises:
        DataError: the source cannot be read or holds nothing to quantize, or there are no feeds.
    """
    model = prepared(source)
    keep = kept_nodes(model, source, keep_float)
    operators = list(op_types) if op_types is not None else list(TENSORRT_OPERATORS if tensorrt else CPU_OPERATORS)
    count = sum(node.op_type in operators and name_of(node) not in keep for node in model.graph.node)
    if not keep:
        require_some(count, source, " or ".join(operators))
    if not tensorrt:
        rest = [name for name in LINEARS if name not in operators]
        count += RowQuantizer(model, embedding_bits=embedding_bits, keep=keep).run(linears=rest)
    require_some(count, source, " or ".join(operators))
    reader = Reader(feeds)
    with tempfile.TemporaryDirectory(prefix="kdc-quantize-") as temporary:
        chosen = replace(ranges, symmetric=True) if tensorrt else ranges
        quantized = _quantize(
            named(model) if keep else model, Path(temporary), reader, operators, chosen, tensorrt, keep
        )
    drop_unused_domains(quantized)
    write_onnx(quantized, target)


def _quantize(
    model: Any,
    folder: Path,
    reader: Reader,
    operators: list[str],
    ranges: Ranges,
    tensorrt: bool,
    keep: Collection[str],
) -> Any:
    """Run onnxruntime's static quantizer in a folder of its own."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    onnx.save(model, folder / "float.onnx")
    method = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }[ranges.calibrator]
    types = [*operators, *ACTIVATIONS]
    with quiet():
        histograms = None
        if ranges.calibrator != "minmax":
            histograms = _histograms(folder, reader, types, method, symmetric=ranges.symmetric)
        quantize_static(
            folder / "float.onnx",
            folder / "int8.onnx",
            None if histograms else reader,
            calibrate_method=method,
            calibration_cache_path=histograms,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=types,
            per_channel=True,
            activation_type=QuantType.QInt8 if ranges.symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(keep),
            extra_options={
                "MatMulConstBOnly": True,
                "WeightSymmetric": True,
                "ActivationSymmetric": ranges.symmetric,
                "QuantizeBias": not tensorrt,
                # A float result is re-quantized only where the next product asks for it: 96% instead of 91% of
                # answers stay (3-layer MiniLM cut). onnxruntime needs both ends quantized to run its int8 kernels.
                "OpTypesToExcludeOutputQuantization": operators if tensorrt else [],
            },
        )
    return onnx.load(folder / "int8.onnx")


def _histograms(folder: Path, reader: Reader, types: list[str], method: Any, *, symmetric: bool) -> Path:
    """The ranges that onnxruntime finds in histograms, as a file that `quantize_static` reads.

    Batch by batch: by itself it would hold every activation of every row in memory, and wants them of one length.
    """
    from onnxruntime.quantization.calibrate import create_calibrator
    from onnxruntime.quantization.quantize import save_tensors_data

    calibrator = create_calibrator(
        folder / "float.onnx",
        types,
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=method,
        extra_options={"symmetric": symmetric},
    )
    with contextlib.redirect_stdout(io.StringIO()):  # three lines a batch
        while (batch := reader.get_next()) is not None:
            calibrator.collect_data(Reader([batch]))
        ranges = calibrator.compute_data()
    save_tensors_data(ranges, folder / "ranges.json")
    return folder / "ranges.json"

"""Static int8 (QDQ): ranges of activations are measured on real rows beforehand.

Two targets want two files:
- onnxruntime's CPU kernels: uint8 activations with a zero point, int8 weights. With int8 activations the same
  convolutions take 1.7-1.9 times as long (measured on AVX-512 VNNI, whose products are unsigned × signed).
- TensorRT: int8 activations and weights, zero points 0, biases in float, nothing but standard operators.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from compress.export.onnx import write_onnx
from compress.export.quiet import quiet
from compress.quantize.calibration import Feed, Reader
from compress.quantize.preprocess import drop_unused_domains, prepared, require_some
from compress.quantize.rows import RowQuantizer

CPU_OPERATORS = ("Conv",)
"""Static ranges pay for convolutions; MatMul, Gemm and embeddings go by rows, which is more exact."""
SYMMETRIC_OPERATORS = ("Conv", "MatMul", "Gemm")
ACTIVATIONS = ("Relu", "Clip")
"""Vanish into the range of the operator before them."""


def quantize_static_int8(
    source: Path,
    target: Path,
    feeds: Iterable[Feed],
    *,
    symmetric: bool = False,
    op_types: Sequence[str] | None = None,
) -> None:
    """Write an int8 model whose activation ranges are the minimum and maximum seen in `feeds`.

    Args:
        source: a float32 .onnx file.
        target: the .onnx file to write. The same source and feeds give the same bytes.
        feeds: model inputs, int64 [B, T] each; lengths may differ from batch to batch.
        symmetric: for TensorRT instead of onnxruntime's CPU kernels.
        op_types: operators that get static ranges; Conv, and for symmetric also MatMul and Gemm, when absent.

    Raises:
        DataError: the source cannot be read or holds nothing to quantize, or there are no feeds.
    """
    model = prepared(source)
    operators = list(op_types) if op_types is not None else list(SYMMETRIC_OPERATORS if symmetric else CPU_OPERATORS)
    require_some(sum(node.op_type in operators for node in model.graph.node), source, " or ".join(operators))
    if not symmetric:
        RowQuantizer(model).run(linears=not {"MatMul", "Gemm"} & set(operators))
    reader = Reader(feeds)
    with tempfile.TemporaryDirectory(prefix="kdc-quantize-") as temporary:
        quantized = _quantize(model, Path(temporary), reader, operators, symmetric)
    drop_unused_domains(quantized)
    write_onnx(quantized, target)


def _quantize(model: Any, folder: Path, reader: Reader, operators: list[str], symmetric: bool) -> Any:
    """Run onnxruntime's static quantizer in a folder of its own."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    onnx.save(model, folder / "float.onnx")
    with quiet():
        quantize_static(
            folder / "float.onnx",
            folder / "int8.onnx",
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*operators, *ACTIVATIONS],
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "MatMulConstBOnly": True,
                "WeightSymmetric": True,
                "ActivationSymmetric": symmetric,
                "QuantizeBias": not symmetric,
                # A float result is re-quantized only where the next product asks for it: 96% instead of 91% of
                # answers stay (3-layer MiniLM cut). onnxruntime needs both ends quantized to run its int8 kernels.
                "OpTypesToExcludeOutputQuantization": operators if symmetric else [],
            },
        )
    return onnx.load(folder / "int8.onnx")

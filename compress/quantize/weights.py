"""Weights at 8 or 4 bits, activations and arithmetic in float: onnxruntime's MatMulNBits, a scale for every 32 rows.

Of a column of W [H, N] each block of 32 numbers has one scale; the products are computed in float32, so that an answer
does not depend on its batch. For models whose activations int8 does not hold; it saves bytes rather than time.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from compress.export.onnx import write_onnx
from compress.export.quiet import quiet
from compress.quantize.layers import kept_nodes, named
from compress.quantize.nibbles import BLOCK
from compress.quantize.preprocess import drop_unused_domains, prepared, require_some
from compress.quantize.rows import RowQuantizer


def quantize_weights(
    source: Path, target: Path, *, bits: int = 8, embedding_bits: int = 8, keep_float: Collection[str] = ()
) -> None:
    """Write a model whose MatMul and Gemm hold their weights in few bits.

    Args:
        source: a float32 .onnx file.
        target: the .onnx file to write. The same source gives the same bytes.
        bits: 8 or 4, of MatMul and Gemm; 5 bits a number with the scales of 4, 9 with those of 8.
        embedding_bits: 8, 4 or 32 (float).
        keep_float: names of the source's nodes that stay in float.

    Raises:
        DataError: the source cannot be read, or holds nothing to quantize.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = named(prepared(source))
    keep = kept_nodes(model, source, keep_float)
    count = RowQuantizer(model, embedding_bits=embedding_bits, keep=keep).run(linears=())
    with quiet():
        products = ONNXModel(model)
        products.replace_gemm_with_matmul()
        quantizer = MatMulNBitsQuantizer(
            products.model,
            bits=bits,
            block_size=BLOCK,
            is_symmetric=True,
            op_types_to_quantize=("MatMul",),
            nodes_to_exclude=[name + ending for name in sorted(keep) for ending in ("", "_MatMul")],
        )
        quantizer.process()
    quantized = quantizer.model.model
    count += sum(node.op_type == "MatMulNBits" for node in quantized.graph.node)
    require_some(count, source, "Gather, MatMul or Gemm")
    drop_unused_domains(quantized)
    write_onnx(quantized, target)

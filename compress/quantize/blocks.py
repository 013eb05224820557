"""INT4 weights for TensorRT: matrices in blocks of one column with a scale each; activations stay in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.export.halves import at_least
from compress.export.onnx import write_onnx
from compress.export.quiet import quiet
from compress.quantize.preprocess import drop_unused_domains, prepared, require_some

BLOCK = 32
"""Numbers that share a scale: 4.5 bits a weight with scales of 16 bits."""
INT4_OPSET = 21
"""First operator set with int4 and blocks."""


def quantize_weights_int4(source: Path, target: Path) -> None:
    """Write a model whose MatMul and Gemm read int4 weights, by onnxruntime's block quantizer (round to nearest).

    Embeddings, convolutions and matrices that are not made of whole blocks stay as they are.

    Args:
        source: a float32 .onnx file.
        target: the .onnx file to write, of standard operators alone. The same source gives the same bytes.

    Raises:
        DataError: the source cannot be read, or holds nothing to quantize.
    """
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = ONNXModel(at_least(prepared(source), INT4_OPSET, source))
    with quiet():
        model.replace_gemm_with_matmul()  # the quantizer knows no Gemm
        uneven = _uneven(model.model.graph)
        quantizer = MatMulNBitsQuantizer(
            model.model,
            block_size=BLOCK,
            is_symmetric=True,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=("MatMul",),
            nodes_to_exclude=uneven,
        )
        quantizer.process()
    quantized = quantizer.model.model
    graph = quantized.graph
    _keep_first(graph.node, [node.output[0] for node in graph.node])
    _keep_first(graph.initializer, [tensor.name for tensor in graph.initializer])
    count = sum(node.op_type == "DequantizeLinear" for node in graph.node)
    require_some(count, source, f"MatMul or Gemm of a multiple of {BLOCK} rows")
    drop_unused_domains(quantized)
    write_onnx(quantized, target)


def _uneven(graph: Any) -> list[str]:
    """Products whose weight is not made of whole blocks: TensorRT would take another size of block, and be wrong."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    found = []
    for place, node in enumerate(graph.node):
        if node.op_type != "MatMul":
            continue
        node.name = node.name or f"MatMul_{place}"
        weight = weights.get(node.input[1])
        if weight is not None and (len(weight.dims) != 2 or weight.dims[0] % BLOCK):
            found.append(node.name)
    return found


def _keep_first(items: Any, names: list[str]) -> None:
    """Of a weight that several products share the quantizer makes equal copies of one name: keep one."""
    kept: dict[str, Any] = {}
    for name, item in zip(names, items, strict=True):
        kept.setdefault(name, item)
    del items[:]
    items.extend(kept.values())

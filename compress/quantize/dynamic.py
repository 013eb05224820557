"""Dynamic int8: weights are quantized once, activations while the model runs; needs no calibration data."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

from compress.export.onnx import write_onnx
from compress.export.quiet import quiet
from compress.quantize.layers import kept_nodes, named
from compress.quantize.preprocess import drop_unused_domains, prepared, require_some
from compress.quantize.rows import RowQuantizer

LINEARS = ("MatMul", "Gemm")


def quantize_dynamic_int8(
    source: Path, target: Path, *, embedding_bits: int = 8, keep_float: Collection[str] = ()
) -> None:
    """Write an int8 model: embeddings, MatMul and Gemm with constant weights; all else stays in float.

    Activations get a scale for each token (`quantize.rows`), not one for the whole batch as in
    `onnxruntime.quantization.quantize_dynamic`: an answer does not depend on the rest of its batch, and is
    closer to the float model's. For a convolution choose `quantize_static_int8`.

    Args:
        source: a float32 .onnx file.
        target: the .onnx file to write; about a quarter of the size. The same source gives the same bytes.
        embedding_bits: 8, 4 (`quantize.nibbles`), or 32 to leave embeddings in float.
        keep_float: names of the source's nodes that stay in float.

    Raises:
        DataError: the source cannot be read, or holds nothing to quantize.
    """
    model = prepared(source)
    rows = RowQuantizer(model, embedding_bits=embedding_bits, keep=kept_nodes(model, source, keep_float))
    require_some(rows.run(), source, "Gather, MatMul or Gemm")
    write_onnx(model, target)


def quantize_dynamic_tensor(
    source: Path, target: Path, *, embedding_bits: int = 8, keep_float: Collection[str] = ()
) -> None:
    """Write an int8 model by onnxruntime's `quantize_dynamic`: weights per channel, activations by one range each.

    Faster than `quantize_dynamic_int8` by about a fifth, but an answer depends on the rows beside it in its batch.
    Embeddings are those of `quantize_dynamic_int8`.

    Args, Raises: as there.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = named(prepared(source))
    keep = kept_nodes(model, source, keep_float)
    linears = sum(node.op_type in LINEARS and node.name not in keep for node in model.graph.node)
    count = RowQuantizer(model, embedding_bits=embedding_bits, keep=keep).run(linears=())
    with tempfile.TemporaryDirectory(prefix="kdc-quantize-") as temporary:
        paths = Path(temporary) / "float.onnx", Path(temporary) / "int8.onnx"
        onnx.save(model, paths[0])
        with quiet():
            quantize_dynamic(
                *paths,
                op_types_to_quantize=["MatMul"],  # it writes Gemm as MatMul and Add first
                per_channel=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[name + ending for name in sorted(keep) for ending in ("", "_MatMul")],
                extra_options={"MatMulConstBOnly": True},
            )
        quantized = onnx.load(paths[1])
    made = sum(node.op_type == "MatMulInteger" for node in quantized.graph.node) if linears else 0
    require_some(count + made, source, "Gather, MatMul or Gemm")
    drop_unused_domains(quantized)
    write_onnx(quantized, target)

"""bfloat16, fp8 and int4 against hand-computed numbers and ONNX's reference evaluator."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from compress.errors import DataError
from compress.export.halves import to_bf16
from compress.export.plain import NO_BF16, NotRunnable, PlainSession
from compress.export.typed import TypedGraph
from compress.quantize.blocks import BLOCK, quantize_weights_int4
from compress.quantize.float8 import quantize_fp8

ROWS = 2 * BLOCK
IDS = np.arange(12).reshape(2, 6)


def net(path: Path, *, width: int = ROWS, opset: int = 20, shared: bool = False) -> Path:
    """Embeddings, then one Gemm (or the same MatMul twice) for each token, then the mean; least is float32's least."""
    rng = np.random.default_rng(5)
    constants = {
        "table": rng.normal(size=(12, width)),
        "weight": rng.normal(size=(width, width if shared else 3)) / width**0.5,
        "bias": rng.normal(size=3),
        "least": np.array(np.finfo(np.float32).min / 2),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("ReduceMean", ["rows", "axis"], ["mean"], keepdims=0),
        helper.make_node("Max", ["mean", "least"], ["kept"]),
    ]
    if shared:
        nodes += [helper.make_node("MatMul", ["kept", "weight"], ["once"])]
        nodes += [helper.make_node("MatMul", ["once", "weight"], ["logits"])]
    else:
        nodes += [helper.make_node("Gemm", ["kept", "weight", "bias"], ["logits"])]
    initializers = [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", width if shared else 3])],
        [*initializers, numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path)
    return path


def constants(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_bf16_rounds_weights_to_the_nearest_and_answers_in_float(tmp_path: Path) -> None:
    source = net(tmp_path / "float.onnx")
    to_bf16(source, tmp_path / "bf16.onnx")
    made, given = constants(tmp_path / "bf16.onnx"), constants(source)
    np.testing.assert_array_equal(made["weight"], given["weight"].astype(ml_dtypes.bfloat16))
    assert np.isfinite(made["least"].astype(np.float32))
    graph = TypedGraph.read(tmp_path / "bf16.onnx")
    assert (graph.arithmetic, graph.types["logits"]) == ({"bf16"}, "FLOAT")
    exact, near = (
        ReferenceEvaluator(onnx.load(tmp_path / name)).run(None, {"input_ids": IDS})[0]
        for name in ("float.onnx", "bf16.onnx")
    )
    assert near.dtype == np.float32
    np.testing.assert_allclose(near, exact, atol=0.03)
    to_bf16(source, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "bf16.onnx").read_bytes()


def test_bf16_says_that_onnxruntime_cannot_run_it(tmp_path: Path) -> None:
    to_bf16(net(tmp_path / "float.onnx"), tmp_path / "bf16.onnx")
    with pytest.raises(NotRunnable, match=NO_BF16):
        PlainSession(tmp_path / "bf16.onnx")


def test_fp8_scales_by_the_largest_magnitude(tmp_path: Path) -> None:
    source = net(tmp_path / "float.onnx", opset=18)
    feed = {"input_ids": IDS}
    quantize_fp8(source, tmp_path / "fp8.onnx", [feed])
    made, weight = constants(tmp_path / "fp8.onnx"), constants(source)["weight"]
    scale = np.abs(weight).max(axis=0) / 448
    np.testing.assert_allclose(made["weight_scale"], scale, rtol=1e-6)
    np.testing.assert_array_equal(made["weight_quantized"], (weight / scale).astype(ml_dtypes.float8_e4m3fn))
    kept = ReferenceEvaluator(onnx.load(source)).run(None, feed)[0]
    mean = constants(source)["table"][IDS].mean(axis=1)
    np.testing.assert_allclose(made["kept_scale"], np.abs(mean).max() / 448, rtol=1e-5)
    assert made["kept_zero_point"].dtype == ml_dtypes.float8_e4m3fn
    np.testing.assert_allclose(PlainSession(tmp_path / "fp8.onnx").logits([feed]), kept, atol=0.05)
    assert TypedGraph.read(tmp_path / "fp8.onnx").codes == {"fp8"}


def test_int4_has_a_scale_for_each_block(tmp_path: Path) -> None:
    source = net(tmp_path / "float.onnx")
    quantize_weights_int4(source, tmp_path / "int4.onnx")
    model = onnx.load(tmp_path / "int4.onnx")
    (node,) = (node for node in model.graph.node if node.op_type == "DequantizeLinear")
    made = constants(tmp_path / "int4.onnx")
    codes, scales = made[node.input[0]].astype(np.float32), made[node.input[1]]
    weight = constants(source)["weight"]
    assert (scales.shape, codes.shape) == ((ROWS // BLOCK, 3), weight.shape)
    np.testing.assert_allclose(np.abs(scales), np.abs(weight.reshape(-1, BLOCK, 3)).max(axis=1) / 8, rtol=1e-5)
    step = np.repeat(np.abs(scales), BLOCK, axis=0)
    assert (np.abs(codes * np.repeat(scales, BLOCK, axis=0) - weight) <= step * 1.001).all()
    assert {entry.domain for entry in model.opset_import} == {""}


def test_int4_keeps_a_shared_weight_once(tmp_path: Path) -> None:
    source = net(tmp_path / "float.onnx", shared=True)
    quantize_weights_int4(source, tmp_path / "int4.onnx")
    model = onnx.load(tmp_path / "int4.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node].count("DequantizeLinear") == 1
    near, exact = (PlainSession(path).logits([{"input_ids": IDS}]) for path in (tmp_path / "int4.onnx", source))
    np.testing.assert_allclose(near, exact, atol=0.3)


def test_int4_leaves_what_is_not_made_of_whole_blocks(tmp_path: Path) -> None:
    source = net(tmp_path / "float.onnx", width=BLOCK + 2)
    with pytest.raises(DataError, match=r"nothing to quantize: 0 nodes are MatMul or Gemm of a multiple of 32 rows"):
        quantize_weights_int4(source, tmp_path / "int4.onnx")

"""Static int8: convolutions with measured ranges for the CPU, symmetric Q/DQ for TensorRT."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from compress.errors import DataError
from compress.quantize.calibration import feeds
from compress.quantize.static import quantize_static_int8

SPEC = importlib.util.spec_from_file_location("quantize_models", Path(__file__).with_name("models.py"))
models = sys.modules.setdefault("quantize_models", importlib.util.module_from_spec(SPEC))
SPEC.loader.exec_module(models)
CALIBRATION = [models.feed(8, length, seed=length) for length in (3, 7, 12)]


def run(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    return onnxruntime.InferenceSession(path).run(None, feed)[0]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.convolution_model(tmp_path_factory.mktemp("static") / "float.onnx")


@pytest.fixture(scope="module")
def quantized(source: Path) -> Path:
    target = source.with_name("int8.onnx")
    quantize_static_int8(source, target, iter(CALIBRATION))
    return target


@pytest.fixture(scope="module")
def tensorrt(source: Path) -> Path:
    target = source.with_name("tensorrt.onnx")
    quantize_static_int8(source, target, CALIBRATION, tensorrt=True)
    return target


def test_onnxruntime_runs_every_convolution_in_int8(quantized: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(quantized, options)
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert (found["QLinearConv"], found["Conv"], found["MatMulIntegerToFloat"]) == (3, 0, 1)


@pytest.mark.parametrize("name", ["quantized", "tensorrt"])
def test_answers_stay_close(name: str, source: Path, request: pytest.FixtureRequest) -> None:
    given = models.feed(200, 9, seed=5)
    before, after = run(source, given), run(request.getfixturevalue(name), given)
    assert np.abs(after - before).max() < 0.15 * np.abs(before).max()
    assert (after.argmax(1) == before.argmax(1)).mean() > 0.95


def test_symmetric_is_what_tensorrt_takes(tensorrt: Path) -> None:
    graph = onnx.load(tensorrt).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) >= 8
    for node in pairs:
        zero = constants[node.input[2]]
        assert zero.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero).any()
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    assert not any(tensor.data_type == TensorProto.INT32 for tensor in graph.initializer)


def test_linear_operators_on_request(tmp_path: Path) -> None:
    source = models.linear_model(tmp_path / "float.onnx")
    quantize_static_int8(source, tmp_path / "int8.onnx", CALIBRATION, op_types=["MatMul", "Gemm"])
    given = models.feed(200, 9, seed=5)
    before, after = run(source, given), run(tmp_path / "int8.onnx", given)
    assert (after.argmax(1) == before.argmax(1)).mean() > 0.95
    found = Counter(node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node)
    assert found["MatMulIntegerToFloat"] == 0 < found["QuantizeLinear"]


@pytest.mark.parametrize("name", ["quantized", "tensorrt"])
def test_same_source_and_feeds_give_same_bytes(name, source, request, tmp_path: Path, capfd, monkeypatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    again = tmp_path / "new" / "again.onnx"
    quantize_static_int8(source, again, CALIBRATION, tensorrt=name == "tensorrt")
    assert again.read_bytes() == request.getfixturevalue(name).read_bytes()
    assert list(again.parent.iterdir()) == [again]
    assert list((tmp_path / "temporary").iterdir()) == []
    assert capfd.readouterr().out == ""


def test_no_feeds_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got 0"):
        quantize_static_int8(source, tmp_path / "int8.onnx", [])


def test_a_model_without_convolutions_is_refused(tmp_path: Path) -> None:
    source = models.linear_model(tmp_path / "float.onnx")
    with pytest.raises(DataError, match=r"nothing to quantize: 0 nodes are Conv"):
        quantize_static_int8(source, tmp_path / "int8.onnx", CALIBRATION)


def test_feeds_come_in_batches_and_in_order() -> None:
    class Encoder:
        def encode(self, requests):
            return {"input_ids": np.array([[request] for request in requests])}

    batches = [batch["input_ids"].ravel().tolist() for batch in feeds(Encoder(), [1, 2, 3, 4, 5], batch_size=2)]
    assert batches == [[1, 2], [3, 4], [5]]

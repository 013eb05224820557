"""TensorRT engines: told apart and refused by their first bytes; run on a GPU that is this machine's memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.artifacts import ONNX, TOKENIZER, read_spec
from compress.errors import DataError, EnvironmentProblem, IntegrityError
from compress.runtime import cuda, tensorrt_engine
from compress.runtime.plan import Plan, read_plan
from compress.runtime.predictor import Predictor
from compress.runtime.tensorrt_engine import TensorRtEngine, problem
from tests.runtime.fake_gpu import FakeDriver, engine_bytes, fake_tensorrt
from tests.tiny import tiny_deployable, tiny_requests


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "model")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "fp16.engine"
    path.write_bytes(engine_bytes())
    return path


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    found = FakeDriver()
    monkeypatch.setattr(cuda, "load_driver", lambda: found)
    return found


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.setattr(tensorrt_engine, "available", lambda package: True)
    monkeypatch.setattr(tensorrt_engine, "version", lambda distribution: "1.7.1.116")
    monkeypatch.setattr(tensorrt_engine, "require", lambda *_, **__: fake_tensorrt(model / ONNX))


def no_driver() -> None:
    raise OSError("libcuda.so.1: cannot open shared object file")


def test_the_header_tells_builder_version_and_gpus(engine: Path) -> None:
    assert read_plan(engine) == Plan("tensorrt-rtx", "1.7.1.116", ("sm89",))
    engine.write_bytes(engine_bytes(mask=8 + 16))
    assert read_plan(engine).gpus == ("sm89", "sm120")
    engine.write_bytes(engine_bytes(magic=b"ftrt"))
    assert read_plan(engine) == Plan("tensorrt")


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 100, engine_bytes()[:70]])
def test_what_is_no_engine_is_damaged(engine: Path, content: bytes) -> None:
    engine.write_bytes(content)
    with pytest.raises(IntegrityError, match="build it again"):
        read_plan(engine)


@pytest.mark.usefixtures("installed")
def test_why_an_engine_cannot_run_here(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "load_driver", no_driver)
    assert problem(engine, "tensorrt-rtx") == "no NVIDIA driver here (libcuda.so.1: cannot open shared object file)"
    assert problem(engine, "tensorrt") == "fp16.engine is an engine of tensorrt-rtx, which tensorrt does not read"
    monkeypatch.setattr(cuda, "load_driver", lambda: FakeDriver(devices=0))
    assert problem(engine, "tensorrt-rtx") == "no NVIDIA GPU here (CUDA error 0, 0 devices)"
    monkeypatch.setattr(cuda, "load_driver", lambda: FakeDriver((9, 0)))
    assert str(problem(engine, "tensorrt-rtx")).startswith("fp16.engine was built for sm89, this GPU (Fake L4) is sm90")
    monkeypatch.setattr(cuda, "load_driver", FakeDriver)
    assert problem(engine, "tensorrt-rtx") is None
    engine.write_bytes(engine_bytes(version=(1, 6, 0, 30)))
    assert "built by tensorrt-rtx 1.6.0.30, installed is 1.7.1.116" in str(problem(engine, "tensorrt-rtx"))
    monkeypatch.setattr(tensorrt_engine, "available", lambda package: False)
    assert problem(engine, "tensorrt-rtx") == "tensorrt-rtx is not installed: pip install 'kdc[tensorrt-rtx]'"


@pytest.mark.usefixtures("installed")
def test_answers_are_those_of_the_model_whatever_the_batch(model: Path, engine: Path, driver: FakeDriver) -> None:
    opened = TensorRtEngine(engine, "tensorrt-rtx", 1)
    assert [(item.name, item.dtype, item.shape) for item in opened.inputs] == [
        ("input_ids", "int64", ("?", "?")),
        ("attention_mask", "int64", ("?", "?")),
    ]
    predictor = Predictor(read_spec(model), (model / TOKENIZER).read_text(), opened)
    expected = Predictor.from_folder(model)
    for asked in (tiny_requests()[:1], tiny_requests(), tiny_requests()[1:2]):
        np.testing.assert_array_equal(predictor.logits(asked), expected.logits(asked))
    assert predictor.runtime == "tensorrt-rtx"
    assert len(driver.memory) == 3, "each tensor has one buffer, which grew with the largest batch"
    assert driver.said[-1] == "cuStreamSynchronize", "a call ends when its answer is there"


@pytest.mark.usefixtures("installed", "driver")
def test_more_than_the_engine_was_built_for_is_a_sentence(model: Path, engine: Path) -> None:
    opened = TensorRtEngine(engine, "tensorrt-rtx", 1)
    feed = {name: np.ones((9, 4), np.int64) for name in ("input_ids", "attention_mask")}
    with pytest.raises(DataError, match=r"does not take input_ids of \[9, 4\].*--max-batch"):
        opened.run(feed)


@pytest.mark.usefixtures("installed", "driver")
def test_an_engine_that_does_not_load_says_what_tensorrt_said(
    model: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = fake_tensorrt(model / ONNX, loads=False)
    monkeypatch.setattr(tensorrt_engine, "require", lambda *_, **__: trt)
    with pytest.raises(DataError, match=r"does not load fp16\.engine \(expecting compute 8\.9 got compute 8\.6"):
        TensorRtEngine(engine, "tensorrt-rtx", 1)


def test_a_gpu_that_fails_names_the_call(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    device = cuda.Device()
    assert device.stream == 77
    monkeypatch.setattr(FakeDriver, "_cuMemAlloc_v2", lambda *_: 2)
    with pytest.raises(EnvironmentProblem, match="cuMemAlloc_v2 gave CUDA error 2"):
        device.allocate(10)


def test_without_a_driver_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "load_driver", no_driver)
    for attempt in (cuda.gpu, cuda.Device):
        with pytest.raises(EnvironmentProblem, match="no NVIDIA driver here"):
            attempt()

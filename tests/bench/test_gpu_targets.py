"""Targets on a GPU: what is timed there, why not where that cannot be, and never the CPU in a GPU's place."""

from __future__ import annotations

import json
import shutil
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from compress.artifacts import ONNX, SPEC, TOKENIZER
from compress.bench import device_memory, eager, machine, measure
from compress.bench.memory import Memory, own_mapped_mb
from compress.bench.targets import deployed_files, model_files, own_target, why_not
from compress.cli import app
from compress.errors import DataError, IntegrityError
from compress.export.tensorrt import build_engine
from compress.paths import bench_paths, inspect_path, session
from compress.runtime import cuda, onnx_cuda, tensorrt_engine
from compress.runtime.onnx_cuda import CudaOnnxEngine
from tests import tiny_models
from tests.runtime.fake_gpu import FakeDriver, engine_bytes, fake_tensorrt
from tests.tiny import tiny_deployable, tiny_requests

NO_DRIVER = "no NVIDIA driver here (libcuda.so.1: cannot open shared object file)"
ASKED: dict[str, Any] = {"scenarios": ["single-stream"], "threads": [1], "requests": None}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_SECONDS", 0.05)
    monkeypatch.setattr(session.memory, "taken", lambda *_, **__: Memory(1.0, 0.5, 80.0, "nvml"))
    monkeypatch.setattr(session.start_up, "startup_ms", lambda *_, **__: 1.0)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(cuda, "load_driver", missing)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "model")


@pytest.fixture
def engine(model: Path) -> Path:
    path = model / "tensorrt-rtx-fp16-sm89.engine"
    path.write_bytes(engine_bytes())
    return path


@pytest.fixture
def fake_gpu(model: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    driver = FakeDriver()
    monkeypatch.setattr(cuda, "load_driver", lambda: driver)
    monkeypatch.setattr(tensorrt_engine, "available", lambda package: True)
    monkeypatch.setattr(tensorrt_engine, "version", lambda distribution: "1.7.1.116")
    monkeypatch.setattr(tensorrt_engine, "require", lambda *_, **__: fake_tensorrt(model / ONNX, rows=64))
    return driver


def rows(*artifacts: Path, on: list[str] | None) -> dict[tuple[str, str], dict[str, Any]]:
    found = bench_paths(list(artifacts), targets=on, **ASKED)
    return {(row["artifact"], row["target"]): row for row in found}


def test_every_gpu_target_without_a_gpu_is_a_row_that_says_why(model: Path) -> None:
    found = rows(model, on=["onnxruntime-cuda", "tensorrt", "tensorrt-rtx", "torch-cuda"])
    status = {target: row["status"] for (_, target), row in found.items()}
    assert status["onnxruntime-cuda"].startswith("not run: this onnxruntime has no CUDA provider: pip install")
    assert status["tensorrt"].startswith("not run: model has no engine: build one with `kdc export --to tensorrt`")
    assert status["tensorrt-rtx"].startswith("not run: model has no engine")
    assert status["torch-cuda"].startswith("not run: torch-cuda runs trained weights")
    assert all(row["p50_ms"] is row["qps"] is row["gpu_mb"] is None for row in found.values())


def test_the_provider_is_there_but_no_driver(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [onnx_cuda.PROVIDER, "CPUExecutionProvider"])
    (row,) = rows(model, on=["onnxruntime-cuda"]).values()
    assert row["status"] == f"not run: {NO_DRIVER}"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_without_the_provider_ends_with_4_and_times_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This onnxruntime has the CPU alone, and gives that without an error."""
    monkeypatch.setattr(onnx_cuda, "problem", lambda: None)
    out = tmp_path / "rows.jsonl"
    done = CliRunner().invoke(app, ["bench", str(model), "--target", "onnxruntime-cuda", "-o", str(out), "--quiet"])
    assert done.exit_code == 4
    assert "gave a session on CPUExecutionProvider, CUDAExecutionProvider was asked for" in done.stderr
    assert not out.exists()


class FakeSession:
    """A session that was given the GPU for all but some operators."""

    on_cpu = ("Shape", "Gather")
    fallback = True

    def get_providers(self) -> list[str]:
        return [onnx_cuda.PROVIDER, "CPUExecutionProvider"]

    def get_inputs(self) -> list[Any]:
        return []

    get_outputs = get_inputs

    def disable_fallback(self) -> None:
        self.fallback = False

    def get_provider_graph_assignment_info(self) -> list[Any]:
        def part(provider: str, operators: tuple[str, ...]) -> Any:
            nodes = [types.SimpleNamespace(op_type=operator) for operator in operators]
            return types.SimpleNamespace(ep_name=provider, get_nodes=lambda: nodes)

        return [part(onnx_cuda.PROVIDER, ("MatMul", "Gelu")), part("CPUExecutionProvider", self.on_cpu)]


def test_shapes_may_be_computed_on_the_cpu_but_products_may_not(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FakeSession()
    monkeypatch.setattr(CudaOnnxEngine, "_open", lambda *_: made)
    assert CudaOnnxEngine(model / ONNX, 1).runtime == "onnxruntime-cuda"
    assert made.fallback is False, "a failing call must not be answered by the CPU"
    monkeypatch.setattr(FakeSession, "on_cpu", ("Shape", "MatMulInteger", "DynamicQuantizeLinear"))
    monkeypatch.setattr(onnx_cuda, "problem", lambda: None)
    with pytest.raises(DataError, match=r"no CUDA kernel for DynamicQuantizeLinear, MatMulInteger of model\.onnx"):
        CudaOnnxEngine(model / ONNX, 1)
    (row,) = rows(model, on=["onnxruntime-cuda"]).values()
    assert row["status"].startswith("not run: onnxruntime has no CUDA kernel for DynamicQuantizeLinear")


@pytest.mark.usefixtures("tensorrt_rtx")
def test_an_engine_comes_with_its_folder_and_by_its_path(model: Path, engine: Path) -> None:
    by_folder = rows(model, on=["onnxruntime-cpu", "tensorrt-rtx"])
    assert by_folder.keys() == {
        ("model", "onnxruntime-cpu"),
        (engine.name, "tensorrt-rtx"),
    }
    assert by_folder["model", "onnxruntime-cpu"]["status"] == "ok"
    assert by_folder[engine.name, "tensorrt-rtx"]["status"] == f"not run: {NO_DRIVER}"
    (refused,) = rows(engine, on=["onnxruntime-cpu"]).values()
    assert refused["status"].endswith("which onnxruntime-cpu does not read")
    ((_, target),) = rows(engine, on=None)
    assert target == "tensorrt-rtx"
    assert rows(model, on=["onnxruntime-cpu"]).keys() == {("model", "onnxruntime-cpu")}


@pytest.mark.usefixtures("tensorrt_rtx")
def test_a_real_engine_without_a_gpu(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "own" / "sm89.engine"
    built = build_engine(model / ONNX, path, to="tensorrt-rtx", precision="fp32", gpus=["sm89", "sm120"], max_length=12)
    facts = inspect_path(path)
    assert (facts["builder"], facts["version"], facts["gpus"]) == ("tensorrt-rtx", built["version"], ("sm89", "sm120"))
    (row,) = rows(path, on=None).values()
    assert row["status"] == f"not run: {NO_DRIVER}"


def test_a_run_brings_the_engines_of_its_student(model: Path, fake_gpu: FakeDriver, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "onnx").mkdir(parents=True)
    (run / "recipe.yaml").write_text("name: shop\n")
    (run / "summary.json").write_text("{}")
    shutil.copytree(model, run / "onnx" / "student")
    (run / "engines").mkdir()
    (run / "engines" / "fp16.engine").write_bytes(engine_bytes())
    found = rows(run, on=["tensorrt-rtx"])
    assert found.keys() == {("fp16.engine", "tensorrt-rtx")}
    (row,) = found.values()
    assert row["status"] == "ok"
    assert session.GENERATED not in row["notes"], "it is timed from text, by the student's tokenizer"


def test_an_engine_is_timed_and_judged_from_text(
    model: Path, engine: Path, fake_gpu: FakeDriver, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": item.text, "label": "shoes"}) + "\n" for item in tiny_requests()))
    found = bench_paths(
        [model],
        targets=["onnxruntime-cpu", "tensorrt-rtx"],
        scenarios=["single-stream", "offline"],
        threads=[1],
        requests=None,
        more=session.BenchOptions(data=data, queries=10),
    )
    timed = {(row["artifact"], row["scenario"]): row for row in found if row["status"] == "ok"}
    assert len(timed) == 4
    row = timed[engine.name, "single-stream"]
    assert row["p50_ms"] > 0
    assert row["quality"] == timed["model", "single-stream"]["quality"]
    assert (row["gpu_mb"], row["gpu_by"], row["peak_mb"], row["mapped_mb"]) == (80.0, "nvml", 1.0, 0.5)
    assert row["model_bytes"] == engine.stat().st_size
    spoken = sum((model / name).stat().st_size for name in (TOKENIZER, SPEC))
    assert row["size_bytes"] == row["model_bytes"] + spoken
    assert row["sha256"] != timed["model", "single-stream"]["sha256"]


def test_what_is_no_engine_ends_with_6(tmp_path: Path) -> None:
    path = tmp_path / "broken.engine"
    path.write_bytes(b"not an engine at all")
    done = CliRunner().invoke(app, ["bench", str(path), "--quiet"])
    assert done.exit_code == 6
    assert "is no TensorRT engine" in done.stderr


def test_an_engine_in_a_folder_of_its_own(engine: Path, tmp_path: Path) -> None:
    own = tmp_path / "alone"
    own.mkdir()
    engine.rename(own / engine.name)
    assert own_target(own) == "tensorrt-rtx"
    assert [file.name for file in deployed_files(own)] == [file.name for file in model_files(own)] == [engine.name]
    assert str(why_not(own, "openvino-cpu")).endswith("which openvino-cpu does not read")
    (own / engine.name).write_bytes(b"")
    with pytest.raises(IntegrityError):
        own_target(own)


def test_torch_on_a_gpu_waits_for_what_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    made = eager.EagerEngine(tiny_models.ToyModel(), 1)
    feed = {"input_ids": np.ones((2, 3), np.int64), "attention_mask": np.ones((2, 3), np.int64)}
    (expected,) = made.run(feed)
    assert waited == []
    moved: list[torch.device] = []
    to = torch.Tensor.to
    device = torch.device("cuda")

    def pretended(self: torch.Tensor, where: Any) -> torch.Tensor:
        if where != device:
            return to(self, where)
        moved.append(where)
        return self

    made.device = device
    monkeypatch.setattr(torch.Tensor, "to", pretended)
    (found,) = made.run(feed)
    np.testing.assert_array_equal(found, expected)
    assert moved == [device, device]
    assert waited == [device]


def test_torch_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert eager.cuda_problem() == f"torch {torch.__version__} was built without CUDA"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert str(eager.cuda_problem()).endswith(f"finds no NVIDIA GPU: {NO_DRIVER}")


class FakeNvml(types.ModuleType):
    """NVML of two GPUs, on which some processes compute."""

    NVMLError = RuntimeError

    def __init__(self, *processes: tuple[int, int | None]) -> None:
        super().__init__("pynvml")
        self.processes = processes

    def nvmlInit(self) -> None:
        """It begins."""

    nvmlShutdown = nvmlInit

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetComputeRunningProcesses(self, device: int) -> list[Any]:
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes]


def test_memory_of_a_gpu_by_who_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "available", lambda package: False)
    assert device_memory.own_mb("tensorrt") == (
        None,
        "not run: nvidia-ml-py is not installed: pip install 'kdc[gpu]'",
    )
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 21_000_000)
    assert device_memory.own_mb("torch-cuda") == (21.0, "torch")
    monkeypatch.setattr(device_memory, "available", lambda package: True)
    monkeypatch.setattr(device_memory.os, "getpid", lambda: 7)
    nvml = FakeNvml((7, 300_000_000), (8, 1))
    monkeypatch.setattr(device_memory, "require", lambda *_, **__: nvml)
    assert device_memory.own_mb("torch-cuda") == (600.0, "nvml")
    nvml.processes = ((8, 1),)
    assert device_memory.own_mb("tensorrt") == (None, "not run: NVML does not tell the memory of this process")
    nvml.processes = ((7, None),)
    assert device_memory.own_mb("tensorrt")[0] is None


def test_the_gpu_stands_in_the_row_of_the_machine(fake_gpu: FakeDriver) -> None:
    assert machine.gpu() == "Fake L4 (sm89)"


def test_mapped_pages_are_those_that_are_not_anonymous(tmp_path: Path) -> None:
    rollup = tmp_path / "smaps_rollup"
    rollup.write_text("5581-7ffc ---p 00000000 00:00 0  [rollup]\nRss:  3000 kB\nPss: 9 kB\nAnonymous:  1000 kB\n")
    assert own_mapped_mb(rollup) == pytest.approx(2000 * 1024 / 1e6)
    assert own_mapped_mb(tmp_path / "none") is None

"""Engines: the refusals always, the builds where tensorrt-rtx is installed; no engine is run."""

from __future__ import annotations

import _thread
import importlib.util
import struct
import threading
import types
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from compress.errors import DataError, EnvironmentProblem, RecipeError
from compress.export import tensorrt
from compress.export.onnx import INPUTS, export_module
from compress.export.tensorrt import NOT_RUN, build_engine, check_header, to_fp16
from compress.quantize.static import quantize_static_int8

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="not run: tensorrt-rtx is not installed"
)
needs_no_tensorrt = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt") is not None, reason="not run: tensorrt is installed"
)
VOCABULARY, POSITIONS = 60, 40


class Bert(nn.Module):
    """Logits of a tiny BERT from positional inputs."""

    def __init__(self) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=POSITIONS,
            initializer_range=0.2,
            num_labels=3,
        )
        self.model = BertForSequenceClassification(config)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits


def feed(rows: int, length: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(rows).integers(1, VOCABULARY, (rows, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model in float, fp16, int8 for TensorRT and int8 for the CPU."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    paths = {name: folder / f"{name}.onnx" for name in ("fp32", "fp16", "int8", "cpu")}
    export_module(Bert(), paths["fp32"], inputs=INPUTS, vocabulary=VOCABULARY)
    to_fp16(paths["fp32"], paths["fp16"])
    quantize_static_int8(paths["fp32"], paths["int8"], [feed(8, 12)], tensorrt=True)
    quantize_static_int8(paths["fp32"], paths["cpu"], [feed(8, 12)], op_types=["MatMul"])
    return paths


def test_fp16_keeps_types_and_answers(models: dict[str, Path], tmp_path: Path) -> None:
    full, half = (onnxruntime.InferenceSession(models[name]) for name in ("fp32", "fp16"))
    assert [value.type for value in half.get_outputs()] == ["tensor(float)"]
    given = feed(3, 7)
    np.testing.assert_allclose(half.run(None, given)[0], full.run(None, given)[0], atol=0.02)
    assert models["fp16"].stat().st_size < models["fp32"].stat().st_size
    to_fp16(models["fp32"], tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == models["fp16"].read_bytes()


@needs_no_tensorrt
def test_missing_package_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"export\.to: tensorrt .* pip install 'kdc\[tensorrt\]'"):
        build_engine(tmp_path / "a", tmp_path / "b", to="tensorrt", precision="fp32", max_length=8)


def test_missing_rtx_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.extras.available", lambda package: False)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'kdc\[tensorrt-rtx\]'"):
        build_engine(tmp_path / "a", tmp_path / "b", to="tensorrt-rtx", precision="fp32", max_length=8)


def test_tensorrt_without_a_gpu_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(tensorrt, "require", lambda *_, **__: types.SimpleNamespace())
    monkeypatch.setattr("ctypes.CDLL", no_driver)
    with pytest.raises(EnvironmentProblem, match=r"machine has none \(libcuda.*tensorrt-rtx"):
        build_engine(tmp_path / "a", tmp_path / "b", to="tensorrt", precision="fp32", max_length=8)


def header(magic: bytes = b"vtrt", length: int = 64, mask: int = 8) -> bytes:
    return magic + bytes(12) + struct.pack("<Q", length) + bytes(8) + bytes([mask]) + bytes(31)


def test_header_is_read() -> None:
    check_header(header(), ["sm89"])
    check_header(header(mask=10), ["sm80", "sm89"])


@pytest.mark.parametrize("content", [b"", b"hello", header(b"ftrt"), header(length=65), header(mask=2)])
def test_damaged_header_is_refused(content: bytes) -> None:
    with pytest.raises(EnvironmentProblem):
        check_header(content, ["sm89"])


class Base:
    """Stands for the classes that users of TensorRT derive from."""


def test_interrupt_stops_the_build_at_its_next_step() -> None:
    answers: list[bool] = []

    class Builder:
        def build_serialized_network(self, network: object, config: types.SimpleNamespace) -> None:
            monitor = config.progress_monitor
            monitor.phase_start("Building", None, 3)
            _thread.interrupt_main()
            while len(answers) < 500 and (not answers or answers[-1]):
                answers.append(monitor.step_complete("Building", 0))
                threading.Event().wait(0.01)

    trt = types.SimpleNamespace(IProgressMonitor=Base)
    with pytest.raises(KeyboardInterrupt):
        tensorrt._build(trt, Builder(), None, types.SimpleNamespace(), "test")
    assert answers[-1] is False


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_builds_without_a_gpu(models: dict[str, Path], tmp_path: Path, precision, capfd) -> None:
    out = tmp_path / "engines" / "model.engine"
    found = build_engine(
        models[precision],
        out,
        to="tensorrt-rtx",
        precision=precision,
        gpus=["sm80", "sm89"],
        max_batch=4,
        max_length=POSITIONS,
    )
    assert found["size_bytes"] == out.stat().st_size > 0
    assert (found["gpus"], found["max_length"]) == (["sm80", "sm89"], POSITIONS)
    assert found["quality"] == found["latency"] == NOT_RUN
    assert list(out.parent.iterdir()) == [out]
    assert capfd.readouterr().out == ""


@needs_rtx
@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"gpus": ["sm90"]}, RecipeError, r"export\.gpus: sm90 .*sm89"),
        ({"gpus": []}, RecipeError, r"export\.gpus: nothing"),
        ({"max_batch": 0}, RecipeError, r"export\.max_batch.*0 x 12"),
        ({"max_length": POSITIONS + 1}, RecipeError, r"4 x 41 tokens .*lower max_length"),
        ({"onnx": "cpu"}, DataError, r"quantize it .*symmetric=True"),
        ({"onnx": "hello"}, DataError, "no ONNX model"),
        ({"onnx": "absent"}, DataError, "does not exist"),
    ],
)
def test_refusals_say_what_to_do(models, tmp_path: Path, changed, error, match) -> None:
    (tmp_path / "hello.onnx").write_bytes(b"hello")
    name = changed.pop("onnx", "fp32")
    onnx = models.get(name, tmp_path / f"{name}.onnx")
    usual = {"gpus": ["sm89"], "max_batch": 4, "max_length": 12}
    with pytest.raises(error, match=match):
        build_engine(onnx, tmp_path / "e", to="tensorrt-rtx", precision="fp32", **(usual | changed))
    assert not (tmp_path / "e").exists()

"""Engines: the refusals always, the builds where tensorrt-rtx is installed; no engine is run."""

from __future__ import annotations

import _thread
import json
import os
import struct
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from compress.errors import DataError, EnvironmentProblem, IntegrityError, RecipeError
from compress.export import tensorrt
from compress.export.halves import to_fp16
from compress.export.onnx import INPUTS, export_module
from compress.export.tensorrt import NOT_RUN, build_engine, check_header
from compress.export.tensorrt_build import build, keep_timings, load_timings
from compress.export.tensorrt_log import read_layers
from compress.quantize.static import quantize_static_int8

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


@pytest.mark.parametrize("builder", ["tensorrt", "tensorrt-rtx"])
def test_missing_package_names_the_command(builder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.extras.available", lambda package: False)
    with pytest.raises(EnvironmentProblem, match=rf"export\.to: {builder} .* pip install 'kdc\[{builder}\]'"):
        build_engine(tmp_path / "a", tmp_path / "b", to=builder, precision="fp32", max_length=8)


def test_tensorrt_without_a_gpu_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(tensorrt, "require", lambda *_, **__: types.SimpleNamespace())
    monkeypatch.setattr("ctypes.CDLL", no_driver)
    with pytest.raises(EnvironmentProblem, match=r"there is no NVIDIA driver here \(libcuda.*tensorrt-rtx"):
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
        build(trt, Builder(), None, types.SimpleNamespace(), "test")
    assert answers[-1] is False


class Timed:
    """A configuration of `tensorrt`, which keeps timings of this GPU and refuses those of another."""

    def __init__(self, refuses: bytes = b"other") -> None:
        self.refuses, self.cache = refuses, b""

    def create_timing_cache(self, content: bytes) -> bytes:
        return content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return cache != self.refuses

    def get_timing_cache(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(serialize=lambda: self.cache + b"+measured")


def test_timings_are_kept_for_the_next_build(tmp_path: Path) -> None:
    file = tmp_path / "timings" / "tensorrt-11.0.timings"
    for kept, told in ((b"+measured", "begun"), (b"+measured+measured", "used and extended")):
        config = Timed()
        found = load_timings(config, file.parent, "11.0")
        assert keep_timings(config, file.parent, "11.0", found) == f"{told}: {file.name}"
        assert file.read_bytes() == kept
    file.write_bytes(b"other")
    config = Timed()
    assert not load_timings(config, file.parent, "11.0")
    assert config.cache == b""
    assert keep_timings(config, None, "11.0", False) == "none: no folder was given"


def test_the_builders_account_of_an_engine_is_read() -> None:
    message = (
        "Layers:\nName: a, LayerType: gemm, Inputs: [ { Name: x, Datatype: Float }], "
        "Constants: [ { Name: w, Dimensions: [4,3], Datatype: Int8, Format: (Linear)}, { Name: s, Datatype: Half }], "
        "Outputs: [ { Datatype: Float }]\n\n"
        "I/O Tensors:\n Name: ids, IOMode: Input, DataType: Int64, Dimensions: [-1,-1], Location: Device, ProfileInfo: "
        "[ { MinShape: [1,1], OptShape: [8,16], MaxShape: [16,64], Format: x }]\n"
        " Name: mask, IOMode: Input, DataType: Int64, Dimensions: [2,7], Location: Device, ProfileInfo: [ ]\n"
        " Name: logits, IOMode: Output, DataType: Float, Dimensions: [-1,3], Location: Device\n"
    )
    told = read_layers(message)
    assert told.inputs["ids"] == {"min": [1, 1], "opt": [8, 16], "max": [16, 64]}
    assert told.inputs["mask"] == {"min": [2, 7], "opt": [2, 7], "max": [2, 7]}
    assert (told.outputs, told.weights) == ({"logits": "float [-1, 3]"}, {"Int8": 1, "Half": 1})


@pytest.mark.usefixtures("tensorrt_rtx")
def test_ctrl_c_ends_an_export_with_130_and_leaves_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    """The build is held until the signal has come: how long one takes says nothing."""
    program = (
        "import os, signal, sys, threading\n"
        "import tensorrt_rtx as trt\n"
        "from compress.progress import Bar\n"
        "advance = Bar.advance\n"
        "def interrupt(self, count):\n"
        "    Bar.advance = advance\n"
        "    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    threading.Event().wait(2)\n"
        "Bar.advance = interrupt\n"
        "from compress.cli import main\n"
        "sys.argv[0] = 'kdc'\n"
        "main()\n"
    )
    arguments = ["export", str(models["fp32"]), "--to", "tensorrt-rtx", "--gpu", "sm89", "--precision", "fp32"]
    command = [sys.executable, "-c", program, *arguments, "--max-length", "12", "-o", str(tmp_path / "out"), "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 130, done.stderr
    assert json.loads(done.stdout)["exit_code"] == 130
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("tensorrt_rtx")
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


@pytest.mark.usefixtures("tensorrt_rtx")
@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"gpus": ["sm90"]}, RecipeError, r"export\.gpus: sm90 .*sm89"),
        ({"gpus": []}, RecipeError, r"export\.gpus: nothing"),
        ({"max_batch": 0}, RecipeError, r"export\.max_batch.*0 x 12"),
        ({"max_length": POSITIONS + 1}, RecipeError, r"export\.max_length: .* longest input .*41 != 40.*lower it"),
        ({"onnx": "cpu"}, DataError, r"has the operator \w+ of com.microsoft"),
        ({"onnx": "hello"}, IntegrityError, "no readable ONNX model"),
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

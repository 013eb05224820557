"""The guard: the layer that does the harm is found and kept in float, no other is, and what cannot be met is told."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from compress.quantize.guard import Loss, Trial, guarded
from compress.quantize.methods import METHODS, Work
from compress.recipe import Quantize

SPEC = importlib.util.spec_from_file_location("quantize_models", Path(__file__).with_name("models.py"))
models = sys.modules.setdefault("quantize_models", importlib.util.module_from_spec(SPEC))
SPEC.loader.exec_module(models)
FEW, MANY = models.feed(16, 9, seed=1), models.feed(300, 9, seed=2)


def logits(folder: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    return onnxruntime.InferenceSession(folder / "model.onnx").run(None, feed)[0]


def spoil(path: Path, *, column: str, weight: str) -> None:
    """Make one weight hard to quantize without a change to what the float model says.

    A channel that is always 0 gets weights 10,000 times as large as the others, which share their scales.
    """
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in (column, weight):
            values = numpy_helper.to_array(tensor).copy()
            if tensor.name == column:
                values[..., 0] = 0
            else:
                values[0] = 2e3
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)


def trial_of(folder: Path, method: str = "dynamic", limit: float = 0.05) -> Trial:
    """A guard's trial whose loss is the relative change of the logits on 300 rows."""
    reference = logits(folder, MANY)

    def write(target: Path, kept: frozenset[str]) -> None:
        target.mkdir(exist_ok=True)
        METHODS[method].write(Work(folder / "model.onnx", target, lambda: iter([FEW]), Quantize(), kept))

    def loss(target: Path) -> Loss:
        said = logits(target, MANY)
        return Loss(float(np.linalg.norm(said - reference) / np.linalg.norm(reference)), None, None, said)

    return Trial(folder, write, lambda target: logits(target, FEW), loss, "change on 300 rows", 16, limit)


@pytest.fixture
def outlier(tmp_path: Path) -> Path:
    """The float model's folder; its first product does not bear int8."""
    (tmp_path / "float").mkdir()
    spoil(models.linear_model(tmp_path / "float" / "model.onnx"), column="embedding", weight="up")
    return tmp_path / "float"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.mark.parametrize("method", ["dynamic", "dynamic-tensor"])
def test_the_layer_to_blame_stays_in_float_and_no_other(
    method: str, outlier: Path, tmp_path: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial, out = trial_of(outlier, method), tmp_path / "out"
    found = guarded(trial, out, work)
    assert found.before.value > 0.3
    assert found.after.value <= 0.05
    assert found.met
    assert found.failure is None
    assert found.kept == ["product"]
    record = found.record
    assert [row["kept"] for row in record["ranking"]] == [True, False, False, False]
    assert {row["layer"] for row in record["ranking"]} == {"states", "product", "hidden", "logits"}
    assert record["ranking"][0]["parameters"] == models.WIDTH * models.INNER
    floats = [t.name for t in onnx.load(out / "model.onnx").graph.initializer if t.data_type == TensorProto.FLOAT]
    assert "up" in floats
    assert not {"embedding", "down", "head"} & set(floats)
    assert loss_of(trial, out) == found.after.value
    assert list(work.iterdir()) == []
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 4 layers stay in float" in said
    assert "product (alone changes the output by" in said


def loss_of(trial: Trial, folder: Path) -> float:
    return trial.loss(folder).value


def test_a_layers_error_is_the_outputs_when_it_alone_is_lowered(outlier: Path, tmp_path: Path, work: Path) -> None:
    found = guarded(trial_of(outlier), tmp_path / "out", work)
    row = found.record["ranking"][0]
    trial_of(outlier).write(tmp_path / "alone", frozenset({"states", "hidden", "logits"}))
    reference, said = logits(outlier, FEW), logits(tmp_path / "alone", FEW)
    expected = np.linalg.norm(said - reference) / np.linalg.norm(reference)
    assert row["error"] == pytest.approx(expected, rel=1e-5)
    assert row["snr_db"] == pytest.approx(-20 * math.log10(expected), rel=1e-5)


def test_a_model_that_meets_the_limit_is_left_alone(outlier: Path, tmp_path: Path, work: Path) -> None:
    found = guarded(trial_of(outlier, limit=1.0), tmp_path / "out", work)
    plain = tmp_path / "plain"
    trial_of(outlier).write(plain, frozenset())
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (plain / "model.onnx").read_bytes()
    assert found.record["ranking"] == found.kept == []
    assert [row["kept"] for row in found.record["tried"]] == [0]


def counting(trial: Trial, loss: Callable[[int], float]) -> Trial:
    """The loss by how many of the four layers stand in the file as float."""

    def measured(folder: Path) -> Loss:
        tensors = onnx.load(folder / "model.onnx").graph.initializer
        floats = {tensor.name for tensor in tensors if tensor.data_type == TensorProto.FLOAT}
        return Loss(loss(len({"embedding", "up", "down", "head"} & floats)), 0.0, 1.0, np.zeros((1, 1), np.float32))

    return replace(trial, loss=measured)


@pytest.mark.parametrize("needed", [1, 2, 3])
def test_the_fewest_layers_are_kept(needed: int, outlier: Path, tmp_path: Path, work: Path) -> None:
    trial = counting(trial_of(outlier), lambda kept: 0.0 if kept >= needed else 0.5)
    found = guarded(trial, tmp_path / "out", work)
    assert len(found.kept) == needed
    assert len(found.tried) <= 2 + math.log2(4)
    assert found.kept == [row["layer"] for row in found.ranking[:needed]]


def test_what_cannot_be_met_is_told_and_the_best_candidate_stands(outlier: Path, tmp_path: Path, work: Path) -> None:
    trial = counting(trial_of(outlier), lambda kept: 0.4 - 0.1 * kept)
    found = guarded(trial, tmp_path / "out", work)
    assert not found.met
    assert found.after.value == pytest.approx(0.1)
    assert len(found.kept) == 3
    assert loss_of(trial, tmp_path / "out") == found.after.value
    assert found.failure is not None
    assert found.failure.startswith("quality loss 0.1000 (95%: +0.0000 … +1.0000) in change on 300 rows is above")
    assert "with 3 of 4 layers in float" in found.failure
    worse = guarded(counting(trial, lambda kept: 0.3 + 0.1 * kept), tmp_path / "worse", work)
    assert worse.kept == []
    assert "with none in float" in (worse.failure or "")
    assert (tmp_path / "worse" / "model.onnx").is_file()


def test_the_same_source_gives_the_same_bytes(outlier: Path, tmp_path: Path, work: Path) -> None:
    for name in ("one", "two"):
        guarded(trial_of(outlier), tmp_path / name, work)
    assert (tmp_path / "one" / "model.onnx").read_bytes() == (tmp_path / "two" / "model.onnx").read_bytes()


@pytest.mark.parametrize("method", ["dynamic", "none", "openvino", "openvino-bf16"])
def test_layers_are_looked_for_only_where_a_method_lowers_them(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float model for another runtime or arithmetic has no layer to keep: it is judged once."""
    from compress.steps import quantizing

    searched: list[str] = []
    none = Loss(0.5, None, None, np.zeros((1, 1), np.float32))
    monkeypatch.setattr(quantizing, "quantize_folder", lambda *_: None)
    monkeypatch.setattr(quantizing, "guarded", lambda *_: searched.append(method))
    asked = ([], Quantize(), lambda _: none, "nothing", tmp_path)
    quantizing.guarded_folder(tmp_path, tmp_path / "out", method, *asked)
    assert searched == (["dynamic"] if method == "dynamic" else [])

"""Peers in environments of their own: training goes on there, answers are judged here, what fails is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import peer_apart, peer_trainers, students
from benchmarks.peer_environments import PLACE, environment
from benchmarks.peer_study import Study, open_study
from benchmarks.peer_trainers import PEERS
from compress.data.encode import encode_examples
from compress.distill import stages
from compress.errors import EnvironmentProblem
from compress.extras import available
from compress.predict import predict_logits
from tests.tiny_models import one_thread as one_thread_for_a_while

one_thread = pytest.fixture(autouse=True)(one_thread_for_a_while)
CPU = torch.device("cpu")
KNOWS_ALL = """
import json, sys
import numpy as np
teacher, rows, out = sys.argv[1:]
given = json.load(open(rows))
answers = {"validation": np.eye(given["classes"], dtype=np.float32)[[int(n) for n in given["validation"]["labels"]]]}
answers["test"] = np.zeros((len(given["test"]["texts"]), given["classes"]), np.float32)
answers["test"][:, 0] = 1
np.savez(out, **answers)
"""
"""A peer that copies the labels of validation, and calls every test row the first label."""


def test_a_peer_in_an_environment_of_its_own_is_judged_by_its_answers(
    kept_rows: Path,
    finished: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "knows_all.py").write_text(KNOWS_ALL)
    monkeypatch.setattr(peer_apart, "SCRIPT", tmp_path / "knows_all.py")
    monkeypatch.setattr(peer_apart, "environment", lambda name: Path(sys.executable))
    run = finished("classification", "static")
    students.main([str(run), "--peer", "model2vec"])
    row = json.loads(capsys.readouterr().out)
    test = open_study(run, tmp_path).run.splits.test
    share = float(np.mean(np.asarray(test.labels) == 0))
    assert row["validation"] == 1
    assert row["quality"]["accuracy"] == pytest.approx(share)
    assert (row["version"], row["steps"], row["not_run"]) == ("0.10.0", None, None)
    assert json.loads(kept_rows.read_text(encoding="utf-8")) == row


def test_it_goes_on_in_the_peers_environment(
    kept_rows: Path, finished: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same arguments; where that cannot be made the row says so, with the version that was asked for."""
    asked: list[tuple[Any, ...]] = []

    def fails(*given: Any) -> str:
        asked.append(given)
        return "torchdistill could not be installed: no index"

    monkeypatch.setattr(students, "enter", fails)
    arguments = [str(finished("pairs", "transformer")), "--peer", "torchdistill"]
    students.main(arguments)
    assert asked == [("torchdistill", "benchmarks.students", arguments)]
    row = json.loads(kept_rows.read_text(encoding="utf-8"))
    assert row["not_run"] == "torchdistill could not be installed: no index"
    assert (row["test"], row["version"]) == (None, "1.1.5")


def test_one_that_cannot_be_installed_is_a_row(
    kept_rows: Path,
    finished: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(name: str) -> Path:
        raise EnvironmentProblem(f"{name} could not be installed: no index")

    monkeypatch.setattr(peer_apart, "environment", fails)
    students.main([str(finished("classification", "static")), "--peer", "model2vec"])
    row = json.loads(capsys.readouterr().out)
    assert (row["not_run"], row["test"]) == ("model2vec could not be installed: no index", None)
    assert json.loads(kept_rows.read_text(encoding="utf-8")) == row


@pytest.mark.long
def test_model2vec_itself_learns_the_labels(finished: Callable[[str, str], Path], tmp_path: Path) -> None:
    if not (PLACE / "model2vec" / "pins.json").is_file():
        pytest.skip("not run: model2vec has no environment here; `benchmarks.students RUN --peer model2vec` makes it")
    assert environment("model2vec").is_file()
    study = open_study(finished("classification", "static"), tmp_path)
    said = peer_apart.model2vec(study, tmp_path)
    verdict = study.run.judge.verdict(said.validation, said.test)
    assert said.test.shape == (len(study.run.splits.test), len(study.run.splits.labels))
    assert verdict.test["accuracy"] > 0.6


def test_a_torchvision_of_another_build_is_told(
    kept_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before transformers, which imports it where it is there, fails with a message about something else."""
    (tmp_path / "torchvision").mkdir()
    broken = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision" / "__init__.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(SystemExit) as ended:
        students.main([str(tmp_path), "--peer", "textbrewer"])
    assert ended.value.code == 4
    error = capsys.readouterr().err
    assert f"beside torch {torch.__version__} (operator torchvision::nms does not exist)" in error
    assert not kept_rows.exists()


def needs(peer: str) -> None:
    """Skips where the tests do not run in the peer's environment, which sees the project's packages and so pytest."""
    if not available(PEERS[peer].package):
        pytest.skip(f"not run: {peer} is not in this environment; run benchmarks/.peers/{peer}/bin/python -m pytest")


@pytest.mark.parametrize(
    ("peer", "student"),
    [
        ("textbrewer", "transformer"),
        ("textbrewer", "mobile"),
        ("torchdistill", "transformer"),
        ("torchdistill", "mobile"),
        ("sentence-transformers", "transformer"),
    ],
)
def test_the_peers_themselves_take_a_few_steps(
    peer: str, student: str, finished: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """On copies of the student where a peer changes its head."""
    needs(peer)
    study = open_study(finished("pairs", student), tmp_path, steps=3)
    before = {name: value.clone() for name, value in study.built.module.state_dict().items()}
    trained = PEERS[peer].train(study, tmp_path)
    moved = [
        name
        for name, value in trained.state_dict().items()
        if name in before and value.shape == before[name].shape and not torch.equal(value, before[name])
    ]
    assert any("embedding" in name for name in moved)
    verdict = study.run.judge.full(trained, stages.encoder_of(study.built), CPU)
    assert 0 <= verdict.test["f1"] <= 1


def test_a_cross_encoder_starts_as_the_same_function(study: Study, tmp_path: Path) -> None:
    needs("sentence-transformers")
    encoder = peer_trainers.cross_encoder(study, tmp_path / "start")
    rows = list(zip(study.rows.texts[:20], study.rows.pairs or [], strict=False))
    scores = encoder.predict(rows, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    logits = predict_logits(study.built.module, encode_examples(stages.encoder_of(study.built), study.rows), CPU)[:20]
    positive = study.run.splits.labels.index("ja")
    assert scores == pytest.approx(logits[:, positive] - logits[:, 1 - positive], abs=1e-4)
    module = peer_trainers.ScoreAsLogits(encoder.transformers_model, study.built.module.input_names, positive)
    both = predict_logits(module, study.encoded, CPU)[:20]
    assert both[:, positive] - both[:, 1 - positive] == pytest.approx(scores, abs=1e-4)

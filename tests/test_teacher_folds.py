"""Teachers trained in folds: no training row is answered by a model that has seen it, and none is taught twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.artifacts import read_artifact
from compress.data.encode import encode_examples
from compress.data.load import load_splits
from compress.errors import Interrupted
from compress.predict import predict_logits
from compress.recipe.file import load_recipe
from compress.steps import teaching
from compress.steps.context import Run
from compress.steps.models import fold_models, model_of
from compress.teachers.arrays import read_outputs
from tests import tiny_models
from tests.tiny_project import kdc, kdc_json, write_recipe
from tests.tiny_teachers import MODEL, TAUGHT, logits_of, quickest

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)


def test_a_training_row_is_answered_by_a_model_that_has_not_seen_it_and_none_is_taught_twice(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = quickest(MODEL | {"train": TAUGHT["train"] | {"folds": 3}})
    written = write_recipe(project, given)
    made: list[str] = []
    whole = teaching.make_model

    def stopped(run: Run, model: Any, out: Path, work: Path) -> Any:
        if model.name == "0-fold-2" and "0-fold-2" not in made:
            made.append(model.name)
            raise Interrupted("interrupted")
        made.append(model.name)
        return whole(run, model, out, work)

    monkeypatch.setattr(teaching, "make_model", stopped)
    assert kdc("distill", written, "--runs", project / "folds").exit_code == 130
    found = kdc_json("distill", written, "--runs", project / "folds")
    assert made == ["0", "0-fold-1", "0-fold-2", "0-fold-2", "0-fold-3"]
    assert len(found["models"]["teacher"]["folds"]) == 3

    loaded = load_recipe(written)
    run = Run(loaded, Path(found["run"]), load_splits(loaded, project / "folds" / ".cache"))
    section: Any = loaded.recipe.teacher
    model = model_of(run, 0, "teacher", section)
    dealt, said = teaching.fold_numbers(run, model), logits_of(found)
    by_all = answered(run, "0")
    for each in fold_models(model):
        own = dealt == each.fold
        seen = teaching._seen(run, each)
        assert not set(seen.texts) & {text for text, mine in zip(run.splits.train.texts, own, strict=True) if mine}
        expected = answered(run, each.name)[own]
        assert said[own] == pytest.approx(expected, abs=2e-2)
        assert np.abs(expected - by_all[own]).max() > 0.1
    hidden = read_outputs(run.at("outputs")).hidden
    assert hidden is not None  # of the model of all rows, from whose layers the student starts
    assert {p.name for p in run.folder.glob(".work/*")} == set()

    # the model of all rows is the teacher without folds, and the other way round
    plain = kdc("teach", write_recipe(project, quickest(TAUGHT), "plain.yaml"), "--runs", project / "folds", "--json")
    taught = read_artifact(Path(json.loads(plain.stdout)["run"]) / "teacher")
    assert taught is not None
    assert taught.files["model.safetensors"] == read_files(run, "0")["model.safetensors"]


def read_files(run: Run, name: str) -> Any:
    """The files of one of a run's models."""
    found = read_artifact(run.at("teacher") / "models" / name)
    assert found is not None
    return found.files


def answered(run: Run, name: str) -> np.ndarray:
    """What one of a run's models says of the training rows."""
    section: Any = run.recipe.teacher
    teacher = run.opened(section, run.at("teacher") / "models" / name)
    encoded = encode_examples(teacher.encoder, run.splits.train)
    return predict_logits(teacher.module, encoded, torch.device("cpu"), bf16=run.bf16).astype(np.float64)

"""Recipes of several teachers in the tiny project, the file of scores among them, and what students then learn from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.decide import softmax
from compress.teachers.arrays import read_outputs
from tests.tiny_project import LABELS, ROWS, copy_project, kdc_json, recipe_of, rows_of, write_csv, write_recipe

MODEL: dict[str, Any] = {"model": "teacher-classification", "max_length": 32}
TAUGHT = MODEL | {"train": {"epochs": 1, "learning_rate": 1e-3}}
OTHER: dict[str, Any] = {"model": "other", "max_length": 32}
SCORES = {"kind": "scores", "path": "noten.csv"}
HALF = 4e-3
"""Rounding of float16 for logarithms of probabilities here."""


def project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the module that asks for it, with a file of scores."""
    folder = copy_project(tiny_project, tmp_path_factory.mktemp("several") / "project")
    generator = np.random.default_rng(8)
    rows = []
    for seed, count in enumerate(ROWS.values()):
        for row in rows_of("classification", count, seed):
            wish = np.array([2.0 if row["kategorie"] == label else 0.0 for label in LABELS])
            values = softmax(wish + generator.normal(size=3))
            rows.append({"id": row["nr"]} | dict(zip(LABELS, values.astype(float).tolist(), strict=True)))
    write_csv(folder / "noten.csv", rows)
    return folder


def quickest(teacher: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The quickest student of a teacher."""
    given = recipe_of("classification", teacher=teacher)
    stage = {"name": "imitate", "epochs": 1, "learning_rate": 5e-3, "losses": {"soft": 1.0, "hidden": 0.1}}
    given["distill"] = {"stages": [stage], "batch_size": 32, "control": False} | changes
    return given


def distilled(project: Path, given: dict[str, Any], runs: str = "runs") -> dict[str, Any]:
    """The summary of a run up to its student."""
    return kdc_json("distill", write_recipe(project, given), "--runs", project / runs)


def logits_of(summary: dict[str, Any]) -> np.ndarray:
    """What its student learned from."""
    return np.asarray(read_outputs(Path(summary["run"]) / "outputs").logits, np.float64)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Of a row's labels."""
    return softmax(logits).astype(np.float64)


def given_scores(project: Path, split: int = 0) -> np.ndarray:
    """The file's probabilities of the training rows, or of the validation rows (1)."""
    with (project / "noten.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    train = ROWS["train"]
    rows = rows[:train] if split == 0 else rows[train : train + ROWS["validation"]]
    return np.array([[float(row[label]) for label in LABELS] for row in rows])

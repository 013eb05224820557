"""A peer that trains in an environment of its own: it is handed files, and hands back what its student answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.deploy_peers import run
from benchmarks.peer_environments import environment
from benchmarks.peer_study import Study
from compress.batch import Examples, Floats
from compress.errors import EnvironmentProblem
from compress.tasks.kind import labels_of

SCRIPT = Path(__file__).with_name("peer_model2vec.py")


@dataclass(frozen=True)
class Said:
    """Logits of a student that is no torch module here, float32 [N, C] of both splits."""

    validation: Floats
    test: Floats


def needs_one_labelled_text(study: Study) -> str | None:
    """model2vec's classifiers: labels of one text each, and embeddings of the tokens as the whole student."""
    recipe = study.run.recipe
    if recipe.student.kind != "static":
        return f"its students are static embeddings, and student.kind is {recipe.student.kind}"
    if recipe.task.numbers:
        return f"its classifiers learn labels, which task.kind: {recipe.task.kind} does not have"
    if study.rows.pairs is not None:
        return "its classifiers read one text, and this task has two"
    if study.run.recipe.teacher.kind != "huggingface":
        return f"it distils a model of transformers, and teacher.kind is {recipe.teacher.kind}"
    return None


def model2vec(study: Study, work: Path) -> Said:
    """`distill` of the run's teacher, then `StaticModelForClassification.fit` on the labelled rows.

    Raises:
        EnvironmentProblem: its environment could not be made, or its program failed.
    """
    splits = study.run.splits
    rows = {
        "seed": study.seed,
        "threads": torch.get_num_threads(),
        "classes": len(splits.labels),
        "train": _rows(splits.train, labelled=True),
        "validation": _rows(splits.validation, labelled=True),
        "test": _rows(splits.test),
    }
    given, made = work / "model2vec.json", work / "model2vec.npz"
    given.write_text(json.dumps(rows), encoding="utf-8")
    run([str(environment("model2vec")), str(SCRIPT), str(study.run.folder / "teacher"), str(given), str(made)])
    try:
        with np.load(made) as said:
            found = Said(said["validation"], said["test"])
    except (OSError, KeyError) as error:
        raise EnvironmentProblem(f"{SCRIPT.name} wrote no answers ({error}); run it by hand") from error
    return found


def _rows(rows: Examples, *, labelled: bool = False) -> dict[str, list[str]]:
    """Texts, and places of the labels as words: it takes numbers for several labels of a row."""
    texts = {"texts": list(rows.texts)}
    return texts | {"labels": [str(label) for label in labels_of(rows)]} if labelled else texts

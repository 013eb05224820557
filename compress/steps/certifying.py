"""The certificate of a run: every model's answers to the test rows, asked once, and compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from compress.artifacts import read_spec
from compress.batch import Floats, Ints
from compress.certificate.compare import Answers, Pair, certify
from compress.certificate.slices import slices_of
from compress.data.encode import encode_examples
from compress.predict import predict_logits
from compress.progress import reporter
from compress.recipe import FilesData
from compress.steps.context import Run
from compress.steps.panel import Panel
from compress.students.build import load_student
from compress.tasks.kind import labels_of

SHIPPED, EXPORTED, STUDENT, TEACHER = "shipped", "exported", "student", "teacher"
PARENTS = (Pair(SHIPPED, EXPORTED, "parent"), Pair(EXPORTED, STUDENT, "parent"))
TO_TEACHER = (Pair(SHIPPED, TEACHER, "teacher"), Pair(EXPORTED, TEACHER, "teacher"))


def slice_columns(run: Run) -> dict[str, list[str]]:
    """Name -> value of each test row, of the columns that the recipe slices by."""
    data = run.recipe.data
    if not isinstance(data, FilesData) or not data.slices:
        return {}
    cells = [json.loads(row) for row in run.splits.test.slices or ()]
    return {str(name): [row[at] for row in cells] for at, name in enumerate(data.slices)}


def certificate_depends(run: Run) -> dict[str, Any]:
    """What the certificate depends on beside the data, the task, the seed and what is quantized."""
    columns = slice_columns(run)
    told = json.dumps(columns).encode()
    return {
        # a file of scores leaves nothing of itself in the teacher's folder
        "teacher": run.artifacts["teacher"].key,
        **({"slices": hashlib.sha256(told).hexdigest()} if columns else {}),
    }


def certificate(run: Run, exported: Floats, shipped: Floats, threshold: float | None, work: Path) -> dict[str, Any]:
    """What `certify` gives, and `reason`: why there is no teacher to compare with, or null.

    Args:
        exported, shipped: logits float32 [N, C] of the test rows, through the runtime that ships.
        threshold: the shipped model's.
    """
    rows, spec = run.splits.test, read_spec(run.at("student"))
    student, lengths = _student(run)
    said = {
        SHIPPED: Answers(shipped, threshold),
        EXPORTED: Answers(exported, spec.threshold),
        STUDENT: Answers(student, spec.threshold),
    }
    taught = run.artifacts["teacher"].metrics
    pairs: tuple[Pair, ...] = PARENTS
    if taught["quality"] is not None:
        said[TEACHER] = Answers(Panel(run, run.at("teacher"), work).on_test(), taught["threshold"])
        pairs += TO_TEACHER
    parts = slices_of(run.judge.kind, rows, lengths, _frequencies(run), slice_columns(run))
    reporter.say(f"  certificate: {len(said)} models on {len(rows):,} test rows, {len(parts)} slices")
    return certify(run.judge.kind, rows, said, pairs, parts, run.recipe.seed) | {"reason": taught.get("reason")}


def _student(run: Run) -> tuple[Floats, Ints]:
    """The float student's logits in torch, and how many tokens it reads of each row."""
    from compress.runtime.predictor import Predictor

    module, _, _ = load_student(run.at("student"))
    encoder = Predictor.from_folder(run.at("onnx") / STUDENT).encoder
    encoded = encode_examples(encoder, run.splits.test)
    return predict_logits(module, encoded, run.device), np.asarray(encoded.lengths, np.int64)


def _frequencies(run: Run) -> Ints | None:
    """Training rows of each label; None for tasks that do not tell head from tail."""
    if run.recipe.task.kind != "classification":
        return None
    labels = labels_of(run.splits.train).astype(np.int64)
    return np.bincount(labels[labels >= 0], minlength=len(run.splits.labels))

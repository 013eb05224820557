"""Fine-tune an encoder on the labelled rows, so that it can teach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compress.batch import Examples, Ints
from compress.data.encode import encode_examples
from compress.distill.checkpoint import Progress
from compress.distill.judge import Judge
from compress.distill.losses import hard_labels
from compress.distill.trainer import Job, Objective, Parts, Phase, train
from compress.recipe import Teach
from compress.teachers.huggingface import Teacher


def with_swapped(rows: Examples) -> Examples:
    """Every pair in both orders."""
    if rows.pairs is None:
        return rows
    labels = None if rows.labels is None else np.concatenate([rows.labels, rows.labels])
    weights = None if rows.weights is None else np.concatenate([rows.weights, rows.weights])
    return replace(
        rows,
        ids=[*rows.ids, *rows.ids],
        texts=[*rows.texts, *rows.pairs],
        pairs=[*rows.pairs, *rows.texts],
        groups=None,
        labels=labels,
        weights=weights,
    )


def hard_objective(rows: Examples, device: torch.device, smoothing: float = 0.0) -> Objective:
    """Cross-entropy with the labels of the given rows."""
    if rows.labels is None:
        raise ValueError("the training rows have no labels")
    labels = torch.from_numpy(rows.labels).to(device)
    weights = None if rows.weights is None else torch.from_numpy(rows.weights).to(device)

    def objective(logits: Tensor, hidden: Tensor | None, picked: Ints) -> tuple[Tensor, Parts]:
        chosen = torch.from_numpy(picked).to(device)
        row_weights = None if weights is None else weights[chosen]
        loss = hard_labels(logits, labels[chosen], row_weights, smoothing)
        return loss, {"hard": loss}

    return objective


def teach(
    teacher: Teacher, section: Teach, judge: Judge, *, work: Path, device: torch.device, bf16: bool, seed: int
) -> Progress:
    """Fine-tune `teacher.module` in place; it ends with the weights that were best on validation."""
    rows = with_swapped(judge.splits.train) if section.swap_pairs else judge.splits.train
    validation = encode_examples(teacher.encoder, judge.splits.validation)
    job = Job(
        name="teacher",
        module=teacher.module,
        encoded=encode_examples(teacher.encoder, rows),
        phases=[
            Phase(
                name="teach",
                epochs=section.epochs,
                rate=section.learning_rate,
                head_rate=section.head_learning_rate,
                objective=hard_objective(rows, device, section.label_smoothing),
            )
        ],
        validate=lambda module: judge.validate(module, validation, device, bf16),
        work=work,
        device=device,
        bf16=bf16,
        seed=seed,
        batch_size=section.batch_size,
        patience=section.patience,
        average=section.average,
    )
    return train(job)

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
from compress.distill.objectives import Objectives, objectives_of
from compress.distill.trainer import Job, Objective, Phase, train
from compress.distill.weighting import Parts
from compress.recipe import Teach
from compress.teachers.huggingface import Teacher
from compress.texts import Joined


def with_swapped(rows: Examples) -> Examples:
    """Every pair in both orders."""
    if rows.pairs is None:
        return rows
    labels = None if rows.labels is None else np.concatenate([rows.labels, rows.labels])
    weights = None if rows.weights is None else np.concatenate([rows.weights, rows.weights])
    return replace(
        rows,
        ids=Joined(rows.ids, rows.ids),
        texts=Joined(rows.texts, rows.pairs),
        pairs=Joined(rows.pairs, rows.texts),
        groups=None,
        labels=labels,
        weights=weights,
    )


def hard_objective(objectives: Objectives, smoothing: float = 0.0) -> Objective:
    """The loss against the labels alone."""

    def objective(logits: Tensor, hidden: Tensor | None, picked: Ints, share: float) -> tuple[Tensor, Parts]:
        loss = objectives.hard(logits, picked, smoothing)
        return loss, {"hard": loss}

    return objective


def teach(
    teacher: Teacher,
    section: Teach,
    judge: Judge,
    *,
    rows: Examples,
    work: Path,
    device: torch.device,
    bf16: bool,
    seed: int,
) -> Progress:
    """Fine-tune `teacher.module` in place on training rows; it ends with the weights that were best on validation."""
    rows = with_swapped(rows) if section.swap_pairs else rows
    objectives = objectives_of(judge.kind, rows, device)
    validation = encode_examples(teacher.encoder, judge.splits.validation)
    job = Job(
        name="teacher",
        module=teacher.module,
        encoded=encode_examples(teacher.encoder, rows, work),
        groups=rows.group_codes if judge.kind.grouped else None,
        measure=judge.kind.metric,
        phases=[
            Phase(
                name="teach",
                epochs=section.epochs,
                rate=section.learning_rate,
                head_rate=section.head_learning_rate,
                objective=hard_objective(objectives, section.label_smoothing),
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

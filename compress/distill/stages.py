"""The schedule: first the teacher's output distribution, then its hidden states too; the control without."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compress.batch import Examples, Ints, TeacherOutputs
from compress.data.encode import encode_examples
from compress.distill.checkpoint import Progress
from compress.distill.judge import Judge
from compress.distill.losses import hidden_states
from compress.distill.objectives import Objectives, Parts, objectives_of
from compress.distill.sampler import Sampler
from compress.distill.teach import hard_objective
from compress.distill.trainer import Job, Objective, Phase, train
from compress.recipe import Distill, Stage
from compress.runtime.text import TextEncoder
from compress.students.build import Built
from compress.teachers.largest import merge_rest
from compress.text_model import TextModel


@dataclass(frozen=True)
class Schooling:
    """What student and control share: judge, recipe section, device, seed."""

    judge: Judge
    section: Distill
    device: torch.device
    bf16: bool
    seed: int


def encoder_of(built: Built) -> TextEncoder:
    """Text to tokens as the student wants them."""
    spec = built.spec
    return TextEncoder(
        built.tokens.tokenizer_json, max_length=spec.max_length, separator=spec.separator, pad_id=spec.pad_id
    )


def distil_objective(
    stage: Stage, outputs: TeacherOutputs, objectives: Objectives, projections: nn.ModuleList, device: torch.device
) -> Objective:
    """The weighted sum of soft (and for ranking other) terms against the teacher's outputs, ½Σ‖φ_t − φ_s‖², and hard.

    Each term only where its weight is above 0.
    """
    weights = stage.losses

    def objective(logits: Tensor, hidden: Tensor | None, picked: Ints) -> tuple[Tensor, Parts]:
        said = torch.from_numpy(outputs.logits[picked]).to(device).float()
        compared = logits
        if outputs.classes is not None:
            compared = merge_rest(logits, torch.from_numpy(outputs.classes[picked]).long().to(device))
        parts = objectives.soft(compared, said, picked, stage)
        if weights.hidden and hidden is not None:
            if outputs.hidden is None:
                raise ValueError("the teacher's outputs have no hidden states")
            states = torch.from_numpy(outputs.hidden[picked]).to(device).float()
            projected = torch.stack([project(hidden[:, i]) for i, project in enumerate(projections)], 1)
            parts["hidden"] = hidden_states(projected, states)
        if weights.hard:
            parts["hard"] = objectives.hard(logits, picked)
        weighted = [getattr(weights, name) * part for name, part in parts.items()]
        return sum(weighted, logits.new_zeros(())), parts

    return objective


def distil(built: Built, outputs: TeacherOutputs, schooling: Schooling, work: Path) -> Progress:
    """Train the student in the recipe's stages on training rows and transfer set."""
    rows = schooling.judge.splits.transfer
    objectives = objectives_of(schooling.judge.kind, rows, schooling.device)
    layers = tuple(range(1, built.module.layers + 1))
    phases = [
        Phase(
            name=stage.name,
            epochs=stage.epochs,
            rate=stage.learning_rate,
            hidden=layers if stage.losses.hidden and built.layer_map else (),
            objective=distil_objective(stage, outputs, objectives, built.projections, schooling.device),
        )
        for stage in schooling.section.stages
    ]
    return train(_job("student", built, rows, phases, schooling, work, built.projections))


def control(built: Built, schooling: Schooling, work: Path) -> Progress:
    """Train the same student from the same start on hard labels alone, for exactly as many steps.

    Without a transfer set of its own it sees the labelled rows more often instead; its patience grows alike.
    """
    splits = schooling.judge.splits
    theirs, own = (_sampler(built, rows, schooling) for rows in (splits.transfer, splits.train))
    objectives = objectives_of(schooling.judge.kind, splits.train, schooling.device)
    phases = []
    for number, stage in enumerate(schooling.section.stages):
        steps = sum(theirs.steps(number, epoch) for epoch in range(stage.epochs))
        phases.append(
            Phase(
                name=stage.name,
                epochs=_epochs(own, number, steps),
                steps=steps,
                rate=stage.learning_rate,
                objective=hard_objective(objectives),
            )
        )
    job = _job("control", built, splits.train, phases, schooling, work, nn.Module())
    return train(replace(job, patience=math.ceil(job.patience * theirs.steps(0, 0) / own.steps(0, 0))))


def _sampler(built: Built, rows: Examples, schooling: Schooling) -> Sampler:
    """The steps that rows make. Only with groups does it matter how long each is."""
    batch, seed = schooling.section.batch_size, schooling.seed
    if not schooling.judge.kind.grouped:
        return Sampler(np.zeros(len(rows), np.int64), batch, seed)
    return Sampler(encode_examples(encoder_of(built), rows).lengths, batch, seed, rows.group_codes)


def _epochs(sampler: Sampler, stage: int, steps: int) -> int:
    """Epochs that have at least so many steps together."""
    epochs, made = 0, 0
    while made < steps:
        made += sampler.steps(stage, epochs)
        epochs += 1
    return epochs


def _job(
    name: str,
    built: Built,
    rows: Examples,
    phases: list[Phase],
    schooling: Schooling,
    work: Path,
    extra: nn.Module,
) -> Job:
    judge, device, bf16 = schooling.judge, schooling.device, schooling.bf16
    validation = encode_examples(encoder_of(built), judge.splits.validation)

    def validate(module: TextModel) -> float:
        return judge.validate(module, validation, device, bf16)

    return Job(
        name=name,
        module=built.module,
        encoded=encode_examples(encoder_of(built), rows),
        groups=rows.group_codes if judge.kind.grouped else None,
        phases=phases,
        validate=validate,
        measure=judge.kind.metric,
        work=work,
        device=device,
        bf16=bf16,
        seed=schooling.seed,
        batch_size=schooling.section.batch_size,
        patience=schooling.section.patience,
        weight_decay=schooling.section.weight_decay,
        extra=extra,
    )

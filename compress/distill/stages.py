"""The schedule: first the teacher's output distribution, then its hidden states too; the control without."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.batch import Encoded, Examples, Ints, TeacherOutputs
from compress.data.encode import encode_examples
from compress.distill.checkpoint import Progress
from compress.distill.judge import Judge
from compress.distill.losses import hard_labels, hidden_states, soft_targets
from compress.distill.sampler import steps_per_epoch
from compress.distill.teach import hard_objective
from compress.distill.trainer import Job, Objective, Parts, Phase, train
from compress.recipe import Distill, Stage
from compress.runtime.text import TextEncoder
from compress.students.build import Built
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
    stage: Stage, outputs: TeacherOutputs, rows: Examples, projections: nn.ModuleList, device: torch.device
) -> Objective:
    """soft·KL·T² + hidden·½Σ‖φ_t − φ_s‖² + hard·cross-entropy, each term only where its weight is above 0."""
    weights, temperature = stage.losses, stage.temperature
    labels = None if rows.labels is None else torch.from_numpy(rows.labels).to(device)
    row_weights = None if rows.weights is None else torch.from_numpy(rows.weights).to(device)

    def objective(logits: Tensor, hidden: Tensor | None, picked: Ints) -> tuple[Tensor, Parts]:
        parts: Parts = {}
        loss = logits.new_zeros(())
        if weights.soft:
            said = torch.from_numpy(outputs.logits[picked]).to(device).float()
            parts["soft"] = soft_targets(logits, said, temperature)
            loss = loss + weights.soft * parts["soft"]
        if weights.hidden and hidden is not None:
            if outputs.hidden is None:
                raise ValueError("the teacher's outputs have no hidden states")
            states = torch.from_numpy(outputs.hidden[picked]).to(device).float()
            projected = torch.stack([project(hidden[:, i]) for i, project in enumerate(projections)], 1)
            parts["hidden"] = hidden_states(projected, states)
            loss = loss + weights.hidden * parts["hidden"]
        if weights.hard and labels is not None:
            chosen = torch.from_numpy(picked).to(device)
            own = None if row_weights is None else row_weights[chosen]
            parts["hard"] = hard_labels(logits, labels[chosen], own)
            loss = loss + weights.hard * parts["hard"]
        return loss, parts

    return objective


def distil(built: Built, outputs: TeacherOutputs, schooling: Schooling, work: Path) -> Progress:
    """Train the student in the recipe's stages on training rows and transfer set."""
    rows = schooling.judge.splits.transfer
    layers = tuple(range(1, built.module.layers + 1))
    phases = [
        Phase(
            name=stage.name,
            epochs=stage.epochs,
            rate=stage.learning_rate,
            hidden=layers if stage.losses.hidden and built.layer_map else (),
            objective=distil_objective(stage, outputs, rows, built.projections, schooling.device),
        )
        for stage in schooling.section.stages
    ]
    encoded = encode_examples(encoder_of(built), rows)
    return train(_job("student", built, encoded, phases, schooling, work, built.projections))


def control(built: Built, schooling: Schooling, work: Path) -> Progress:
    """Train the same student from the same start on hard labels alone, for exactly as many steps.

    Without a transfer set of its own it sees the labelled rows more often instead; its patience grows alike.
    """
    splits, batch = schooling.judge.splits, schooling.section.batch_size
    theirs, own = steps_per_epoch(len(splits.transfer), batch), steps_per_epoch(len(splits.train), batch)
    ratio = theirs / own
    phases = [
        Phase(
            name=stage.name,
            epochs=math.ceil(stage.epochs * ratio),
            steps=stage.epochs * theirs,
            rate=stage.learning_rate,
            objective=hard_objective(splits.train, schooling.device),
        )
        for stage in schooling.section.stages
    ]
    encoded = encode_examples(encoder_of(built), splits.train)
    job = _job("control", built, encoded, phases, schooling, work, nn.Module())
    return train(replace(job, patience=math.ceil(job.patience * ratio)))


def _job(
    name: str,
    built: Built,
    encoded: Encoded,
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
        encoded=encoded,
        phases=phases,
        validate=validate,
        work=work,
        device=device,
        bf16=bf16,
        seed=schooling.seed,
        batch_size=schooling.section.batch_size,
        patience=schooling.section.patience,
        weight_decay=schooling.section.weight_decay,
        extra=extra,
    )

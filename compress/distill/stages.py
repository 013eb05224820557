"""The schedule: first the teacher's output distribution, then its hidden states too; the control without."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compress.batch import Examples, Ints, TeacherOutputs
from compress.data.encode import encode_examples
from compress.distill.checkpoint import Progress
from compress.distill.judge import Judge
from compress.distill.losses import HIDDEN
from compress.distill.objectives import Objectives, objectives_of
from compress.distill.relations import Relations
from compress.distill.sampler import Sampler
from compress.distill.teach import hard_objective
from compress.distill.trainer import Job, Objective, Phase, train
from compress.distill.weighting import Parts, Settings, Uncertainty, moves, settings_at
from compress.recipe import Distill, Stage
from compress.recipe.distill import HIDDEN_TERMS
from compress.runtime.text import TextEncoder
from compress.students.build import Built
from compress.teachers.arrays import rows_of
from compress.teachers.largest import merge_rest
from compress.text_model import TextModel, TransformerClassifier


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
        built.tokens.tokenizer_json,
        max_length=spec.max_length,
        separator=spec.separator,
        pad_id=spec.pad_id,
        apart=spec.similarity is not None,
    )


def distil_objective(
    stage: Stage,
    outputs: TeacherOutputs,
    objectives: Objectives,
    projections: nn.ModuleList,
    device: torch.device,
    *,
    relations: Relations | None = None,
    balance: Uncertainty | None = None,
    log: bool = False,
) -> Objective:
    """The weighted sum of the terms against the teacher's outputs, those against its hidden states, and hard.

    Each term only where it has a weight. relations: the term of that name, for a stage that has it. balance: what
    learns the weights. log: whether weights and temperature stand in the log beside the terms, as `weight.TERM` and
    `temperature`.
    """

    def objective(logits: Tensor, hidden: Tensor | None, picked: Ints, share: float) -> tuple[Tensor, Parts]:
        now = settings_at(stage, share)
        said = torch.from_numpy(rows_of(outputs.logits, picked)).to(device).float()
        compared = logits
        if outputs.classes is not None:
            compared = merge_rest(logits, torch.from_numpy(rows_of(outputs.classes, picked)).long().to(device))
        parts = objectives.soft(compared, said, picked, now)
        if hidden is not None:
            parts |= _hidden_parts(hidden, outputs, picked, projections, now)
        if relations is not None and "relations" in now.weights:
            parts["relations"] = relations()
        if "hard" in now.weights:
            parts["hard"] = objectives.hard(logits, picked)
        weighted = {name: now.weights[name] * part for name, part in parts.items()}
        loss = sum(weighted.values(), logits.new_zeros(())) if balance is None else balance(weighted)
        return loss, parts | (_logged(now, balance) if log else {})

    return objective


def _hidden_parts(
    hidden: Tensor, outputs: TeacherOutputs, picked: Ints, projections: nn.ModuleList, now: Settings
) -> Parts:
    """Terms between the student's states [B, L, H] and the teacher's."""
    if outputs.hidden is None:
        raise ValueError("the teacher's outputs have no hidden states")
    states = torch.from_numpy(rows_of(outputs.hidden, picked)).to(hidden.device).float()
    projected = torch.stack([project(hidden[:, i]) for i, project in enumerate(projections)], 1)
    return {name: compare(projected, states) for name, compare in HIDDEN.items() if name in now.weights}


def _logged(now: Settings, balance: Uncertainty | None) -> Parts:
    factors = {} if balance is None else balance.factors()
    weights = {f"weight.{name}": weight * factors.get(name, 1.0) for name, weight in now.weights.items()}
    return {name: torch.tensor(value) for name, value in (weights | {"temperature": now.temperature}).items()}


def distil(
    built: Built,
    outputs: TeacherOutputs,
    schooling: Schooling,
    work: Path,
    teacher: TransformerClassifier | None = None,
) -> Progress:
    """Train the student in the recipe's stages on training rows and transfer set.

    teacher: needed where a stage compares attention relations; else its outputs say all.
    """
    rows = schooling.judge.splits.transfer
    with _relations(built, teacher, schooling) as relations:
        aim = partial(
            distil_objective,
            outputs=outputs,
            objectives=objectives_of(schooling.judge.kind, rows, schooling.device),
            projections=built.projections,
            device=schooling.device,
            relations=relations,
            log=moves(schooling.section),
        )
        phases = [_phase(stage, built, aim) for stage in schooling.section.stages]
        return train(job_of("student", built, rows, phases, schooling, work, built.projections))


@contextmanager
def _relations(built: Built, teacher: TransformerClassifier | None, schooling: Schooling) -> Iterator[Relations | None]:
    """What watches the student and asks the teacher, where a stage wants it."""
    if not schooling.section.relation_stages:
        yield None
        return
    if teacher is None or not isinstance(built.module, TransformerClassifier):
        raise ValueError("relations need a teacher and a student with attention")
    with closing(Relations(built.module, teacher, built.layer_map[-1], bf16=schooling.bf16)) as relations:
        yield relations


def _phase(stage: Stage, built: Built, aim: Callable[..., Objective]) -> Phase:
    """A stage of the recipe; aim: `distil_objective` with all that the stages share."""
    balance = Uncertainty(stage.losses.terms) if stage.weighting == "uncertainty" else None
    sees_hidden = stage.losses.among(HIDDEN_TERMS) and built.layer_map
    return Phase(
        name=stage.name,
        epochs=stage.epochs,
        rate=stage.learning_rate,
        hidden=tuple(range(1, built.module.layers + 1)) if sees_hidden else (),
        objective=aim(stage, balance=balance),
        balance=nn.Module() if balance is None else balance,
    )


def control(built: Built, schooling: Schooling, work: Path) -> Progress:
    """Train the same student from the same start on hard labels alone, for exactly as many steps.

    Without a transfer set of its own it sees the labelled rows more often instead; its patience grows alike.
    """
    splits = schooling.judge.splits
    theirs, own = (_sampler(built, rows, schooling, work) for rows in (splits.transfer, splits.train))
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
    job = job_of("control", built, splits.train, phases, schooling, work, nn.Module())
    return train(replace(job, patience=math.ceil(job.patience * theirs.steps(0, 0) / own.steps(0, 0))))


def _sampler(built: Built, rows: Examples, schooling: Schooling, work: Path) -> Sampler:
    """The steps that rows make. Only with groups does it matter how long each is."""
    batch, seed = schooling.section.batch_size, schooling.seed
    if not schooling.judge.kind.grouped:
        return Sampler(np.zeros(len(rows), np.int64), batch, seed)
    return Sampler(encode_examples(encoder_of(built), rows, work).lengths, batch, seed, rows.group_codes)


def _epochs(sampler: Sampler, stage: int, steps: int) -> int:
    """Epochs that have at least so many steps together."""
    epochs, made = 0, 0
    while made < steps:
        made += sampler.steps(stage, epochs)
        epochs += 1
    return epochs


def job_of(
    name: str,
    built: Built,
    rows: Examples,
    phases: list[Phase],
    schooling: Schooling,
    work: Path,
    extra: nn.Module,
) -> Job:
    """What the loop needs to train a student on rows; extra: modules that learn along and are thrown away."""
    judge, device, bf16 = schooling.judge, schooling.device, schooling.bf16
    validation = encode_examples(encoder_of(built), judge.splits.validation)

    def validate(module: TextModel) -> float:
        return judge.validate(module, validation, device, bf16)

    return Job(
        name=name,
        module=built.module,
        encoded=encode_examples(encoder_of(built), rows, work),
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
        average=schooling.section.average,
        extra=extra,
    )

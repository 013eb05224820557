"""Quantization-aware distillation: the fake-quantized student learns from the teacher's outputs, in the one loop."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from compress.batch import TeacherOutputs
from compress.distill.checkpoint import Progress
from compress.distill.objectives import objectives_of
from compress.distill.stages import Schooling, distil_objective, job_of
from compress.distill.trainer import Phase, train
from compress.distill.weighting import moves
from compress.recipe import Distill, Stage
from compress.students.build import Built


def distil_aware(built: Built, outputs: TeacherOutputs, stage: Stage, schooling: Schooling, work: Path) -> Progress:
    """Train a calibrated fake-quantized student on the rows and the objectives that the float one had.

    Args:
        built: its module in place of the float one; projections are not used.
        stage: terms against the teacher's logits and the labels.
    """
    rows, device = schooling.judge.splits.transfer, schooling.device
    objective = distil_objective(
        stage,
        outputs,
        objectives_of(schooling.judge.kind, rows, device),
        nn.ModuleList(),
        device,
        log=moves(Distill(stages=(stage,))),
    )
    phase = Phase(name=stage.name, epochs=stage.epochs, rate=stage.learning_rate, objective=objective)
    return train(job_of("aware", built, rows, [phase], schooling, work, nn.Module()))

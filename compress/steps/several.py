"""The stages of a teacher of more than one model: each made by itself, their answers put together.

Each model has entries of its own in the cache, as if it taught alone. Weights, gate, folds and temperature come in when
a run's own outputs are made of these, so that another choice of them asks nothing anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from compress import parallel
from compress.artifacts import link_or_copy
from compress.batch import Floats
from compress.recipe import SeveralTeachers
from compress.steps.answers import help_to_ask, nothing_more
from compress.steps.context import MODELS, Metrics, Run
from compress.steps.models import models_of
from compress.steps.panel import Panel
from compress.steps.teaching import HISTORY, provide_model, write_history
from compress.teachers.arrays import ROWS_A_PIECE
from compress.teachers.load import told_of
from compress.teachers.outputs import write_logits


def many_models(run: Run, out: Path, work: Path) -> Metrics:
    """Make every model of the teacher, and measure what they say together.

    Sizes are those of the lead, whose latency the bench takes; so is all else of a teacher that has folds alone.
    """
    for model in models_of(run):
        with told_of(model.key):
            provide_model(run, model, out / MODELS / model.name, work)
    if not parallel.is_first():
        help_to_ask(run, out)
        return {}
    found = _measured(run, Panel(run, out, work), out)
    nothing_more()
    return found


def _measured(run: Run, panel: Panel, out: Path) -> Metrics:
    """What is known of the finished models, each by itself and together."""
    teacher = run.recipe.teacher
    lead = next((panel.taught(model) for model in models_of(run)), None)
    if lead is None:
        write_history(out, [])
    else:
        link_or_copy(lead.folder / HISTORY, out / HISTORY)
    own: Metrics = {} if lead is None else lead.artifact.metrics
    described = [panel.described(number) for number in range(len(panel.teachers))]
    if not isinstance(teacher, SeveralTeachers):
        return own | {"folds": described[0]["folds"]}
    members = [each | {"weight": member.weight} for each, member in zip(described, teacher.members, strict=True)]
    sizes = {name: own.get(name) for name in ("parameters", "size_bytes", "layers")}
    return sizes | panel.judged() | {"members": members, "entries": panel.entries}


def combined_outputs(run: Run, out: Path, work: Path) -> Metrics:
    """What the student learns from: the answers of all teachers, out of fold, mixed and at the fitted temperature.

    Of many labels the largest are chosen last: the mixture's are not those of its parts.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows, panel = run.splits.transfer, Panel(run, run.at("teacher"), work)
    sources = [panel.transfer(number, out) for number in range(len(panel.teachers))]
    fitted = panel.calibrated() if run.recipe.teacher.calibrate else None

    def pieces() -> Iterator[Floats]:
        for start in range(0, len(rows), ROWS_A_PIECE):
            stop = min(start + ROWS_A_PIECE, len(rows))
            labels = None if rows.labels is None else rows.labels[start:stop]
            said = panel.mixed([source(start, stop) for source in sources], labels)
            yield (said if fitted is None else said / fitted.temperature).astype(np.float32)

    write_logits(pieces(), (len(rows), len(run.splits.labels)), out, run.top_k)
    found: Metrics = {"rows": len(rows), "layers": list(panel.layers), "entries": panel.entries}
    return found | ({} if fitted is None else {"calibration": asdict(fitted)})

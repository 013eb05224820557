"""Making the models of a teacher: fine-tuned or taken over as they are, measured, and never made twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress import parallel
from compress.artifacts import (
    MANIFEST,
    Artifact,
    list_files,
    publishing,
    read_artifact,
    remove,
    take_over,
    weights_bytes,
)
from compress.batch import Examples, Ints
from compress.data.folds import deal_folds
from compress.distill.judge import Verdict
from compress.distill.teach import teach
from compress.errors import IntegrityError
from compress.progress import reporter
from compress.steps.context import MODELS, Metrics, Run
from compress.steps.models import Model, model_key
from compress.teachers.huggingface import load_teacher, save_teacher
from compress.text_model import parameter_count

HISTORY = "history.json"


def make_model(run: Run, model: Model, out: Path, work: Path) -> Metrics:
    """Fine-tune a model, or take it over as it is, and measure it."""
    section = model.section
    torch.manual_seed(model.seed)  # a new head is drawn at random
    loaded = load_teacher(
        section,
        run.loaded.folder,
        task=run.recipe.task.kind,
        labels=run.splits.labels,
        positive=run.judge.kind.positive,
        trained=section.train is None,
        two_texts=run.judge.kind.two_texts,
        standard=run.judge.kind.standard,
    )
    history: list[dict[str, Any]] = []
    if section.train is not None:
        progress = teach(
            loaded,
            section.train,
            run.teacher_judge,
            rows=_seen(run, model),
            work=work,
            device=run.device,
            bf16=run.bf16,
            seed=model.seed,
        )
        history = progress.history
    verdict = run.teacher_judge.full(loaded.module, loaded.encoder, run.device)
    save_teacher(loaded, out, verdict.threshold)
    write_history(out, history)
    sizes = {
        "parameters": parameter_count(loaded.module),
        "size_bytes": weights_bytes(out),
        "layers": loaded.module.layers,
    }
    return sizes | judged(verdict)


def fold_numbers(run: Run, model: Model) -> Ints:
    """The fold of each training row, int64 [N], from 0."""
    splits = run.splits
    return deal_folds(splits.train, model.folds, model.seed, names=splits.labels, key=f"{model.key}.train.folds")


def _seen(run: Run, model: Model) -> Examples:
    """The rows that a model learns from."""
    train = run.read_by_teacher.train
    return train if model.fold is None else train.take(np.flatnonzero(fold_numbers(run, model) != model.fold))


def provide_model(run: Run, model: Model, out: Path, work: Path) -> None:
    """Put a model into the folder `out`: from an earlier start of this stage, from any run beside this one, or made.

    All processes call it together. The first keeps what it made in `work` until the stage is done, so that a model is
    not taught again after a kill.
    """
    key = model_key(run, model)
    if parallel.agree(parallel.is_first() and _taken_over(run, model, key, out, work)):
        return
    reporter.say(f"  teacher: model {model.name}")
    steps = work / f"{model.name}-steps"
    if not parallel.is_first():
        make_model(run, model, out, steps)
        return
    steps.mkdir(parents=True, exist_ok=True)
    with publishing(work / model.name) as temporary:
        temporary.mkdir()
        metrics = make_model(run, model, temporary, steps)
        made = _artifact(run, key, metrics).model_copy(update={"files": list_files(temporary)})
        (temporary / MANIFEST).write_text(made.model_dump_json(indent=2) + "\n", encoding="utf-8")
    remove(steps)
    take_over(work / model.name, made, out)


def _artifact(run: Run, key: str, metrics: Metrics) -> Artifact:
    """The manifest of one model among several: without times, so that the same models are the same files."""
    return Artifact(kind="teacher", key=key, recipe_digest=run.recipe.digest, metrics=metrics)


def _taken_over(run: Run, model: Model, key: str, out: Path, work: Path) -> bool:
    """Whether the model was found, and linked into `out`."""
    runs = run.folder.parent
    found = [work / model.name / MANIFEST]
    found += sorted([*runs.glob(f"*/teacher/{MANIFEST}"), *runs.glob(f"*/teacher/{MODELS}/*/{MANIFEST}")])
    for manifest in found:
        source = manifest.parent
        try:
            other = read_artifact(source)
            if other is None or other.key != key:
                continue
            take_over(source, _artifact(run, key, other.metrics).model_copy(update={"files": other.files}), out)
        except (IntegrityError, FileNotFoundError) as error:
            reporter.warn(f"teacher: {source} is not taken over: {error}")
            continue
        if source.parent != work:
            reporter.say(f"  teacher: model {model.name} taken over from {source.relative_to(runs).parts[0]}")
        return True
    return False


def judged(verdict: Verdict) -> Metrics:
    """Measures of a model, as its artifact has them."""
    return {"validation": verdict.validation, "quality": verdict.test, "threshold": verdict.threshold}


def write_history(out: Path, history: list[dict[str, Any]]) -> None:
    """The curves of a training, for the report."""
    out.mkdir(parents=True, exist_ok=True)
    (out / HISTORY).write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")

"""Stages that learn: baseline, teacher, teacher outputs, student, control."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from compress.artifacts import SPEC, read_spec
from compress.batch import Floats
from compress.data.encode import encode_examples
from compress.data.load import fingerprint
from compress.distill.checkpoint import Progress
from compress.distill.judge import Verdict
from compress.distill.stages import Schooling, control, distil, encoder_of
from compress.distill.teach import teach
from compress.errors import DataError
from compress.progress import reporter
from compress.recipe import HuggingFaceTeacher, ScoresTeacher
from compress.steps.context import Metrics, Run
from compress.students.baseline import fit_baseline
from compress.students.build import Built, build_student, describe, save_student
from compress.students.fits import layer_map_of
from compress.teachers.arrays import read_outputs
from compress.teachers.cache import ENTRIES, Entry, Question, take
from compress.teachers.huggingface import load_teacher, save_teacher
from compress.teachers.load import check_positions
from compress.teachers.outputs import compute_outputs, write_scores
from compress.teachers.scores import read_scores, rows_for
from compress.text_model import parameter_count

HISTORY = "history.json"


def baseline(run: Run, out: Path, work: Path) -> Metrics:
    """Fit the cheap classic model."""
    return fit_baseline(run.splits, run.recipe.task, run.recipe.seed, out)


def teacher(run: Run, out: Path, work: Path) -> Metrics:
    """Fine-tune or take over the teacher, and measure it."""
    section = run.recipe.teacher
    if isinstance(section, ScoresTeacher):
        return _scores(run, section, out)
    torch.manual_seed(run.recipe.seed)  # a new head is drawn at random
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
            run.judge,
            work=work,
            device=run.device,
            bf16=run.bf16,
            seed=run.recipe.seed,
        )
        history = progress.history
    verdict = run.judge.full(loaded.module, loaded.encoder, run.device)
    save_teacher(loaded, out, verdict.threshold)
    _write_history(out, history)
    sizes = {
        "parameters": parameter_count(loaded.module),
        "size_bytes": sum(path.stat().st_size for path in out.glob("*.safetensors")),
        "layers": loaded.module.layers,
    }
    return sizes | _judged(verdict)


def _scores(run: Run, section: ScoresTeacher, out: Path) -> Metrics:
    """Measure a file of scores where it covers validation and test."""
    rows, logits, scale = _read_scores(run, section)
    _write_history(out, [])
    found: Metrics = {"parameters": None, "size_bytes": None, "layers": None, "scale": scale}
    try:
        validation = rows_for(run.splits.validation.ids, rows, logits, "validation")
        test = rows_for(run.splits.test.ids, rows, logits, "test")
    except DataError as error:
        reporter.warn(f"the teacher's quality is not run: {error}")
        return found | {"validation": None, "quality": None, "reason": f"not run: {error}"}
    return found | _judged(run.judge.verdict(validation, test))


def _read_scores(run: Run, section: ScoresTeacher) -> tuple[dict[str, int], Floats, str]:
    kind = run.judge.kind
    return read_scores(section, run.loaded.folder, kind.labels, kind.positive, kind.standard)


def outputs(run: Run, out: Path, work: Path) -> Metrics:
    """Ask the teacher about every training and transfer row, once for all runs that ask the same."""
    section = run.recipe.teacher
    if isinstance(section, ScoresTeacher):
        rows, logits, scale = _read_scores(run, section)
        write_scores(rows_for(run.splits.transfer.ids, rows, logits, "train"), out, run.top_k)
        return {"rows": len(run.splits.transfer), "scale": scale}
    asked = _asked(run, section)
    question = asked.question

    def fill(shards: Path, arrays: Path) -> Metrics:
        taught = run.taught()
        if taught is None:
            raise DataError("teacher: there is no teacher model to ask")
        encoded = encode_examples(taught.encoder, run.splits.transfer)
        if encoded.truncated:
            cut = f"{encoded.truncated:,} of {len(encoded):,} texts"
            reporter.say(f"  teacher.max_length {section.max_length} cuts {cut}")
        compute_outputs(
            taught,
            encoded,
            layers=question.layers,
            top_k=question.top_k,
            work=shards,
            out=arrays,
            device=run.device,
            bf16=run.bf16,
        )
        return {"truncated": encoded.truncated}

    found = take(run.cache / ENTRIES, asked, out, fill)
    return {"rows": asked.rows, "layers": list(question.layers), "entry": question.key} | found


def _asked(run: Run, section: HuggingFaceTeacher) -> Entry:
    """The question to the teacher; what it stands for is in the files of its stage, whatever they were made from."""
    taught, rows = run.artifacts["teacher"], run.splits.transfer
    spec = read_spec(run.at("teacher"))
    layers = layer_map_of(run.recipe.student, taught.metrics["layers"]) if run.recipe.distill.wants_hidden else ()
    question = Question(
        teacher={name: file.sha256 for name, file in taught.files.items() if name not in (HISTORY, SPEC)},
        reading=spec.model_dump(mode="json", exclude={"threshold"}),
        texts=fingerprint((), [replace(rows, ids=(), labels=None, groups=None, weights=None)]),
        layers=layers,
        top_k=run.top_k,
        arithmetic="bf16" if run.bf16 else "fp32",
    )
    return Entry(
        question=question,
        name=section.model,
        rows=len(rows),
        run=run.folder.name,
        recipe_digest=run.recipe.digest,
    )


def student(run: Run, out: Path, work: Path) -> Metrics:
    """Distil the student in the recipe's stages."""
    built = build(run)
    said = read_outputs(run.at("outputs"))
    taught = run.taught() if run.recipe.distill.relation_stages else None
    progress = distil(built, said, _schooling(run), work, None if taught is None else taught.module)
    return _finish(run, built, progress, out)


def control_student(run: Run, out: Path, work: Path) -> Metrics:
    """Train the same student without the teacher's opinion."""
    built = build(run)
    progress = control(built, _schooling(run), work)
    return _finish(run, built, progress, out)


def _schooling(run: Run) -> Schooling:
    return Schooling(run.judge, run.recipe.distill, run.device, run.bf16, run.recipe.seed)


def build(run: Run) -> Built:
    """The student before its first step; the same run gives the same weights."""
    taught, section = run.taught(), run.recipe.student
    if taught is not None and section.cuts_layers:
        longest = section.max_length or taught.spec.max_length
        check_positions(taught.module.model.config.to_dict(), longest, key="student.max_length")
    return build_student(
        run.recipe.student,
        teacher=None if taught is None else taught.module,
        teacher_spec=None if taught is None else taught.spec,
        tokens=run.tokens,
        texts=run.texts,
        task=run.recipe.task.kind,
        labels=run.splits.labels,
        positive=run.judge.kind.positive,
        seed=run.recipe.seed,
        two_texts=run.judge.kind.two_texts,
    )


def _finish(run: Run, built: Built, progress: Progress, out: Path) -> Metrics:
    verdict = run.judge.full(built.module, encoder_of(built), run.device)
    chosen = {"threshold": verdict.threshold, "standard": run.judge.kind.standard}
    save_student(built.module, built.spec.model_copy(update=chosen), built.tokens.tokenizer_json, out)
    _write_history(out, progress.history)
    texts = {
        name: [*rows.texts, *(rows.pairs or [])]
        for name, rows in (
            ("train", run.splits.train),
            ("validation", run.splits.validation),
            ("test", run.splits.test),
        )
    }
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    found = describe(built, texts) | {"size_bytes": size, "best_at": progress.best_at, "steps": progress.step}
    return found | _judged(verdict)


def _judged(verdict: Verdict) -> Metrics:
    return {"validation": verdict.validation, "quality": verdict.test, "threshold": verdict.threshold}


def _write_history(out: Path, history: list[dict[str, Any]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / HISTORY).write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")

"""Stages that learn: baseline, teacher, teacher outputs, student, control."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from compress import parallel
from compress.artifacts import weights_bytes
from compress.distill.checkpoint import Progress
from compress.distill.stages import Schooling, control, distil, encoder_of
from compress.progress import reporter
from compress.recipe import HuggingFaceTeacher, ScoresTeacher, SeveralTeachers, is_plain
from compress.steps.answers import Part, Taught, ask, help_to_ask, measured_scores, nothing_more, scored
from compress.steps.context import Metrics, Run
from compress.steps.models import model_of
from compress.steps.several import combined_outputs, many_models
from compress.steps.teaching import judged, make_model, write_history
from compress.students.baseline import fit_baseline
from compress.students.build import Built, build_student, describe, save_student
from compress.students.fits import layer_map_of
from compress.teachers.arrays import read_outputs
from compress.teachers.certainty import OVERSURE, certainty
from compress.teachers.load import check_positions
from compress.teachers.outputs import write_scores
from compress.texts import Joined


def baseline(run: Run, out: Path, work: Path) -> Metrics:
    """Fit the cheap classic model."""
    return fit_baseline(run.splits, run.recipe.task, run.recipe.seed, out)


def teacher(run: Run, out: Path, work: Path) -> Metrics:
    """Fine-tune or take over the teacher, and measure it."""
    section = run.recipe.teacher
    if isinstance(section, ScoresTeacher):
        found = scored(run, section)
        write_history(out, [])
        sizes = {"parameters": None, "size_bytes": None, "layers": None, "scale": found.scale}
        return sizes | measured_scores(run, found)
    if isinstance(section, HuggingFaceTeacher) and is_plain(section):
        return make_model(run, model_of(run, 0, "teacher", section), out, work)
    return many_models(run, out, work)


def outputs(run: Run, out: Path, work: Path) -> Metrics:
    """Ask the teacher about every training and transfer row, once for all runs that ask the same.

    Of several processes the first looks into the cache; what is to be asked, all ask together.
    """
    if not parallel.is_first():
        help_to_ask(run, out)
        return {}
    found = _outputs(run, out, work)
    nothing_more()
    return found if run.recipe.task.numbers else found | _certainty(run, out)


def _certainty(run: Run, out: Path) -> Metrics:
    """How sure the teacher is of the training rows and of the transfer set, said and kept."""
    said, labelled, rows = read_outputs(out), len(run.splits.train), len(run.splits.transfer)
    found = {"training": certainty(said, 0, labelled)}
    if rows > labelled:
        found["transfer"] = certainty(said, labelled, rows)
    reporter.say("  teacher: " + "; ".join(f"{each} {name} rows" for name, each in found.items()))
    if sum(each.mean * each.rows for each in found.values()) / rows > OVERSURE:
        reporter.warn(
            f"the teacher gives its first choice more than {OVERSURE:g} on average, which tells the student no more "
            "than labels do: answer training rows out of fold (teacher.train.folds), fit its temperature "
            "(teacher.calibrate), or give it rows that it is less sure of (data.transfer, data.unlabeled)"
        )
    return {"certainty": {name: asdict(each) for name, each in found.items()}}


def _outputs(run: Run, out: Path, work: Path) -> Metrics:
    section, rows = run.recipe.teacher, run.splits.transfer
    if section.calibrate or isinstance(section, SeveralTeachers) or not is_plain(section):
        return combined_outputs(run, out, work)
    if isinstance(section, ScoresTeacher):
        found = scored(run, section)
        write_scores(found.of(rows, "train"), out, run.top_k)
        return {"rows": len(rows), "scale": found.scale}
    taught = Taught(section, run.at("teacher"), run.artifacts["teacher"])
    depth = taught.artifact.metrics["layers"]
    layers = layer_map_of(run.recipe.student, depth) if run.recipe.distill.wants_hidden else ()
    return ask(run, taught, Part("transfer"), out, layers=layers, top_k=run.top_k, bf16=run.bf16)


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
    write_history(out, progress.history)
    texts = {
        name: Joined(rows.texts, rows.pairs or [])
        for name, rows in (
            ("train", run.splits.train),
            ("validation", run.splits.validation),
            ("test", run.splits.test),
        )
    }
    found = describe(built, texts) | {
        "size_bytes": weights_bytes(out),
        "best_at": progress.best_at,
        "steps": progress.step,
    }
    return found | judged(verdict)

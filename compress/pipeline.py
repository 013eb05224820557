"""The stage order, what is up to date, and how a run goes on after it was stopped."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compress.artifacts import (
    MANIFEST,
    Artifact,
    list_files,
    publishing,
    read_artifact,
    remove,
    sweep_temporaries,
    verify_artifact,
    write_json,
)
from compress.check import check_head, check_packages
from compress.data.load import fingerprint, load_splits
from compress.errors import GateError, IntegrityError
from compress.extras import version
from compress.progress import reporter
from compress.recipe import LoadedRecipe, TensorRTExport, digest
from compress.steps.context import Metrics, Run
from compress.summary import summarise, teacher_note
from compress.teachers.load import check_teacher

Body = Callable[[Run, Path, Path], Metrics]
"""A stage: reads its parents through the run, writes into a folder, may keep unfinished work in another."""


@dataclass(frozen=True)
class StageRule:
    """One stage: what it depends on, and where its body is.

    version: raised when the body changes what it writes. wanted: whether the recipe asks for it.
    """

    name: str
    body: Callable[[], Body]
    depends: Callable[[Run], dict[str, Any]]
    version: int = 1
    wanted: Callable[[Run], str | None] = lambda run: None


def _learning(name: str) -> Callable[[], Body]:
    def find() -> Body:
        from compress.steps import learning

        body: Body = getattr(learning, name)
        return body

    return find


def _shipping(name: str) -> Callable[[], Body]:
    def find() -> Body:
        from compress.steps import shipping

        body: Body = getattr(shipping, name)
        return body

    return find


def _labelled(run: Run) -> str:
    splits = run.splits
    return fingerprint(splits.labels, [splits.train, splits.validation, splits.test, None])


def _hashes(run: Run, *stages: str) -> dict[str, str]:
    return {stage: run.artifacts[stage].sha256 for stage in stages if stage in run.artifacts}


def _teacher_depends(run: Run) -> dict[str, Any]:
    from compress.steps.learning import teacher_identity

    section = run.recipe.teacher.model_dump(mode="json", exclude={"model", "path"})
    return {
        "section": section,
        "identity": teacher_identity(run),
        "task": run.recipe.task.model_dump(),
        "data": _labelled(run),
        "seed": run.recipe.seed,
    }


def _student_depends(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    return {
        "student": recipe.student.model_dump(mode="json"),
        "distill": recipe.distill.model_dump(mode="json", exclude={"control"}),
        "task": recipe.task.model_dump(),
        "data": run.splits.fingerprint,
        "seed": recipe.seed,
    }


def _bench_depends(run: Run) -> dict[str, Any]:
    from compress.bench.machine import processor

    return {
        "section": run.recipe.bench.model_dump(),
        "data": run.splits.fingerprint,
        "parents": _hashes(run, "onnx", "quantized"),
        "machine": processor(),
    }


def _no_control(run: Run) -> str | None:
    return None if run.recipe.distill.control else "distill.control is false"


def _no_engines(run: Run) -> str | None:
    asked = any(isinstance(export, TensorRTExport) for export in run.recipe.export)
    return None if asked else "the recipe exports no engine"


STAGES = (
    StageRule(
        "baseline",
        _learning("baseline"),
        lambda run: {"task": run.recipe.task.model_dump(), "data": _labelled(run), "seed": run.recipe.seed},
    ),
    StageRule("teacher", _learning("teacher"), _teacher_depends),
    StageRule(
        "outputs",
        _learning("outputs"),
        lambda run: {
            "parents": _hashes(run, "teacher"),
            "data": run.splits.fingerprint,
            "student": [run.recipe.student.layer_map, run.recipe.student.depth],
            "hidden": any(stage.losses.hidden for stage in run.recipe.distill.stages),
            "bf16": run.bf16,
        },
    ),
    StageRule(
        "student",
        _learning("student"),
        lambda run: _student_depends(run) | {"parents": _hashes(run, "teacher", "outputs")},
    ),
    StageRule(
        "control",
        _learning("control_student"),
        lambda run: _student_depends(run) | {"parents": _hashes(run, "teacher")},
        wanted=_no_control,
    ),
    StageRule(
        "onnx",
        _shipping("onnx"),
        lambda run: {
            "export": [e.model_dump() for e in run.recipe.export if e.to == "onnx"],
            "parents": _hashes(run, "teacher", "student", "control"),
        },
        version=2,
    ),
    StageRule(
        "quantized",
        _shipping("quantized"),
        lambda run: {
            "section": run.recipe.quantize.model_dump(),
            "data": run.splits.fingerprint,
            "task": run.recipe.task.model_dump(),
            "seed": run.recipe.seed,
            "parents": _hashes(run, "onnx"),
        },
    ),
    StageRule(
        "engines",
        _shipping("engines"),
        lambda run: {
            "export": [e.model_dump() for e in run.recipe.export if e.to != "onnx"],
            "parents": _hashes(run, "onnx"),
        },
        wanted=_no_engines,
    ),
    StageRule("bench", _shipping("bench"), _bench_depends),
    StageRule(
        "bundle",
        _shipping("bundle"),
        lambda run: {
            "name": run.recipe.name,
            "recipe": run.recipe.digest,
            "parents": _hashes(run, "quantized"),
        },
    ),
)
LAST = {
    "teach": "teacher",
    "distill": "control",
    "quantize": "quantized",
    "export": "engines",
    "bench": "bench",
    "package": "bundle",
}
"""Command -> the last stage that it runs."""


def run(loaded: LoadedRecipe, *, runs: Path, until: str | None = None) -> dict[str, Any]:
    """Run a recipe, or as far as the command `until`; returns the summary that `--json` prints.

    Raises:
        GateError: a limit was not met; its `summary` attribute holds the summary.
        KdcError: anything else that a user can mend; nothing half-made is left behind.
    """
    check_packages(loaded)
    teacher = check_teacher(loaded)
    folder = runs / f"{loaded.recipe.name}-{loaded.recipe.digest[:10]}"
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        sweep_temporaries(folder)
        with publishing(folder / "recipe.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(loaded.recipe.dump(), sort_keys=False, allow_unicode=True))
        splits = load_splits(loaded, runs / ".cache")
        check_head(loaded, teacher, splits)
        current = Run(loaded, folder, splits, notes=list(splits.notes))
        rows = [_run_stage(current, rule, runs) for rule in _up_to(until)]
        summary = summarise(current, rows)
        write_json(folder / "summary.json", summary)
        _write_report(folder, summary)
    failed = [gate for gate in summary["gates"] if not gate["passed"]]
    if failed:
        error = GateError("; ".join(_gate_sentence(gate) for gate in failed))
        error.summary = summary
        raise error
    return summary


def _gate_sentence(gate: dict[str, Any]) -> str:
    value = "not measured" if gate["value"] is None else f"{gate['value']:.4g}"
    return f"gate {gate['gate']}: {value}, limit {gate['limit']:.4g}"


def _write_report(folder: Path, summary: dict[str, Any]) -> None:
    from compress.bench.report import write_report

    write_report(summary, folder / "report.html")


def _up_to(until: str | None) -> list[StageRule]:
    names = [rule.name for rule in STAGES]
    stop = len(names) if until is None else names.index(LAST[until]) + 1
    return list(STAGES[:stop])


def _run_stage(current: Run, rule: StageRule, runs: Path) -> dict[str, Any]:
    """Reuse, adopt or make one stage; returns its row of the summary."""
    unwanted = rule.wanted(current)
    if unwanted is not None:
        remove(current.at(rule.name))
        return {"stage": rule.name, "status": "skipped", "seconds": 0.0, "reason": unwanted}
    start = time.monotonic()
    key = digest({"stage": rule.name, "version": rule.version, **rule.depends(current)})
    found = _existing(current, rule.name, key) or _adopt(current, rule.name, key, runs)
    status = "reused" if found else "done"
    if found is None:
        reporter.say(f"{rule.name}")
        found = _make(current, rule, key)
    current.artifacts[rule.name] = found
    _forget_work(current, rule.name)
    _after(current, rule.name)
    return {
        "stage": rule.name,
        "status": "failed" if found.status == "failed" else status,
        "seconds": round(time.monotonic() - start, 2),
        "reason": found.reason,
    }


def _existing(current: Run, name: str, key: str) -> Artifact | None:
    found = read_artifact(current.at(name))
    if found is None or found.key != key:
        return None
    verify_artifact(current.at(name), found)
    return found


def _adopt(current: Run, name: str, key: str, runs: Path) -> Artifact | None:
    """Take over the same artifact from another run, by hard links: its teacher is not taught again."""
    for manifest in sorted(runs.glob(f"*/{name}/{MANIFEST}")):
        other = manifest.parent
        try:
            found = read_artifact(other)
            if found is None or found.key != key or other == current.at(name):
                continue
            verify_artifact(other, found)
        except IntegrityError as error:
            reporter.warn(f"{name} is not taken over: {error}")
            continue
        with publishing(current.at(name)) as temporary:
            shutil.copytree(other, temporary, copy_function=_link)
        reporter.say(f"{name}: taken over from {other.parent.name}")
        return found
    return None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _make(current: Run, rule: StageRule, key: str) -> Artifact:
    work = current.folder / ".work" / f"{rule.name}-{key[:12]}"
    work.mkdir(parents=True, exist_ok=True)
    sweep_temporaries(work)
    start = time.monotonic()
    with publishing(current.at(rule.name)) as temporary:
        temporary.mkdir()
        metrics = rule.body()(current, temporary, work)
        accepted = bool(metrics.get("accepted", True))
        artifact = Artifact(
            kind=rule.name,
            key=key,
            recipe_digest=current.recipe.digest,
            parents=_hashes(current, *current.artifacts),
            files=list_files(temporary),
            metrics=metrics,
            versions=versions(),
            seconds=round(time.monotonic() - start, 2),
            status="done" if accepted else "failed",
            reason=None if accepted else f"quality loss {metrics['quality_loss']:.4f} is above the limit",
        )
        (temporary / MANIFEST).write_text(artifact.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return artifact


def _forget_work(current: Run, stage: str) -> None:
    """Delete the checkpoints of a finished stage; a kill may have come between its publishing and this."""
    for work in (current.folder / ".work").glob(f"{stage}-*"):
        remove(work)


def versions() -> dict[str, str]:
    """Versions of what decides the result."""
    names = ("kdc", "torch", "transformers", "onnxruntime", "onnx", "tokenizers", "numpy", "scikit-learn")
    return {name: found for name in names if (found := version(name)) is not None}


def _after(current: Run, name: str) -> None:
    """Say loudly, before the long work, that a teacher is not worth distilling."""
    if name == "teacher" and (note := teacher_note(current)) is not None:
        reporter.warn(note)
        current.notes.append(note)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the run's folder; a second process waits and says for whom."""
    import fcntl

    with (folder / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            reporter.warn(f"{folder} is in use by process {stream.read().strip() or 'unknown'}; waiting until it ends")
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield

"""The stage order, what is up to date, and how a run goes on after it was stopped."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from compress import parallel
from compress.artifacts import (
    CACHE,
    MANIFEST,
    Artifact,
    list_files,
    publishing,
    read_artifact,
    remove,
    sweep_temporaries,
    take_over,
    verify_artifact,
    write_json,
)
from compress.bundle.sign import Signer, load_signer
from compress.check import check_fit, check_packages
from compress.data.load import load_splits
from compress.errors import GateError, IntegrityError
from compress.extras import version
from compress.locks import LOCK, hold
from compress.progress import reporter
from compress.recipe import LoadedRecipe, digest
from compress.stages import GATE_OF, LAST, STAGES, StageRule, hashes
from compress.steps.context import Run
from compress.summary import summarise, teacher_note
from compress.teachers.load import check_teacher

HALTING = frozenset(rule.name for rule in STAGES if rule.halts)
NO_WORK: Path | None = None
"""What the first process tells the others where it needs no help: else the folder of unfinished work."""


def run(loaded: LoadedRecipe, *, runs: Path, until: str | None = None, sign: Path | None = None) -> dict[str, Any]:
    """Run a recipe, or as far as the command `until`; returns the summary that `--json` prints.

    With `sign`, a private key (PEM), the bundle is signed. One that is signed already stays so without it, until
    something that it is made of changes.

    Of several processes the first does so; the others do their share of the training and return nothing.

    Raises:
        GateError: a limit was not met; its `summary` attribute holds the summary.
        KdcError: anything else that a user can mend; nothing half-made is left behind.
    """
    check_packages(loaded)
    signer = None if sign is None else load_signer(sign)
    folder = runs / f"{loaded.recipe.name}-{loaded.recipe.digest[:10]}"
    with parallel.joined():
        if parallel.is_first():
            return _lead(loaded, folder, runs, until, signer)
        _help(loaded, folder, runs, until)
        return {}


def _lead(loaded: LoadedRecipe, folder: Path, runs: Path, until: str | None, signer: Signer | None) -> dict[str, Any]:
    """What the first process does, or the only one."""
    teacher = check_teacher(loaded)
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder / LOCK, str(folder)):
        sweep_temporaries(folder)
        with publishing(folder / "recipe.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(loaded.recipe.dump(), sort_keys=False, allow_unicode=True))
        splits = load_splits(loaded, runs / CACHE)
        taken = check_fit(loaded, teacher, splits)
        for note in taken:
            reporter.warn(note)
        current = Run(loaded, folder, splits, notes=[*splits.notes, *taken], signer=signer)
        parallel.wait()
        asked = _up_to(until)
        rows = _run_stages(current, asked, runs)
        summary = summarise(current, rows)
        write_json(folder / "summary.json", summary)
        _write_report(folder, summary)
    made = {rule.name for rule in asked}
    failed = [row["reason"] for row in rows if row["status"] == "failed" and row["stage"] in HALTING]
    failed += [
        _gate_sentence(gate) for gate in summary["gates"] if not gate["passed"] and GATE_OF[gate["gate"]] in made
    ]
    if failed:
        error = GateError("; ".join(failed))
        error.summary = summary
        raise error
    return summary


def _help(loaded: LoadedRecipe, folder: Path, runs: Path, until: str | None) -> None:
    """What all processes but the first do: wait, and where a stage is shared do its work, keeping nothing."""
    reporter.quiet = True
    parallel.wait()  # until the first holds the folder and has read the data
    current = Run(loaded, folder, load_splits(loaded, runs / CACHE))
    for rule in _up_to(until):
        work = parallel.agree(NO_WORK)
        if work is not None:
            with tempfile.TemporaryDirectory(prefix="kdc-") as scratch:
                rule.body()(current, Path(scratch), work)
        parallel.wait()
        found = read_artifact(current.at(rule.name))
        if found is not None:
            current.artifacts[rule.name] = found


def _no_help() -> None:
    """Tell the other processes that there is nothing for them to do in a stage."""
    parallel.agree(NO_WORK)
    parallel.wait()


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


def _key(current: Run, rule: StageRule) -> str:
    return digest({"stage": rule.name, "version": rule.version, **rule.depends(current)})


def _run_stages(current: Run, asked: Sequence[StageRule], runs: Path) -> list[dict[str, Any]]:
    """The stages asked for, up to one whose failure ends the run, and after all of them those that are up to date."""
    rows = []
    for rule in asked:
        rows.append(_run_stage(current, rule, runs))
        if rule.halts and rows[-1]["status"] == "failed":
            for _ in asked[len(rows) :]:  # the other processes ask about each stage
                _no_help()
            return rows
    return rows + _later(current, STAGES[len(asked) :])


def _later(current: Run, rules: Sequence[StageRule]) -> list[dict[str, Any]]:
    """Stages after the last one asked for, as far as they are up to date: their figures stay in the summary."""
    rows = []
    for rule in rules:
        if rule.wanted(current) is not None:
            continue
        found = read_artifact(current.at(rule.name))
        if found is None or found.key != _key(current, rule):
            break
        verify_artifact(current.at(rule.name), found)
        current.artifacts[rule.name] = found
        status = "failed" if found.status == "failed" else "reused"
        rows.append({"stage": rule.name, "status": status, "seconds": 0.0, "reason": found.reason})
    return rows


def _run_stage(current: Run, rule: StageRule, runs: Path) -> dict[str, Any]:
    """Reuse, adopt or make one stage; returns its row of the summary."""
    unwanted = rule.wanted(current)
    if unwanted is not None:
        remove(current.at(rule.name))
        _no_help()
        return {"stage": rule.name, "status": "skipped", "seconds": 0.0, "reason": unwanted}
    start = time.monotonic()
    key = _key(current, rule)
    found = _existing(current, rule, key) or _adopt(current, rule, key, runs)
    status = "reused" if found else "done"
    if found is None:
        reporter.say(f"{rule.name}")
        found = _make(current, rule, key)
    else:
        parallel.agree(NO_WORK)
    parallel.wait()
    current.artifacts[rule.name] = found
    _forget_work(current, rule.name)
    _after(current, rule.name)
    return {
        "stage": rule.name,
        "status": "failed" if found.status == "failed" else status,
        "seconds": round(time.monotonic() - start, 2),
        "reason": found.reason,
    }


def _existing(current: Run, rule: StageRule, key: str) -> Artifact | None:
    found = read_artifact(current.at(rule.name))
    if found is None or found.key != key or rule.passing(current, found):
        return None
    verify_artifact(current.at(rule.name), found)
    return found


def _adopt(current: Run, rule: StageRule, key: str, runs: Path) -> Artifact | None:
    """Take over the same artifact from another run, by hard links: its teacher is not taught again."""
    for manifest in sorted(runs.glob(f"*/{rule.name}/{MANIFEST}")):
        other = manifest.parent
        if other == current.at(rule.name):
            continue
        try:
            found = read_artifact(other)
            if found is None or found.key != key or rule.passing(current, found):
                continue
            take_over(other, found, current.at(rule.name))
        except (IntegrityError, FileNotFoundError) as error:
            reporter.warn(f"{rule.name} is not taken over from {other.parent.name}: {error}")
            continue
        reporter.say(f"{rule.name}: taken over from {other.parent.name}")
        return found
    return None


def _make(current: Run, rule: StageRule, key: str) -> Artifact:
    work = current.folder / ".work" / f"{rule.name}-{key[:12]}"
    work.mkdir(parents=True, exist_ok=True)
    sweep_temporaries(work)
    parallel.agree(work if rule.shared else NO_WORK)
    start = time.monotonic()
    with publishing(current.at(rule.name)) as temporary:
        temporary.mkdir()
        metrics = rule.body()(current, temporary, work)
        failure = metrics.pop("failure", None)
        artifact = Artifact(
            kind=rule.name,
            key=key,
            recipe_digest=current.recipe.digest,
            parents=hashes(current, *current.artifacts),
            files=list_files(temporary),
            metrics=metrics,
            versions=versions(),
            seconds=round(time.monotonic() - start, 2),
            status="done" if failure is None else "failed",
            reason=failure,
        )
        (temporary / MANIFEST).write_text(artifact.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return artifact


def _forget_work(current: Run, stage: str) -> None:
    """Delete the checkpoints of a finished stage; a kill may have come between its publishing and this."""
    for work in (current.folder / ".work").glob(f"{stage}-*"):
        remove(work)


DECISIVE = (
    *("kdc", "torch", "transformers", "onnxruntime", "openvino", "nncf", "onnx", "tokenizers", "numpy"),
    "scikit-learn",
)
"""Distributions whose versions decide a result."""


def versions() -> dict[str, str]:
    """Versions of what decides the result."""
    return {name: found for name in DECISIVE if (found := version(name)) is not None}


def _after(current: Run, name: str) -> None:
    """Say loudly, before the long work, that a teacher is not worth distilling."""
    if name == "teacher" and (note := teacher_note(current)) is not None:
        reporter.warn(note)
        current.notes.append(note)

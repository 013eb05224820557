"""The stages of a run in order: what each depends on, and where its body is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.artifacts import Artifact, sha256_file
from compress.recipe import AUTO, ScoresTeacher, SeveralTeachers, TensorRTExport, is_plain, teachers_of
from compress.steps.context import Metrics, Run
from compress.steps.models import TEACHER_VERSION, model_key, models_of, teacher_depends

Body = Callable[[Run, Path, Path], Metrics]
"""A stage: reads its parents through the run, writes into a folder, may keep unfinished work in another."""


@dataclass(frozen=True)
class StageRule:
    """One stage: what it depends on, and where its body is.

    version: raised when the body changes what it writes. wanted: why the recipe does not ask for it, or None.
    passing: whether what an earlier run left is to be made again all the same. halts: whether nothing is made of an
    artifact that is marked failed, so that the run ends there. shared: whether all processes of a run work on it; else
    the first does it alone.
    """

    name: str
    body: Callable[[], Body]
    depends: Callable[[Run], dict[str, Any]]
    version: int = 1
    wanted: Callable[[Run], str | None] = lambda run: None
    passing: Callable[[Run, Artifact], bool] = lambda run, found: False
    halts: bool = False
    shared: bool = False


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


def _quantized() -> Body:
    from compress.steps.quantizing import quantized

    return quantized


def _aware() -> Body:
    from compress.steps.aware import aware

    return aware


def hashes(run: Run, *stages: str) -> dict[str, str]:
    return {stage: run.artifacts[stage].sha256 for stage in stages if stage in run.artifacts}


def _teacher_depends(run: Run) -> dict[str, Any]:
    teacher = run.recipe.teacher
    if not isinstance(teacher, SeveralTeachers) and is_plain(teacher):
        return teacher_depends(run, teacher, run.recipe.seed)
    models = [model_key(run, model) for model in models_of(run)]
    if not isinstance(teacher, SeveralTeachers):
        return {"models": models}
    files = [each for _, each in teachers_of(teacher) if isinstance(each, ScoresTeacher)]
    return {
        "models": models,
        "scores": [teacher_depends(run, each, run.recipe.seed) for each in files],
        "members": [[member.kind, member.weight] for member in teacher.members],
        "gate": teacher.gate,
    }


def _outputs_depend(run: Run) -> dict[str, Any]:
    kept = {} if run.top_k is None else {"top_k": run.top_k}
    calibrated = {"calibrate": True} if run.recipe.teacher.calibrate else {}
    return (
        kept
        | calibrated
        | {
            "parents": hashes(run, "teacher"),
            # a file of scores leaves nothing of itself in the teacher's folder
            "teacher": run.artifacts["teacher"].key,
            "data": run.splits.fingerprint,
            "student": [run.recipe.student.layer_map, run.recipe.student.depth],
            "hidden": run.recipe.distill.wants_hidden,
            "bf16": run.bf16,
        }
    )


def _student_depends(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    return {
        "student": recipe.student.model_dump(mode="json"),
        "distill": recipe.distill.model_dump(mode="json", exclude={"control"}),
        "task": recipe.task.model_dump(),
        "data": run.splits.fingerprint,
        "seed": recipe.seed,
    }


def _aware_depends(run: Run) -> dict[str, Any]:
    section = run.recipe.quantize
    learning = section.learning
    return _student_depends(run) | {
        "aware": None if learning is None else learning.model_dump(mode="json"),
        "bits": section.bits,
        "calibration": section.calibration,
        "parents": hashes(run, "outputs", "student", "onnx"),
    }


def _engines_depend(run: Run) -> dict[str, Any]:
    from compress.export.tensorrt import builders

    asked = [export for export in run.recipe.export if isinstance(export, TensorRTExport)]
    return {
        "export": [export.model_dump() for export in asked],
        "calibration": run.recipe.quantize.calibration,
        "data": run.splits.fingerprint,
        "seed": run.recipe.seed,
        "builders": builders({export.to for export in asked}),
        "parents": hashes(run, "onnx"),
    }


def _certificate_depends(run: Run) -> dict[str, Any]:
    from compress.steps.certifying import certificate_depends

    return certificate_depends(run)


def _chosen_by(run: Run) -> dict[str, Any]:
    """What else decides where the method is chosen by timing."""
    from compress.steps.quantizing import processor_and_runtimes

    section = run.recipe.quantize
    if section.method != AUTO:
        return {}
    return processor_and_runtimes() | {"bench": run.recipe.bench.model_dump()}


def _bundle_depends(run: Run) -> dict[str, Any]:
    from compress.bundle.items import items_of
    from compress.bundle.licenses import licenses_of

    stages, items = ("teacher", "student", "quantized"), items_of(run.loaded)
    return ({} if items is None else {"items": sha256_file(items)}) | {
        "name": run.recipe.name,
        "recipe": run.recipe.digest,
        "data": run.splits.fingerprint,
        "quality": {stage: run.artifacts[stage].metrics.get("quality") for stage in stages},
        "certificate": run.artifacts["quantized"].metrics["certificate"],
        "licenses": licenses_of(run.loaded),
        "bench": run.artifacts["bench"].metrics,
        "parents": hashes(run, *stages),
    }


def _bench_depends(run: Run) -> dict[str, Any]:
    from compress.bench.machine import gpu, processor
    from compress.bench.targets import any_on_gpu

    found = {
        "section": run.recipe.bench.model_dump(),
        "data": run.splits.fingerprint,
        "parents": hashes(run, "onnx", "quantized"),
        "machine": processor(),
    }
    return found | {"gpu": gpu()} if any_on_gpu(run.recipe.bench.targets) else found


def _unsafe_figures(run: Run, found: Artifact) -> bool:
    """Timings of a busy machine are not taken over: running the same command again is how to mend them."""
    return bool(found.metrics["device"].get("warnings"))


def _failed(run: Run, found: Artifact) -> bool:
    """Another onnxruntime may mend it."""
    return found.status == "failed"


def _signed_otherwise(run: Run, found: Artifact) -> bool:
    """A signature that was asked for is made; one that is there is kept where none is asked for."""
    return run.signer is not None and found.metrics.get("signed_by") != run.signer.key


def _no_control(run: Run) -> str | None:
    return None if run.recipe.distill.control else "distill.control is false"


def _no_aware(run: Run) -> str | None:
    return "quantize.method is not aware" if run.recipe.quantize.learning is None else None


def _no_engines(run: Run) -> str | None:
    asked = any(isinstance(export, TensorRTExport) for export in run.recipe.export)
    return None if asked else "the recipe exports no engine"


STAGES = (
    StageRule(
        "baseline",
        _learning("baseline"),
        lambda run: {"task": run.recipe.task.model_dump(), "data": run.labelled, "seed": run.recipe.seed},
    ),
    StageRule("teacher", _learning("teacher"), _teacher_depends, version=TEACHER_VERSION, shared=True),
    StageRule("outputs", _learning("outputs"), _outputs_depend, shared=True),
    StageRule(
        "student",
        _learning("student"),
        lambda run: _student_depends(run) | {"parents": hashes(run, "teacher", "outputs")},
        version=2,
        shared=True,
    ),
    StageRule(
        "control",
        _learning("control_student"),
        lambda run: _student_depends(run) | {"parents": hashes(run, "teacher")},
        version=2,
        wanted=_no_control,
        shared=True,
    ),
    StageRule(
        "onnx",
        _shipping("onnx"),
        lambda run: {
            "export": [e.model_dump() for e in run.recipe.export if e.to == "onnx"],
            "parents": hashes(run, "teacher", "student", "control"),
        },
        version=2,
        passing=_failed,
        halts=True,
    ),
    StageRule("aware", _aware, _aware_depends, wanted=_no_aware, shared=True),
    StageRule(
        "quantized",
        _quantized,
        lambda run: {
            "section": run.recipe.quantize.model_dump(),
            "data": run.splits.fingerprint,
            "task": run.recipe.task.model_dump(),
            "seed": run.recipe.seed,
            "parents": hashes(run, "teacher", "student", "onnx", "aware"),
            **_certificate_depends(run),
            **_chosen_by(run),
        },
        version=2,
    ),
    StageRule("engines", _shipping("engines"), _engines_depend, wanted=_no_engines),
    StageRule("bench", _shipping("bench"), _bench_depends, passing=_unsafe_figures),
    StageRule("bundle", _shipping("bundle"), _bundle_depends, version=4, passing=_signed_otherwise),
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


GATE_OF = {
    "quantize.max_quality_loss": "quantized",
    "quantize.portable": "quantized",
    "quantize.parity": "quantized",
    "quality": "quantized",
    "speedup": "bench",
    "p99_ms": "bench",
    "size_mb": "bundle",
}
"""Gate -> the stage that decides it."""

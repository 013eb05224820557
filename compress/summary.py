"""The summary of a run: what `kdc run --json` prints and the report is drawn from."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from compress.recipe import HuggingFaceTeacher, SeveralTeachers, lead_of, teachers_of
from compress.steps.context import Run
from compress.tasks.measures import measure_named

STAGE_OF = {"teacher": "teacher", "control": "control", "student": "student", "shipped": "quantized"}


def summarise(run: Run, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the artifacts' figures together; a figure whose stage was not run is null."""
    metric, measure = run.judge.metric, run.judge.kind.metric
    models = _models(run)
    latency = run.artifacts["bench"].metrics["latency"] if "bench" in run.artifacts else []
    bundle = run.artifacts.get("bundle")
    if bundle is not None:
        models["shipped"]["bundle_bytes"] = bundle.metrics["size_bytes"]
    gate = run.recipe.gates.quality
    kept = measure if gate is None else measure_named(gate.metric)
    summary: dict[str, Any] = {
        "run": str(run.folder),
        "bundle": None if bundle is None else str(run.at("bundle") / bundle.metrics["bundle"]),
        "report": str(run.folder / "report.html"),
        "name": run.recipe.name,
        "task": run.recipe.task.kind,
        "metric": metric,
        "higher_is_better": measure.higher_is_better,
        "stages": stages,
        "models": models,
        "retention_metric": kept.name,
        "retention": _compared(kept.retention, models, kept.name, "shipped", "teacher"),
        "distillation_gain": _compared(measure.gain, models, metric, "student", "control"),
        "latency": latency,
        "speedup": speedup(latency),
        "history": _history(run),
        "notes": run.notes,
        "parity": _parity(run),
        "guard": run.artifacts["quantized"].metrics.get("guard") if "quantized" in run.artifacts else None,
        "certificate": run.artifacts["quantized"].metrics["certificate"] if "quantized" in run.artifacts else None,
        "candidates": run.artifacts["quantized"].metrics.get("candidates", []) if "quantized" in run.artifacts else [],
        "engines": run.artifacts["engines"].metrics if "engines" in run.artifacts else {},
        "device": run.artifacts["bench"].metrics["device"] if "bench" in run.artifacts else {},
        "versions": next(iter(run.artifacts.values())).versions if run.artifacts else {},
        "recipe": run.recipe.dump(),
    }
    return summary | {"gates": gates(run, summary)}


def _models(run: Run) -> dict[str, Any]:
    models: dict[str, Any] = {}
    if "baseline" in run.artifacts:
        fitted = run.artifacts["baseline"].metrics
        models["baseline"] = {
            "description": fitted["description"],
            "seconds": fitted["seconds"],
            "quality": fitted["test"],
        }
    for model, stage in STAGE_OF.items():
        if stage not in run.artifacts:
            continue
        metrics = run.artifacts[stage].metrics
        models[model] = {
            key: metrics.get(key)
            for key in ("parameters", "size_bytes", "quality", "validation", "threshold", "method")
            if key in metrics
        }
        for key in ("parameters_without_embeddings", "vocabulary", "layer_map", "best_at", "steps", "reason"):
            if key in metrics:
                models[model][key] = metrics[key]
    if "teacher" in models:
        models["teacher"] |= _teaching(run)
    if "shipped" in models:
        models["shipped"]["parameters"] = models.get("student", {}).get("parameters")
    return models


def _teaching(run: Run) -> dict[str, Any]:
    """What else there is to say of a teacher: several, folds, calibrated, how sure, privileged columns."""
    metrics, teacher = run.artifacts["teacher"].metrics, run.recipe.teacher
    found: dict[str, Any] = {key: metrics[key] for key in ("members", "folds") if key in metrics}
    said = run.artifacts["outputs"].metrics if "outputs" in run.artifacts else {}
    found |= {key: said[key] for key in ("calibration", "certainty") if key in said}
    if run.recipe.data.privileged_columns:
        found["privileged"] = run.recipe.data.privileged_columns
    if isinstance(teacher, SeveralTeachers):
        lead = lead_of(teacher)
        sizes = "" if lead is None else f"; size and latency are those of the first model, {lead.model}"
        found["description"] = f"{len(teacher.members)} teachers together{sizes}"
    return found


def _quality(models: dict[str, Any], name: str, metric: str) -> float | None:
    quality = (models.get(name) or {}).get("quality") or {}
    value: float | None = quality.get(metric)
    return value


def _compared(
    compare: Callable[[float, float], float | None], models: dict[str, Any], metric: str, name: str, other: str
) -> float | None:
    """Two models' quality in one figure; None where one was not measured."""
    left, right = (_quality(models, model, metric) for model in (name, other))
    return None if left is None or right is None else compare(left, right)


def single_stream(latency: list[dict[str, Any]], artifact: str, target: str | None = None) -> dict[str, Any] | None:
    """The first finished single-stream row of an artifact, on a target or on any."""
    rows = (
        r for r in latency if r["artifact"] == artifact and r["scenario"] == "single-stream" and r["status"] == "ok"
    )
    return next((row for row in rows if target in (None, row["target"])), None)


def speedup(latency: list[dict[str, Any]]) -> float | None:
    """Teacher's p50 over the shipped model's, same runtime, threads and requests, end to end from text.

    With privileged columns the teacher's requests have them too: that is what its answers cost.
    """
    shipped = single_stream(latency, "shipped")
    teacher = None if shipped is None else single_stream(latency, "teacher", shipped["target"])
    return None if teacher is None or shipped is None else teacher["p50_ms"] / shipped["p50_ms"]


def _history(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("teacher", "student", "control", "aware"):
        path = run.at(name) / "history.json"
        if name in run.artifacts and path.is_file():
            found[name] = json.loads(path.read_bytes())
    return found


def _parity(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "onnx" in run.artifacts:
        found["onnx"] = run.artifacts["onnx"].metrics.get("student", {}).get("parity")
    if "quantized" in run.artifacts:
        metrics = run.artifacts["quantized"].metrics
        found["quantized"] = metrics["parity"] | {
            "quality_loss": metrics["quality_loss"],
            "method": metrics["method"],
        }
    return found


def teacher_note(run: Run) -> str | None:
    """A warning when the teacher does not beat the cheap baseline on validation or test."""
    fitted, teacher = run.artifacts["baseline"].metrics, run.artifacts["teacher"].metrics
    metric = run.judge.metric
    if not teacher.get("quality"):
        return None
    ours, cheap = teacher["quality"][metric], fitted["test"][metric]
    if run.judge.kind.metric.better(ours, cheap):
        return None
    models = [each for _, each in teachers_of(run.recipe.teacher) if isinstance(each, HuggingFaceTeacher)]
    fine_tuned = any(section.train is not None for section in models)
    meaning = "are numbers like the labels" if run.recipe.task.numbers else "stand in the order of the labels"
    mend = "train it longer" if fine_tuned else f"check that its outputs {meaning}"
    return (
        f"the teacher's {metric} on test is {ours:.4f}, the baseline's ({fitted['description']}) "
        f"{cheap:.4f}: a teacher that does no better than a cheap model is not worth distilling; {mend}, "
        "or ship the baseline"
    )


def gates(run: Run, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Every limit of the recipe whose stage was run; a value that could not be measured has not passed."""
    limits, found = run.recipe.gates, []
    if "quantized" in run.artifacts:
        loss, limit = run.artifacts["quantized"].metrics["quality_loss"], run.recipe.quantize.max_quality_loss
        found.append({"gate": "quantize.max_quality_loss", "limit": limit, "value": loss, "passed": loss <= limit})
        if (parity := run.artifacts["quantized"].metrics.get("fake_quantization")) is not None:
            limit, far = parity["limit"], parity["max_logit_difference"]
            found.append({"gate": "quantize.parity", "limit": limit, "value": far, "passed": far <= limit})
    if limits.quality is not None and "quantized" in run.artifacts:
        found.append(_at_least("quality", limits.quality.retain, summary["retention"]))
    if limits.speedup is not None and "bench" in run.artifacts:
        found.append(_at_least("speedup", limits.speedup, summary["speedup"]))
    if limits.p99_ms is not None and "bench" in run.artifacts:
        timed = single_stream(summary["latency"], "shipped")
        found.append(_at_most("p99_ms", limits.p99_ms, None if timed is None else timed["p99_ms"]))
    size = summary["models"].get("shipped", {}).get("bundle_bytes")
    if limits.size_mb is not None and size is not None:
        found.append(_at_most("size_mb", limits.size_mb, size / 1e6))
    return found


def _at_least(gate: str, limit: float, value: float | None) -> dict[str, Any]:
    return {"gate": gate, "limit": limit, "value": value, "passed": value is not None and value >= limit}


def _at_most(gate: str, limit: float, value: float | None) -> dict[str, Any]:
    return {"gate": gate, "limit": limit, "value": value, "passed": value is not None and value <= limit}

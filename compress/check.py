"""`kdc check`: can this recipe run here, and what would it do? Cheap questions first; no work is done."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from compress import estimate
from compress.artifacts import free_bytes
from compress.batch import Splits
from compress.bundle.items import items_of, read_items
from compress.data.folds import deal_folds
from compress.data.load import load_splits
from compress.doctor import missing_for_training
from compress.errors import EnvironmentProblem, RecipeError
from compress.extras import available, install_hint
from compress.parallel import processes
from compress.recipe import (
    HuggingFaceTeacher,
    LayeredStudent,
    LoadedRecipe,
    Recipe,
    ScoresTeacher,
    TensorRTExport,
    TransformerStudent,
    TwoTowerStudent,
    lead_of,
    teachers_of,
)
from compress.students.fits import (
    DEFAULT_WIDTH,
    check_factored,
    check_narrow,
    check_towers_origin,
    check_two_tower,
    head_count,
    layer_map_of,
)
from compress.tasks.kind import TaskKind
from compress.tasks.kinds import task_kind
from compress.teachers.load import ATTENTION, check_teacher, told_of

ENGINES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Export format, which is also the extra's name -> importable package."""

OPENVINO = {
    "openvino": {"openvino": "openvino"},
    "openvino-bf16": {"openvino": "openvino"},
    "openvino-int8": {"nncf": "nncf", "openvino": "nncf"},
    "openvino-int8-bf16": {"nncf": "nncf", "openvino": "nncf"},
    "openvino-weights": {"nncf": "nncf", "openvino": "nncf"},
}
"""Method of quantization -> importable package -> the extra that brings it."""


def plan(loaded: LoadedRecipe, runs: Path) -> dict[str, Any]:
    """Check environment, teacher and data, in this order, and estimate the run.

    Returns plain data: name, digest, runs, data (rows of each split, labels, what answers are, tokens a row), teacher,
    stages (rows, seconds, disk_bytes, what), seconds, disk_bytes, cache_bytes, free_bytes, notes,
    assumptions.

    Raises:
        EnvironmentProblem: a package is missing or the disk is too small.
        DataError: teacher or data cannot be used.
        RecipeError: teacher, task and data do not fit together.
    """
    recipe = loaded.recipe
    check_packages(loaded)
    teacher = check_teacher(loaded)
    with tempfile.TemporaryDirectory(prefix="kdc-check-") as cache:
        splits = load_splits(loaded, Path(cache))
    notes = [*splits.notes, *check_fit(loaded, teacher, splits)]
    longest = recipe.student.max_length or 128
    if (lead := lead_of(recipe.teacher)) is not None:
        longest = lead.max_length
    tokens, read = (estimate.mean_tokens(rows, longest) for rows in (splits.train, splits.train.for_teacher))
    stages = estimate.stages(recipe, teacher, splits, tokens, read)
    disk = sum(stage["disk_bytes"] for stage in stages)
    free = check_disk(disk, runs)
    return {
        "name": recipe.name,
        "digest": recipe.digest,
        "runs": str(runs),
        "data": {
            "train": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
            "unlabeled": 0 if splits.unlabeled is None else len(splits.unlabeled),
            "labels": len(splits.labels),
            "answers": task_kind(recipe.task, splits).described(splits.train),
            "tokens": round(tokens, 1),
        },
        "teacher": teacher,
        "stages": stages,
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
        "disk_bytes": disk,
        "cache_bytes": estimate.cache_bytes(recipe, teacher, splits),
        "free_bytes": free,
        "notes": notes,
        "assumptions": estimate.assumptions(),
    }


def check_packages(loaded: LoadedRecipe) -> None:
    """Are the packages installed that the recipe needs? Nothing is imported.

    Raises:
        EnvironmentProblem: with the command that installs them.
    """
    missing = missing_for_training()
    if missing:
        raise EnvironmentProblem(f"training needs {', '.join(missing)}: {install_hint('train')}")
    method = loaded.recipe.quantize.method
    for package, extra in OPENVINO.get(method or "", {}).items():
        if not available(package):
            raise EnvironmentProblem(
                f"quantize.method: {method} needs the package {package!r}, which is not installed: "
                f"{install_hint(extra)}"
            )
    for index, export in enumerate(loaded.recipe.export):
        if isinstance(export, TensorRTExport) and not available(ENGINES[export.to]):
            raise EnvironmentProblem(
                f"export.{index}.to: {export.to} needs the package {ENGINES[export.to]!r}, "
                f"which is not installed: {install_hint(export.to)}"
            )
    if loaded.recipe.bench.asks_loadgen and not available("mlperf_loadgen"):
        raise EnvironmentProblem(
            "bench asks by MLPerf LoadGen, which needs the package 'mlperf_loadgen', which is not installed: "
            + install_hint("bench")
        )


def check_disk(needed: int, runs: Path) -> int:
    """Free bytes where the runs are.

    Raises:
        RecipeError: the place is a file.
        EnvironmentProblem: fewer than needed, or nothing can be written there.
    """
    place = runs
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise RecipeError(f"--runs {runs}: {place} is a file, but a folder is needed; name another path")
    if not os.access(place, os.W_OK):
        raise EnvironmentProblem(f"--runs {runs}: no permission to write in {place}; name another folder")
    free = free_bytes(runs)
    if needed > free:
        raise EnvironmentProblem(
            f"the run needs about {needed:,} bytes in {runs}, but {free:,} are free; free some space, "
            "or name another folder with --runs"
        )
    return free


def check_fit(loaded: LoadedRecipe, teacher: dict[str, Any], splits: Splits) -> list[str]:
    """Do teacher, data, task and limits fit together? All that would else end the run after long work.

    Returns:
        what the teacher is taken to mean where it does not say so.

    Raises:
        RecipeError: a metric, layer or method that cannot be.
        DataError: the teacher's labels or scores are not those of the data.
    """
    recipe = loaded.recipe
    kind = task_kind(recipe.task, splits)
    gate = recipe.gates.quality
    if gate is not None and gate.metric not in kind.measured:
        raise RecipeError(
            f"gates.quality.metric is {gate.metric}, which this task does not have; choose one of "
            f"{', '.join(kind.measured)} ({kind.metric.name} is the one that picks checkpoints)"
        )
    if recipe.gates.p99_ms is not None and "single-stream" not in recipe.bench.scenarios:
        raise RecipeError("gates.p99_ms needs single-stream among bench.scenarios; add it, or leave the gate out")
    if (items := items_of(loaded)) is not None:
        _check_items(items, recipe, kind)
    layer_map_of(recipe.student, teacher.get("layers"))
    if isinstance(recipe.student, TwoTowerStudent):
        check_two_tower(splits.labels, two_texts=kind.two_texts)
    if isinstance(recipe.student, LayeredStudent):
        _check_layers(recipe.student, teacher)
    if isinstance(recipe.student, TransformerStudent) and recipe.distill.relation_stages:
        _check_relations(recipe.student, teacher, f"distill.stages.{recipe.distill.relation_stages[0]}")
    notes = []
    for (key, section), found in zip(teachers_of(recipe.teacher), teacher.get("members", [teacher]), strict=True):
        with told_of(key):
            if isinstance(section, ScoresTeacher):
                _check_scores(loaded, section, splits, kind)
            else:
                notes += _check_head(section, found, splits)
                _check_folds(section, splits, recipe.seed, key)
    return notes


def _check_items(path: Path, recipe: Recipe, kind: TaskKind) -> None:
    """Every line is read: an item that cannot be used would end the run at its last stage."""
    if not kind.two_texts or (kind.positive is None and not recipe.task.numbers):
        why = "these have several labels and none is a match" if kind.two_texts else "rows of these data have one text"
        raise RecipeError(
            f"bundle.items are second texts to be ranked for a first one by one number, and {why}: leave it out"
        )
    for _ in read_items(path, recipe.data.joined_columns):
        pass


def _check_layers(student: LayeredStudent, teacher: dict[str, Any]) -> None:
    """What is not known of a teacher on a hub is looked at when it is there."""
    kind, width = teacher["kind"], teacher.get("hidden")
    if isinstance(student, TwoTowerStudent) and kind != "hub":
        check_towers_origin(student, kind)
    if student.cuts_layers and width:
        check_narrow(student, (width, teacher.get("heads"), teacher.get("intermediate")), model=kind)
    anew = student.hidden or (DEFAULT_WIDTH if kind == "scores" else width)
    if not student.cuts_layers and anew:
        head_count(student, anew)
    if anew:
        check_factored(student, anew)


def _check_relations(student: TransformerStudent, teacher: dict[str, Any], stage: str) -> None:
    """What is not known of a teacher on a hub is looked at when it is there."""
    if processes() > 1:
        raise RecipeError(
            f"{stage}.losses.relations compares tokens inside the model, of which {processes()} processes see a share "
            "each: leave it out, or train in one process"
        )
    kind, heads, width = teacher["kind"], teacher.get("heads"), student.hidden or teacher.get("hidden")
    if kind != "hub" and kind not in ATTENTION:
        raise RecipeError(
            f"{stage}.losses.relations needs one of {', '.join(ATTENTION)} as teacher, and this one is {kind}: "
            "leave it out"
        )
    if heads and width and width % heads:
        raise RecipeError(
            f"{stage}.losses.relations: the teacher's {heads} attention heads do not divide student.hidden, which is "
            f"{width}: set it to a multiple of {heads}"
        )


def _check_scores(loaded: LoadedRecipe, teacher: ScoresTeacher, splits: Splits, kind: TaskKind) -> None:
    from compress.teachers.scores import read_scores, rows_for

    rows, logits, _ = read_scores(teacher, loaded.folder, kind.labels, kind.positive, kind.standard)
    rows_for(splits.transfer.ids, rows, logits, "train")
    if loaded.recipe.teacher.calibrate:
        rows_for(splits.validation.ids, rows, logits, "validation, on which teacher.calibrate is fitted")


def _check_folds(section: HuggingFaceTeacher, splits: Splits, seed: int, key: str) -> None:
    """Whether the training rows can be dealt; that another seed deals them elsewhere makes no difference."""
    if section.train is not None and section.train.folds is not None:
        deal_folds(splits.train, section.train.folds, seed, names=splits.labels, key=f"{key}.train.folds")


def _check_head(section: HuggingFaceTeacher, teacher: dict[str, Any], splits: Splits) -> list[str]:
    """A trained teacher must answer with the labels of the data."""
    named = teacher.get("labels")
    if named is None:
        return []
    from compress.teachers.head import match_labels

    match_labels(dict(enumerate(named)), splits.labels, section.model)
    if (
        len(splits.labels) == 1
        or len(named) != len(splits.labels)
        or named != [f"LABEL_{i}" for i in range(len(named))]
    ):
        return []
    taken = ", ".join(f"{name} as {label}" for name, label in zip(named[:4], splits.labels, strict=False))
    return [
        f"the teacher's head does not name its outputs, so they are taken in the order of the labels ({taken}"
        f"{' …' if len(named) > 4 else ''}); if that is wrong, set id2label in its config.json"
    ]

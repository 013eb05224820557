"""`kdc check`: can this recipe run here, and what would it do? Cheap questions first; no work is done."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from compress import estimate
from compress.artifacts import free_bytes
from compress.batch import Splits
from compress.data.load import load_splits
from compress.doctor import missing_for_training
from compress.errors import EnvironmentProblem
from compress.extras import available, install_hint
from compress.recipe import HuggingFaceTeacher, LoadedRecipe, TensorRTExport
from compress.teachers.load import check_teacher

ENGINES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Export format, which is also the extra's name -> importable package."""


def plan(loaded: LoadedRecipe, runs: Path) -> dict[str, Any]:
    """Check environment, teacher and data, in this order, and estimate the run.

    Returns plain data: name, digest, runs, data (rows of each split, labels, tokens a row), teacher,
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
    check_head(loaded, teacher, splits)
    longest = recipe.student.max_length or 128
    if isinstance(recipe.teacher, HuggingFaceTeacher):
        longest = recipe.teacher.max_length
    tokens = estimate.mean_tokens(splits.train, longest)
    stages = estimate.stages(recipe, teacher, splits, tokens)
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
            "tokens": round(tokens, 1),
        },
        "teacher": teacher,
        "stages": stages,
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
        "disk_bytes": disk,
        "cache_bytes": estimate.cache_bytes(recipe, teacher, splits),
        "free_bytes": free,
        "notes": list(splits.notes),
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
    for index, export in enumerate(loaded.recipe.export):
        if isinstance(export, TensorRTExport) and not available(ENGINES[export.to]):
            raise EnvironmentProblem(
                f"export.{index}.to: {export.to} needs the package {ENGINES[export.to]!r}, "
                f"which is not installed: {install_hint(export.to)}"
            )


def check_disk(needed: int, runs: Path) -> int:
    """Free bytes where the runs are.

    Raises:
        EnvironmentProblem: fewer than needed.
    """
    free = free_bytes(runs)
    if needed > free:
        raise EnvironmentProblem(
            f"the run needs about {needed:,} bytes in {runs}, but {free:,} are free; free some space, "
            "or name another folder with --runs"
        )
    return free


def check_head(loaded: LoadedRecipe, teacher: dict[str, Any], splits: Splits) -> None:
    """A trained teacher must answer with the labels of the data."""
    if teacher.get("labels") is None or not isinstance(loaded.recipe.teacher, HuggingFaceTeacher):
        return
    from compress.teachers.huggingface import match_labels

    match_labels(dict(enumerate(teacher["labels"])), splits.labels, loaded.recipe.teacher.model)

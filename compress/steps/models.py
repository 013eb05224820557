"""The models of a teacher: which there are, and what each depends on. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compress.recipe import HuggingFaceMember, HuggingFaceTeacher, OneTeacher, digest, teachers_of
from compress.steps.context import Run

TEACHER_VERSION = 1
"""Raised when the same section makes another model."""


@dataclass(frozen=True)
class Model:
    """One model of a teacher.

    number: of the teacher among several, from 0. key: where the recipe says `section`. fold: whose rows it has not
    seen, from 0; None for the model of all rows.
    """

    number: int
    key: str
    section: HuggingFaceTeacher
    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return str(self.number) if self.fold is None else f"{self.number}-fold-{self.fold + 1}"

    @property
    def folds(self) -> int:
        """How many the recipe asks for; 0 for none."""
        train = self.section.train
        return 0 if train is None or train.folds is None else train.folds


def model_of(run: Run, number: int, key: str, section: HuggingFaceTeacher) -> Model:
    """The model of all rows of one teacher."""
    own = section.seed if isinstance(section, HuggingFaceMember) else None
    return Model(number, key, section, run.recipe.seed if own is None else own)


def fold_models(model: Model) -> list[Model]:
    """The models of a teacher's folds."""
    return [Model(model.number, model.key, model.section, model.seed, fold) for fold in range(model.folds)]


def models_of(run: Run) -> Iterator[Model]:
    """Every model of the run's teacher: of each that is one the model of all rows, then those of its folds."""
    for number, (key, section) in enumerate(teachers_of(run.recipe.teacher)):
        if isinstance(section, HuggingFaceTeacher):
            model = model_of(run, number, key, section)
            yield from (model, *fold_models(model))


def teacher_depends(run: Run, section: OneTeacher, seed: int) -> dict[str, Any]:
    """What the model or the measured scores of one teacher depend on; nothing of what is done with its answers."""
    own = section.model_dump(mode="json", exclude={"model", "path", "calibrate", "weight", "seed"})
    if own.get("train"):
        own["train"].pop("folds", None)
    return {
        "section": own,
        "identity": run.identity(section),
        "task": run.recipe.task.model_dump(),
        "data": run.labelled,
        "seed": seed,
        "bf16": run.bf16 if own.get("train") else None,
    }


def model_key(run: Run, model: Model) -> str:
    """The key of a model; that of one of all rows is the key of the stage in a run with this teacher alone."""
    fold = {} if model.fold is None else {"fold": [model.fold, model.folds]}
    depends = teacher_depends(run, model.section, model.seed)
    return digest({"stage": "teacher", "version": TEACHER_VERSION, **depends, **fold})

"""The recipe: what a run shall do, as frozen pydantic models. Loading one has no side effects and imports no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.recipe.aware import Aware
from compress.recipe.base import Epochs, LearningRate, Metric, Section
from compress.recipe.data import Column, Columns, Data, FilesData, Fraction, SimulatedShop, Split, TableSource, Transfer
from compress.recipe.distill import Distill, Losses, Schedule, Stage, TemperatureSchedule
from compress.recipe.privileged import privileged_misfit
from compress.recipe.shipping import (
    AUTO,
    Bench,
    BundleSection,
    EngineBuilder,
    EnginePrecision,
    Export,
    Gates,
    Gpu,
    OnnxExport,
    QualityGate,
    Quantize,
    TensorRTExport,
    incapable,
)
from compress.recipe.student import (
    ConvolutionStudent,
    LayeredStudent,
    MobileStudent,
    ResidualStudent,
    StaticStudent,
    Student,
    TokenStudent,
    TransformerStudent,
    TwoTowerStudent,
    Vocabulary,
)
from compress.recipe.task import ClassificationTask, PairsTask, RankingTask, RegressionTask, Task
from compress.recipe.teacher import (
    HuggingFaceMember,
    HuggingFaceTeacher,
    OneTeacher,
    ScoresTeacher,
    SeveralTeachers,
    Teach,
    Teacher,
    is_plain,
    lead_of,
    teachers_of,
)

__all__ = [
    "AUTO",
    "Aware",
    "Bench",
    "BundleSection",
    "ClassificationTask",
    "Column",
    "Columns",
    "ConvolutionStudent",
    "Data",
    "Distill",
    "EngineBuilder",
    "EnginePrecision",
    "Epochs",
    "Export",
    "FilesData",
    "Fraction",
    "Gates",
    "Gpu",
    "HuggingFaceMember",
    "HuggingFaceTeacher",
    "LayeredStudent",
    "LearningRate",
    "LoadedRecipe",
    "Losses",
    "Metric",
    "MobileStudent",
    "OneTeacher",
    "OnnxExport",
    "PairsTask",
    "QualityGate",
    "Quantize",
    "RankingTask",
    "Recipe",
    "RegressionTask",
    "ResidualStudent",
    "Schedule",
    "ScoresTeacher",
    "Section",
    "SeveralTeachers",
    "SimulatedShop",
    "Split",
    "Stage",
    "StaticStudent",
    "Student",
    "TableSource",
    "Task",
    "Teach",
    "Teacher",
    "TemperatureSchedule",
    "TensorRTExport",
    "TokenStudent",
    "Transfer",
    "TransformerStudent",
    "TwoTowerStudent",
    "Vocabulary",
    "digest",
    "incapable",
    "is_plain",
    "lead_of",
    "teachers_of",
]


class Recipe(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    """Name of the run and of the bundle: letters, digits, `.`, `_`, `-`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 7
    """The one seed of everything random."""
    task: Task
    """What an answer is."""
    data: Data
    """What to learn from."""
    teacher: Teacher
    """Whom to learn from."""
    student: Student
    """What to build."""
    distill: Distill = Distill()
    """How to train it."""
    quantize: Quantize = Quantize()
    """How to shrink it."""
    export: tuple[Export, ...] = (OnnxExport(to="onnx"),)
    """What to export; ONNX is always made."""
    bench: Bench = Bench()
    """What to time."""
    gates: Gates = Gates()
    """What must hold."""
    bundle: BundleSection = BundleSection()
    """What to ship."""

    @model_validator(mode="after")
    def _fits_task(self) -> Recipe:
        kind, made = self.task.kind, self.data.transfer
        if self.task.second_text == "none" and isinstance(self.student, TwoTowerStudent):
            raise ValueError(
                f"student.kind: two-tower compares two texts, and task.kind: {kind} has one; take another student"
            )
        if self.task.second_text == "none" and self.bundle.items is not None:
            raise ValueError(
                f"bundle.items are second texts to be ranked for a first one, and task.kind: {kind} has one text: "
                "leave it out"
            )
        if self.task.second_text == "none" and (made.random_pairs or made.hard_pairs):
            raise ValueError("data.transfer: random_pairs and hard_pairs need two texts; set task.kind: pairs")
        if kind == "regression" and isinstance(self.data, SimulatedShop):
            raise ValueError(
                "the simulated shop has no numbers to learn: for task.kind: regression give data of your own"
            )
        for number, stage in enumerate(self.distill.stages):
            if misfit := stage.misfit(self.task):
                raise ValueError(f"distill.stages.{number}.{misfit}")
        learning = self.quantize.learning
        if learning is not None and (misfit := learning.stage(self.distill).misfit(self.task)):
            raise ValueError(f"quantize.aware.{misfit}")
        return self

    @model_validator(mode="after")
    def _fits_number_task(self) -> Recipe:
        kind = self.task.kind
        if self.task.numbers and self.distill.top_k is not None:
            raise ValueError(
                f"distill.top_k keeps the largest logits of many labels, and a {kind} has one number: leave it out"
            )
        for key, teacher in teachers_of(self.teacher):
            swaps = isinstance(teacher, HuggingFaceTeacher) and teacher.train is not None and teacher.train.swap_pairs
            if swaps and self.task.grouped:
                raise ValueError(
                    f"{key}.train.swap_pairs: a query and a document cannot change places; set it to false"
                )
            if self.task.numbers and isinstance(teacher, ScoresTeacher) and teacher.scale != "detect":
                raise ValueError(
                    f"{key}.scale is for scores of labels; those of a {kind} are taken as they are: leave it out"
                )
        return self

    @model_validator(mode="after")
    def _has_probabilities(self) -> Recipe:
        if not self.task.numbers:
            return self
        has_none = f"the probabilities of labels, which task.kind: {self.task.kind} does not have: leave it out"
        if self.teacher.calibrate:
            raise ValueError(f"teacher.calibrate fits a temperature to {has_none}")
        if isinstance(self.teacher, SeveralTeachers) and self.teacher.gate == "confidence":
            raise ValueError(f"teacher.gate: confidence is told by {has_none}")
        return self

    @model_validator(mode="after")
    def _fits_teacher(self) -> Recipe:
        made, scores = self.data.transfer, lead_of(self.teacher) is None
        files = [each for _, each in teachers_of(self.teacher) if isinstance(each, ScoresTeacher)]
        if files and (made.variants or made.random_pairs or made.hard_pairs):
            raise ValueError("a file of scores cannot answer new rows: leave data.transfer out")
        if scores and self.student.init == "teacher":
            raise ValueError("student.init: teacher needs a teacher model, not a file of scores; set it to random")
        if scores and self.student.vocabulary.train is None:
            raise ValueError("a file of scores brings no tokenizer: set student.vocabulary.train to a size")
        if scores and self.distill.wants_hidden:
            raise ValueError("a file of scores has no hidden states: set losses.hidden and losses.hidden_cosine to 0")
        only_convolutions = self.quantize.operators == ("Conv",)
        if self.quantize.method == "static" and self.student.quantization != "static" and only_convolutions:
            raise ValueError(
                f"quantize.method: static measures the ranges of convolutions, and a {self.student.kind} student has "
                f"none; set it to {self.student.quantization}"
            )
        return self

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Recipe:
        if misfit := self.quantize.misfit(self.quantize.method or self.student.quantization):
            raise ValueError(misfit)
        return self

    @model_validator(mode="after")
    def _fits_privileged(self) -> Recipe:
        if misfit := privileged_misfit(self.data, self.teacher, self.distill):
            raise ValueError(misfit)
        return self

    @model_validator(mode="after")
    def _members_differ(self) -> Recipe:
        seen: list[dict[str, Any]] = []
        for key, member in teachers_of(self.teacher):
            said = member.model_dump(exclude={"weight"})
            said |= {"seed": self.seed} if said.get("train") and said.get("seed") is None else {}
            if said in seen:
                raise ValueError(
                    f"teacher.members.{seen.index(said)} and {key} are the same: give one another seed, or leave it "
                    "out and raise the weight of the other"
                )
            seen.append(said)
        return self

    @model_validator(mode="after")
    def _fits_relations(self) -> Recipe:
        if not self.distill.relation_stages:
            return self
        key = f"distill.stages.{self.distill.relation_stages[0]}.losses.relations"
        vocabulary, longest, lead = self.student.vocabulary, self.student.max_length, lead_of(self.teacher)
        if lead is None:
            raise ValueError(f"{key} compares attention, and a file of scores has none: leave it out")
        if not isinstance(self.student, TransformerStudent):
            raise ValueError(f"{key} compares attention, and a {self.student.kind} student has none: leave it out")
        if vocabulary.keep is not None or vocabulary.train is not None:
            name = "train" if vocabulary.keep is None else "keep"
            raise ValueError(
                f"{key} compares tokens with the teacher's, and student.vocabulary.{name} gives the student others: "
                "leave one of the two out"
            )
        if longest is not None and longest > lead.max_length:
            raise ValueError(
                f"{key} lets the teacher read what the student reads, but student.max_length is {longest} and "
                f"teacher.max_length {lead.max_length}: lower the student's"
            )
        return self

    def dump(self) -> dict[str, Any]:
        """The recipe as plain data, defaults included."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the resolved recipe."""
        return digest(self.dump())


def digest(value: Any) -> str:
    """SHA-256 (hex) of plain data in canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class LoadedRecipe(BaseModel):
    """A recipe and the file it came from, against which its relative paths are meant."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    path: Path

    @property
    def folder(self) -> Path:
        """Folder that relative paths start from."""
        return self.path.parent

    def data_root(self) -> Path:
        """Folder before the data's relative paths."""
        root = self.recipe.data.root if isinstance(self.recipe.data, FilesData) else None
        return self.folder if root is None else (self.folder / root)

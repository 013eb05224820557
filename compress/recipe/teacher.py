"""`teacher`: whom to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from compress.recipe.base import Epochs, LearningRate, Section


class Teach(Section):
    """Fine-tune the encoder on the labelled rows before it teaches."""

    epochs: Epochs = 6
    """Passes over the training rows at the most."""
    learning_rate: LearningRate = 1e-4
    """Peak rate of the body, AdamW, linear warm-up and decay."""
    head_learning_rate: LearningRate = 1e-3
    """Peak rate of the new classification head."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in a step."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Stop after this many epochs without a better validation metric."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the target spread over all classes, where there are; keeps the soft targets informative."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average of the weights, a step; 0 is off."""
    swap_pairs: bool = False
    """Show each pair also in the other order; right only where the order means nothing (matching)."""
    folds: Annotated[int | None, Field(ge=2, le=10, exclude_if=lambda count: count is None)] = None
    """Answer the training rows by K further models, each taught without the rows it answers; absent for off."""


class TeacherSection(Section):
    """What the sections of all kinds of teacher say."""

    calibrate: Annotated[bool, Field(exclude_if=lambda calibrate: not calibrate)] = False
    """Divide what the student learns from by one temperature, fitted on validation; for tasks with labels."""


class HuggingFaceTeacher(TeacherSection):
    """Any AutoModelForSequenceClassification, trained, or an encoder to train first."""

    kind: Literal["huggingface"] = "huggingface"
    """The kind of teacher."""
    model: str
    """Directory, hub id, or `package:NAME` for weights inside an installed Python package."""
    revision: str = "main"
    """For a hub id: branch, tag or commit; only a commit is sure to stay the same."""
    max_length: Annotated[int, Field(ge=4, le=8192)] = 128
    """Tokens of an input at the most, special tokens included."""
    train: Teach | None = None
    """Fine-tune first; absent for a teacher that is already trained."""
    trust_remote_code: bool = False
    """Run code that comes with the model; off unless asked for."""


class ScoresTeacher(TeacherSection):
    """A file of scores computed elsewhere, one row for each id."""

    kind: Literal["scores"]
    """The kind of teacher."""
    path: str
    """csv, tsv, jsonl or parquet with the column `id` and one column for each label, or `score`: a margin or number."""
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = None
    """File format; from the file's ending when absent."""
    scale: Literal["detect", "logits", "probabilities", "margins"] = "detect"
    """What the numbers are; detected from their range when not given, and said."""


Weight = Annotated[float, Field(gt=0)]


class HuggingFaceMember(HuggingFaceTeacher):
    """A model among several teachers."""

    weight: Weight = 1.0
    """How much it counts; the weights of all members are taken as shares of their sum."""
    seed: Annotated[int | None, Field(ge=0, lt=2**31)] = None
    """Of its new head and the order of its rows where it is fine-tuned; the recipe's when absent."""

    @model_validator(mode="after")
    def _seeds_a_training(self) -> HuggingFaceMember:
        if self.seed is not None and self.train is None:
            raise ValueError(f"seed {self.seed} is of a training, and there is no train: leave it out, or add train")
        return self


class ScoresMember(ScoresTeacher):
    """A file of scores among several teachers."""

    weight: Weight = 1.0
    """How much it counts; the weights of all members are taken as shares of their sum."""


def _teacher_kind(value: Any) -> str:
    return str(value.get("kind", "huggingface") if isinstance(value, dict) else getattr(value, "kind", "huggingface"))


Member = Annotated[
    Annotated[HuggingFaceMember, Tag("huggingface")] | Annotated[ScoresMember, Tag("scores")],
    Discriminator(_teacher_kind),
]


class SeveralTeachers(TeacherSection):
    """Several teachers whose answers are mixed; the first model among them leads: hidden states and start are its."""

    kind: Literal["several"]
    """The kind of teacher."""
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    """The teachers, each a model or a file of scores; models that differ in `seed` alone make an ensemble."""
    gate: Literal["none", "confidence"] = "none"
    """Weights as given, or on each row multiplied by how sure the member is there; for tasks with labels."""

    @model_validator(mode="after")
    def _makes_sense(self) -> SeveralTeachers:
        if self.gate != "none" and len(self.members) == 1:
            raise ValueError(f"gate: {self.gate} weighs members against each other, and there is one: leave it out")
        for number, member in enumerate(self.members):
            if member.calibrate:
                raise ValueError(
                    f"members.{number}.calibrate: of several teachers the mixture is calibrated: set teacher.calibrate"
                )
        return self


Teacher = Annotated[
    Annotated[HuggingFaceTeacher, Tag("huggingface")]
    | Annotated[ScoresTeacher, Tag("scores")]
    | Annotated[SeveralTeachers, Tag("several")],
    Discriminator(_teacher_kind),
]
OneTeacher = HuggingFaceTeacher | ScoresTeacher


def teachers_of(teacher: OneTeacher | SeveralTeachers) -> Iterator[tuple[str, OneTeacher]]:
    """Each teacher with its key in the recipe: the section itself, or the members of several."""
    if isinstance(teacher, SeveralTeachers):
        yield from ((f"teacher.members.{number}", member) for number, member in enumerate(teacher.members))
    else:
        yield "teacher", teacher


def is_plain(teacher: OneTeacher | SeveralTeachers) -> bool:
    """Whether it is one model or one file of scores, so that a run's `teacher/` holds that and nothing more."""
    return isinstance(teacher, ScoresTeacher) or (
        isinstance(teacher, HuggingFaceTeacher) and (teacher.train is None or teacher.train.folds is None)
    )


def lead_of(teacher: OneTeacher | SeveralTeachers) -> HuggingFaceTeacher | None:
    """The first teacher that is a model: whose hidden states, tokens and weights the student sees; None for scores."""
    return next((each for _, each in teachers_of(teacher) if isinstance(each, HuggingFaceTeacher)), None)

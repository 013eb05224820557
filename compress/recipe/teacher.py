"""`teacher`: whom to learn from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

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


class HuggingFaceTeacher(Section):
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


class ScoresTeacher(Section):
    """A file of scores computed elsewhere, one row for each id."""

    kind: Literal["scores"]
    """The kind of teacher."""
    path: str
    """csv, tsv, jsonl or parquet with the column `id` and one column for each label, or `score`: a margin or number."""
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = None
    """File format; from the file's ending when absent."""
    scale: Literal["detect", "logits", "probabilities", "margins"] = "detect"
    """What the numbers are; detected from their range when not given, and said."""


def _teacher_kind(value: Any) -> str:
    return str(value.get("kind", "huggingface") if isinstance(value, dict) else getattr(value, "kind", "huggingface"))


Teacher = Annotated[
    Annotated[HuggingFaceTeacher, Tag("huggingface")] | Annotated[ScoresTeacher, Tag("scores")],
    Discriminator(_teacher_kind),
]

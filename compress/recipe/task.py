"""`task`: what an answer is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.base import Metric, Section


class ClassificationTask(Section):
    """One text, one of C classes."""

    kind: Literal["classification"]
    """The kind of task."""
    metric: Metric = "macro_f1"
    """Metric that picks checkpoints and is reported first."""
    unseen_labels: Literal["error", "wrong"] = "error"
    """A label in validation or test that training never shows: refuse the data, or count such rows as wrong."""


class PairsTask(Section):
    """Two texts, one of C labels (match or not, or a relevance grade)."""

    kind: Literal["pairs"]
    """The kind of task."""
    positive: str = "1"
    """The label that counts as a match; used when there are exactly two labels."""
    metric: Metric | None = None
    """Metric that picks checkpoints; when absent, f1 of the positive label for two labels, else macro_f1."""
    unseen_labels: Literal["error", "wrong"] = "error"
    """As for classification."""


Task = Annotated[ClassificationTask | PairsTask, Field(discriminator="kind")]

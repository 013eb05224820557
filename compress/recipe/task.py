"""`task`: what an answer is."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from compress.recipe.base import LabelMetric, RankingMetric, RegressionMetric, Section

DEFAULT_CUTOFF = 10


class TaskSection(Section):
    """What the sections of all kinds of task say.

    second_text: whether rows have a second text. numbers: whether labels are numbers, of which a model answers one.
    grouped: whether rows form groups that are split, learned and measured together.
    """

    second_text: ClassVar[Literal["none", "optional", "needed"]]
    numbers: ClassVar[bool] = False
    grouped: ClassVar[bool] = False

    kind: str
    """The kind of task."""


class ClassificationTask(TaskSection):
    """One text, one of C classes."""

    second_text = "none"

    kind: Literal["classification"]
    """The kind of task."""
    metric: LabelMetric = "macro_f1"
    """Metric that picks checkpoints and is reported first."""
    unseen_labels: Literal["error", "wrong"] = "error"
    """A label in validation or test that training never shows: refuse the data, or count such rows as wrong."""


class PairsTask(TaskSection):
    """Two texts, one of C labels (match or not, or a relevance grade)."""

    second_text = "needed"

    kind: Literal["pairs"]
    """The kind of task."""
    positive: str = "1"
    """The label that counts as a match; used when there are exactly two labels."""
    metric: LabelMetric | None = None
    """Metric that picks checkpoints; when absent, f1 of the positive label for two labels, else macro_f1."""
    unseen_labels: Literal["error", "wrong"] = "error"
    """As for classification."""


class RankingTask(TaskSection):
    """A query and a document, one score; the rows of a query form a group that the scores put in order."""

    second_text = "needed"
    numbers = True
    grouped = True

    kind: Literal["ranking"]
    """The kind of task."""
    metric: RankingMetric = "ndcg@10"
    """Metric that picks checkpoints: ndcg@K, mrr@K, recall@K or map; its K is that of all reported metrics, or 10."""
    loss: Literal["pointwise", "listwise", "ranknet", "lambda_rank"] = "listwise"
    """How scores are compared with grades: when the teacher is taught, by the control, and in the `hard` term."""

    @property
    def cutoff(self) -> int:
        """The K of the metrics."""
        return int(self.metric.partition("@")[2] or DEFAULT_CUTOFF)


class RegressionTask(TaskSection):
    """One text or two, one number, such as a rating or a price."""

    second_text = "optional"
    numbers = True

    kind: Literal["regression"]
    """The kind of task."""
    metric: RegressionMetric = "rmse"
    """Metric that picks checkpoints and is reported first."""


Task = Annotated[ClassificationTask | PairsTask | RankingTask | RegressionTask, Field(discriminator="kind")]

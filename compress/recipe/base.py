"""What all sections of a recipe share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LabelMetric = Literal["accuracy", "precision", "recall", "f1", "macro_f1", "weighted_f1", "auc"]
"""Measures of labels, all in 0..1, higher is better."""
RankingMetric = Annotated[str, Field(pattern=r"^(ndcg|mrr|recall)@[1-9][0-9]{0,3}$|^map$")]
"""Measures of an order, all in 0..1, higher is better: ndcg@K, mrr@K, recall@K for a cut-off K, and map."""
RegressionMetric = Literal["rmse", "mae", "spearman"]
"""Measures of numbers: errors in the label's unit, lower is better; Spearman's rank correlation, -1..1."""
Metric = LabelMetric | RegressionMetric | RankingMetric
"""A measure of any kind of task."""


class Section(BaseModel):
    """Base of all recipe sections: frozen, unknown keys refused, the text under a field is its description."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


LearningRate = Annotated[float, Field(gt=0, le=1)]
Epochs = Annotated[int, Field(ge=1, le=1000)]

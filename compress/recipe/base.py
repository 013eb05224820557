"""What all sections of a recipe share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Metric = Literal["accuracy", "precision", "recall", "f1", "macro_f1", "weighted_f1", "auc"]
"""Quality measures, all in 0..1, higher is better."""


class Section(BaseModel):
    """Base of all recipe sections: frozen, unknown keys refused, the text under a field is its description."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


LearningRate = Annotated[float, Field(gt=0, le=1)]
Epochs = Annotated[int, Field(ge=1, le=1000)]

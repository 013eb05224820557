"""`distill`: how the student is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.recipe.base import Epochs, LearningRate, Section

Weight = Annotated[float, Field(ge=0)]
# At 0 the newer terms stay out of a recipe's dump, so that digests of recipes from before them stay the same.
LaterWeight = Annotated[float, Field(ge=0, exclude_if=lambda weight: weight == 0)]


RANKING_TERMS = ("margin_mse", "listwise", "ranknet", "lambda_rank")


class Losses(Section):
    """Weights of the loss terms."""

    soft: Weight = 0.0
    """Weight of KL(teacher || student)·T², or for numbers and scores of the squared difference; mean over the batch."""
    hidden: Weight = 0.0
    """λ of λ·½·Σ‖φ_t − φ_s‖² on hidden states through a learned projection, mean over the batch and mapped layers."""
    hard: Weight = 0.0
    """Weight of the loss against the labels, mean over labelled rows: cross-entropy, squared error or task.loss."""
    margin_mse: LaterWeight = 0.0
    """Ranking: weight of the squared difference of score margins between two rows of a group."""
    listwise: LaterWeight = 0.0
    """Ranking: weight of KL(teacher || student)·T² between the distributions of scores over a group."""
    ranknet: LaterWeight = 0.0
    """Ranking: weight of KL·T² of which of two rows of a group stands higher."""
    lambda_rank: LaterWeight = 0.0
    """Ranking: weight of the pairs that the teacher puts in order, by what swapping them would cost in NDCG."""

    @property
    def ranking(self) -> dict[str, float]:
        """Weights above 0 of the terms that compare the rows of a group."""
        return {name: weight for name in RANKING_TERMS if (weight := getattr(self, name))}


class Stage(Section):
    """One stage of distillation."""

    name: str
    """Shown in progress, logs and plots."""
    epochs: Epochs = 3
    """Passes over the training rows (and the transfer set)."""
    learning_rate: LearningRate = 3e-4
    """Peak rate, AdamW, linear warm-up and decay."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    """T: both sides' logits are divided by it."""
    losses: Losses = Losses(soft=1.0)
    """Weights of the loss terms."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> Stage:
        if not any(self.losses.model_dump().values()):
            raise ValueError("every loss weight is 0: nothing to learn")
        return self


class Distill(Section):
    """How the student is trained."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (
        Stage(name="imitate", epochs=3, losses=Losses(soft=1.0)),
        Stage(name="align", epochs=4, losses=Losses(soft=1.0, hidden=0.1, hard=0.2)),
    )
    """The stages in order; each starts from the best checkpoint of the one before."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in a step; for ranking whole groups, a larger one in parts that are dealt anew each epoch."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Stop a stage after this many epochs without a better validation metric."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """AdamW's weight decay."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto takes bf16 where the processor has it."""
    top_k: Annotated[int | None, Field(ge=1, exclude_if=lambda count: count is None)] = None
    """For many labels: keep each row's K largest teacher logits, all other labels together as one; absent for all."""
    control: bool = True
    """Train the same student on hard labels alone, with as many steps, to show what distillation gained."""

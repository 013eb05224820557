"""`distill`: how the student is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.recipe.base import Epochs, LearningRate, Section

Weight = Annotated[float, Field(ge=0)]


class Losses(Section):
    """Weights of the loss terms."""

    soft: Weight = 0.0
    """Weight of KL(teacher || student)·T², mean over the batch."""
    hidden: Weight = 0.0
    """λ of λ·½·Σ‖φ_t − φ_s‖² on hidden states through a learned projection, mean over the batch and mapped layers."""
    hard: Weight = 0.0
    """Weight of the cross-entropy with the labels, mean over the labelled rows."""


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
        if self.losses.soft == self.losses.hidden == self.losses.hard == 0:
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
    """Rows in a step."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Stop a stage after this many epochs without a better validation metric."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """AdamW's weight decay."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto takes bf16 where the processor has it."""
    control: bool = True
    """Train the same student on hard labels alone, with as many steps, to show what distillation gained."""

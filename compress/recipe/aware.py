"""`quantize.aware`: how the student learns to be quantized."""

from __future__ import annotations

from pydantic import Field, model_validator

from compress.recipe.base import Epochs, LearningRate, Section
from compress.recipe.distill import HIDDEN_TERMS, Distill, Losses, Stage, Temperature, TemperatureSchedule

RATE_SHARE = 0.1
"""Of the last stage's learning rate, where none is given: the student is trained already."""


class Aware(Section):
    """A short distillation of the quantized student; batch size, patience and precision are those of `distill`."""

    epochs: Epochs = 1
    """Passes over the training rows (and the transfer set); 4 bits gain by more."""
    learning_rate: LearningRate | None = Field(default=None)
    """Peak rate, AdamW, linear warm-up and decay; when absent a tenth of the last stage's in `distill`."""
    temperature: Temperature | TemperatureSchedule = 2.0
    """T: both sides' logits are divided by it; a number or `{from: 4.0, to: 1.0, shape: cosine}`."""
    losses: Losses = Losses(soft=1.0)
    """Weights of the loss terms against the teacher's answers and the labels."""

    @model_validator(mode="after")
    def _can_be_compared(self) -> Aware:
        if not self.losses.terms:
            raise ValueError("every loss weight is 0: nothing to learn")
        if hidden := self.losses.among(HIDDEN_TERMS):
            raise ValueError(
                f"losses.{hidden[0]} compares states through a projection, which is not kept after distillation: "
                "leave it out"
            )
        if self.losses.relations:
            raise ValueError("losses.relations compares attention, which is for the stages of distill: leave it out")
        return self

    def stage(self, distill: Distill) -> Stage:
        """As a stage of distillation after those of the recipe."""
        rate = self.learning_rate or RATE_SHARE * distill.stages[-1].learning_rate
        return Stage(
            name="aware", epochs=self.epochs, learning_rate=rate, temperature=self.temperature, losses=self.losses
        )

"""`distill`: how the student is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from compress.recipe.base import Epochs, LearningRate, Section
from compress.recipe.task import TaskSection

Amount = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0, le=100)]


class Schedule(Section):
    """A number that goes from one value to another over the steps of a stage."""

    model_config = ConfigDict(serialize_by_alias=True)  # `from` is no name that Python allows

    from_: Annotated[Amount, Field(alias="from")]
    """Value at the stage's first step."""
    to: Amount
    """Value at its last step; a stage that stops early does not get there."""
    shape: Literal["linear", "cosine"] = "linear"
    """In even steps, or slowly at both ends: half a wave of a cosine."""

    @model_validator(mode="after")
    def _moves(self) -> Schedule:
        if self.from_ == self.to:
            raise ValueError(f"goes from {self.from_:g} to {self.to:g}: write {self.to:g} alone")
        return self


class TemperatureSchedule(Schedule):
    """A schedule of temperatures."""

    from_: Annotated[Temperature, Field(alias="from")]
    """Temperature at the stage's first step."""
    to: Temperature
    """Temperature at its last step; a stage that stops early does not get there."""


Weight = Amount | Schedule
# At 0 the newer terms stay out of a recipe's dump, so that digests of recipes from before them stay the same.
LaterWeight = Annotated[Amount | Schedule, Field(exclude_if=lambda weight: weight == 0)]

HIDDEN_TERMS = ("hidden", "hidden_cosine")
LABEL_TERMS = ("reverse_kl", "jensen_shannon")
RANKING_TERMS = ("margin_mse", "listwise", "ranknet", "lambda_rank")
RANKING_BY_TEMPERATURE = ("listwise", "ranknet")


class Losses(Section):
    """Weights of the loss terms, each a number or `{from: 1.0, to: 0.2, shape: linear}`."""

    soft: Weight = 0.0
    """Weight of KL(teacher || student)·T², or for numbers and scores of the squared difference; mean over the batch."""
    hidden: Weight = 0.0
    """λ of λ·½·Σ‖φ_t − φ_s‖² on hidden states through a learned projection, mean over the batch and mapped layers."""
    hard: Weight = 0.0
    """Weight of the loss against the labels, mean over labelled rows: cross-entropy, squared error or task.loss."""
    hidden_cosine: LaterWeight = 0.0
    """Weight of 1 − cos(φ_t, φ_s) of the same states through the same projection, mean over batch and mapped layers."""
    relations: LaterWeight = 0.0
    """Transformer with the teacher's tokens: weight of KL(teacher || student) between how queries, keys and values of
    the tokens stand to each other, in the last layer and the teacher's behind it; the teacher reads each batch anew."""
    reverse_kl: LaterWeight = 0.0
    """Labels: weight of KL(student || teacher)·T², mean over the batch."""
    jensen_shannon: LaterWeight = 0.0
    """Labels: weight of the Jensen-Shannon divergence·T², mean over the batch; its pull is a quarter of the KL's."""
    margin_mse: LaterWeight = 0.0
    """Ranking: weight of the squared difference of score margins between two rows of a group."""
    listwise: LaterWeight = 0.0
    """Ranking: weight of KL(teacher || student)·T² between the distributions of scores over a group."""
    ranknet: LaterWeight = 0.0
    """Ranking: weight of KL·T² of which of two rows of a group stands higher."""
    lambda_rank: LaterWeight = 0.0
    """Ranking: weight of the pairs that the teacher puts in order, by what swapping them would cost in NDCG."""

    @property
    def terms(self) -> dict[str, Weight]:
        """Weights by term, without those of 0."""
        return {name: weight for name in type(self).model_fields if (weight := getattr(self, name))}

    def among(self, names: tuple[str, ...]) -> list[str]:
        """Those of the names that have a weight."""
        return [name for name in self.terms if name in names]


class Stage(Section):
    """One stage of distillation."""

    name: str
    """Shown in progress, logs and plots."""
    epochs: Epochs = 3
    """Passes over the training rows (and the transfer set)."""
    learning_rate: LearningRate = 3e-4
    """Peak rate, AdamW, linear warm-up and decay."""
    temperature: Temperature | TemperatureSchedule = 2.0
    """T: both sides' logits are divided by it; a number or `{from: 4.0, to: 1.0, shape: cosine}`."""
    losses: Losses = Losses(soft=1.0)
    """Weights of the loss terms."""
    weighting: Annotated[Literal["fixed", "uncertainty"], Field(exclude_if=lambda weighting: weighting == "fixed")] = (
        "fixed"
    )
    """Weights as in `losses`, or learned from there, each by how uncertain its term is."""
    confidence: Annotated[bool, Field(exclude_if=lambda confidence: not confidence)] = False
    """Rows count in soft, reverse_kl and jensen_shannon by the probability that the teacher gives their label."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> Stage:
        if not self.losses.terms:
            raise ValueError("every loss weight is 0: nothing to learn")
        return self

    @model_validator(mode="after")
    def _terms_for_all(self) -> Stage:
        terms = self.losses.terms
        scheduled = [name for name, weight in terms.items() if isinstance(weight, Schedule)]
        if self.weighting == "uncertainty" and len(terms) < 2:
            raise ValueError(
                f"weighting: uncertainty weighs terms against each other, and losses has {next(iter(terms))} alone: "
                "add another, or leave weighting out"
            )
        if self.weighting == "uncertainty" and scheduled:
            raise ValueError(
                f"weighting: uncertainty learns the weights, but losses.{scheduled[0]} has a schedule: "
                "give it a number, or leave weighting out"
            )
        if self.confidence and not self.losses.among(("soft", *LABEL_TERMS)):
            raise ValueError("confidence weighs the rows of soft, reverse_kl and jensen_shannon, and losses has none")
        return self

    def misfit(self, task: TaskSection) -> str | None:
        """What the stage wants of a task that does not have it, as the rest of a sentence after the stage's key."""
        kind, ranking, labels = task.kind, self.losses.among(RANKING_TERMS), self.losses.among(LABEL_TERMS)
        if ranking and not task.grouped:
            return (
                f"losses.{ranking[0]} compares the rows of a query, which only task.kind: ranking has, and this is "
                f"{kind}: leave it out"
            )
        if labels and task.numbers:
            return (
                f"losses.{labels[0]} compares the probabilities of labels, which task.kind: {kind} does not have: "
                "use soft"
            )
        if self.confidence and task.numbers:
            return f"confidence is the probability of a label, which task.kind: {kind} does not have: leave it out"
        heated = self.losses.among(RANKING_BY_TEMPERATURE if task.numbers else ("soft", *LABEL_TERMS))
        if isinstance(self.temperature, Schedule) and not heated:
            return f"temperature has a schedule, but no term of losses has a temperature for task.kind: {kind}"
        return None


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
    average: Annotated[float, Field(ge=0, lt=1, exclude_if=lambda decay: decay == 0)] = 0.0
    """Decay of an exponential moving average of the weights, a step, which is judged and kept; 0 is off."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto takes bf16 where the processor has it."""
    top_k: Annotated[int | None, Field(ge=1, exclude_if=lambda count: count is None)] = None
    """For many labels: keep each row's K largest teacher logits, all other labels together as one; absent for all."""
    control: bool = True
    """Train the same student on hard labels alone, with as many steps, to show what distillation gained."""

    @model_validator(mode="after")
    def _knows_each_label(self) -> Distill:
        weighed = [place for place, stage in enumerate(self.stages) if stage.confidence]
        if self.top_k is not None and weighed:
            raise ValueError(
                f"stages.{weighed[0]}.confidence needs the teacher's probability of every label, of which top_k keeps "
                "the largest alone: leave one of the two out"
            )
        return self

    @property
    def wants_hidden(self) -> bool:
        """Whether a stage compares hidden states, so that the teacher's have to be kept."""
        return any(stage.losses.among(HIDDEN_TERMS) for stage in self.stages)

    @property
    def relation_stages(self) -> list[int]:
        """Stages in which the teacher reads each batch beside the student."""
        return [number for number, stage in enumerate(self.stages) if stage.losses.relations]

"""The judge of every model: validation picks checkpoint and threshold, test is only reported."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from compress.batch import Encoded, Examples, Floats, Splits
from compress.data.encode import encode_examples
from compress.predict import predict_logits
from compress.recipe import Task
from compress.runtime.text import TextEncoder
from compress.tasks.kinds import task_kind
from compress.text_model import TextModel


@dataclass(frozen=True)
class Verdict:
    """Measures of one model: on validation and test with the threshold that is best on validation."""

    validation: dict[str, float]
    test: dict[str, float]
    threshold: float | None


class Judge:
    """Measures models on one run's splits; `metric` is the name of the measure that counts, `kind.metric`."""

    def __init__(self, splits: Splits, task: Task) -> None:
        self.splits = splits
        self.kind = task_kind(task, splits)
        self.metric = self.kind.metric.name

    def _rows(self, split: str) -> Examples:
        return self.splits.validation if split == "validation" else self.splits.test

    def threshold(self, logits: Floats) -> float | None:
        """The threshold that is best on validation, for its logits [N, C]; None for tasks without one."""
        return self.kind.threshold(self.kind.scores(logits), self.splits.validation)

    def measure(self, logits: Floats, split: str, threshold: float | None) -> dict[str, float]:
        """Measures of logits [N, C] on the split `validation` or `test`."""
        return self.kind.measure(self.kind.scores(logits), self._rows(split), threshold)

    def verdict(self, validation: Floats, test: Floats) -> Verdict:
        """Measures from validation and test logits."""
        threshold = self.threshold(validation)
        return Verdict(
            self.measure(validation, "validation", threshold),
            self.measure(test, "test", threshold),
            threshold,
        )

    def validate(self, module: TextModel, encoded: Encoded, device: torch.device, bf16: bool) -> float:
        """The metric that counts, on validation."""
        logits = predict_logits(module, encoded, device, bf16=bf16)
        return self.measure(logits, "validation", self.threshold(logits))[self.metric]

    def full(self, module: TextModel, encoder: TextEncoder, device: torch.device) -> Verdict:
        """Validation and test in full precision."""
        both = (self.splits.validation, self.splits.test)
        validation, test = (predict_logits(module, encode_examples(encoder, rows), device) for rows in both)
        return self.verdict(validation, test)

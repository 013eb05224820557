"""The judge of every model: validation picks checkpoint and threshold, test is only reported."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from compress.batch import Encoded, Floats, Splits
from compress.data.encode import encode_examples
from compress.decide import best_threshold, softmax
from compress.predict import predict_logits
from compress.recipe import Metric, Task
from compress.runtime.text import TextEncoder
from compress.tasks.metrics import evaluate, positive_label, primary_metric
from compress.text_model import TextModel


@dataclass(frozen=True)
class Verdict:
    """Measures of one model: on validation and test with the threshold that is best on validation."""

    validation: dict[str, float]
    test: dict[str, float]
    threshold: float | None


class Judge:
    """Measures models on one run's splits."""

    def __init__(self, splits: Splits, task: Task) -> None:
        self.splits, self.task = splits, task
        self.positive = positive_label(task, splits.labels)
        self.metric: Metric = primary_metric(task, splits.labels)

    def threshold(self, logits: Floats) -> float | None:
        """The threshold that is best on validation, for its logits [N, C]; None without a positive label."""
        labels = self.splits.validation.labels
        if self.positive is None or labels is None:
            return None
        index = self.splits.labels.index(self.positive)
        return best_threshold(softmax(logits)[:, index], labels == index)

    def measure(self, logits: Floats, split: str, threshold: float | None) -> dict[str, float]:
        """Measures of logits [N, C] on the split `validation` or `test`."""
        labels = (self.splits.validation if split == "validation" else self.splits.test).labels
        if labels is None:
            raise ValueError(f"the split {split} has no labels")
        return evaluate(softmax(logits), labels, self.splits.labels, self.positive, threshold)

    def verdict(self, validation: Floats, test: Floats) -> Verdict:
        """Measures from validation and test logits."""
        threshold = self.threshold(validation)
        return Verdict(
            self.measure(validation, "validation", threshold),
            self.measure(test, "test", threshold),
            threshold,
        )

    def validate(self, module: TextModel, encoded: Encoded, device: torch.device, bf16: bool) -> float:
        """The primary metric on validation."""
        logits = predict_logits(module, encoded, device, bf16=bf16)
        return self.measure(logits, "validation", self.threshold(logits))[self.metric]

    def full(self, module: TextModel, encoder: TextEncoder, device: torch.device) -> Verdict:
        """Validation and test in full precision."""
        both = (self.splits.validation, self.splits.test)
        validation, test = (predict_logits(module, encode_examples(encoder, rows), device) for rows in both)
        return self.verdict(validation, test)

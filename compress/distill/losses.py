"""The objectives, one convention: KL(teacher || student)·T², mean over the rows, zero when the two agree.

Hinton et al. 2015 (https://arxiv.org/abs/1503.02531) for soft targets; FitNets (https://arxiv.org/abs/1412.6550)
for hidden states. L = −Σ y_t log y_s differs from the KL only by the teacher's entropy, which no gradient
sees; leaving it out would make a perfect student's loss look bad.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.errors import KdcError
from compress.kernels.formula import Formula
from compress.kernels.kd_kl import kd_kl

FUSED_FROM = 1 << 20
"""Logits from which `compress.kernels.kd_kl` takes over: it keeps no softmax. On the CPU it is about as fast as plain
torch from 300,000 logits, 1.4 times at a million and 1.8 at three (32 rows, one thread), and slower below; of 1,000
columns alone it is 0.9 times as fast at two million, without the memory."""


class Divergence(Protocol):
    """Logits [B, C] of both, T and weights of rows [B] -> scalar."""

    def __call__(
        self, student: Tensor, teacher: Tensor, temperature: float, weights: Tensor | None = None
    ) -> Tensor: ...


def fused_when_large(divergence: str) -> Callable[[Divergence], Divergence]:
    """A plain loss of few logits, and `kd_kl` with this divergence of many."""

    def of(plain: Divergence) -> Divergence:
        @functools.wraps(plain)
        def loss(student: Tensor, teacher: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
            if student.numel() < FUSED_FROM:
                return plain(student, teacher, temperature, weights)
            return kd_kl(student, teacher, Formula(divergence, temperature), weights=weights)

        return loss

    return of


@fused_when_large("kl")
def soft_targets(student: Tensor, teacher: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """KL(softmax(teacher/T) || softmax(student/T))·T², mean over rows: logits [B, C] each -> scalar."""
    ours, theirs = _log_probabilities(student, teacher, temperature)
    return _divergence(theirs, ours, weights) * temperature**2


@fused_when_large("reverse_kl")
def reverse_kl(student: Tensor, teacher: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """KL(softmax(student/T) || softmax(teacher/T))·T², mean over rows: logits [B, C] each -> scalar.

    It keeps the student away from what the teacher rules out, where `soft_targets` makes it cover all that the teacher
    allows: MiniLLM, Gu et al. 2023 (https://arxiv.org/abs/2306.08543).
    """
    ours, theirs = _log_probabilities(student, teacher, temperature)
    return _divergence(ours, theirs, weights) * temperature**2


@fused_when_large("jensen_shannon")
def jensen_shannon(student: Tensor, teacher: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """½·(KL(teacher || m) + KL(student || m))·T² with m the mean of both, mean over rows: logits [B, C] -> scalar.

    Symmetric, and at most T²·log 2 a row. Near the teacher it pulls a quarter as hard as `soft_targets`. Lin 1991
    (https://doi.org/10.1109/18.61115); for distillation Agarwal et al. 2023 (https://arxiv.org/abs/2306.13649).
    """
    ours, theirs = _log_probabilities(student, teacher, temperature)
    middle = torch.logaddexp(ours, theirs) - math.log(2)
    return 0.5 * (_divergence(theirs, middle, weights) + _divergence(ours, middle, weights)) * temperature**2


DIVERGENCES: dict[str, Divergence] = {
    "soft": soft_targets,
    "reverse_kl": reverse_kl,
    "jensen_shannon": jensen_shannon,
}
"""Terms of a recipe's `losses` that compare probabilities."""


def _log_probabilities(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)


def _divergence(of: Tensor, to: Tensor, weights: Tensor | None) -> Tensor:
    """KL(of || to), mean over rows, by weights [B]: log-probabilities [B, C] each -> scalar."""
    if weights is None:
        return F.kl_div(to, of, reduction="batchmean", log_target=True)
    each = F.kl_div(to, of, reduction="none", log_target=True).sum(-1)
    return _mean(each, torch.ones_like(each, dtype=torch.bool), weights)


def confidence(teacher: Tensor, labels: Tensor) -> Tensor:
    """Weights of rows: the probability softmax(teacher) of a row's label, the highest one where it has none (< 0).

    Logits [B, C], labels int64 [B] -> [B], 0..1. Where the teacher is wrong the student hears it less. Both weights,
    as shares of the batch's sum, are those of Furlanello et al. 2018 (https://arxiv.org/abs/1805.04770), section 3: by
    the teacher's probability of the label, and `confidence-weighted by teacher max`.
    """
    chances = F.softmax(teacher, -1)
    of_label = chances.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return torch.where(labels >= 0, of_label, chances.amax(-1))


def hidden_states(projected: Tensor, teacher: Tensor) -> Tensor:
    """½·Σ‖φ_t − φ_s‖², mean over rows and layers: [B, L, H] each, the student's projected -> scalar."""
    return 0.5 * (projected - teacher).pow(2).sum(-1).mean()


def hidden_cosine(projected: Tensor, teacher: Tensor) -> Tensor:
    """1 − cos(φ_t, φ_s), mean over rows and layers: [B, L, H] each, the student's projected -> scalar, 0..2.

    The direction of the states without their length, as in DistilBERT (https://arxiv.org/abs/1910.01108).
    """
    return (1 - F.cosine_similarity(projected, teacher, dim=-1)).mean()


HIDDEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"hidden": hidden_states, "hidden_cosine": hidden_cosine}
"""Terms of a recipe's `losses` that compare hidden states: (projected, teacher's) -> scalar."""


def hard_labels(student: Tensor, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with labels int64 [B], mean over rows that have one (label >= 0), by weights [B].

    Zero when no row has a label.
    """
    known = labels >= 0
    each = F.cross_entropy(student, labels.clamp_min(0), reduction="none", label_smoothing=smoothing)
    return _mean(each, known, weights)


def squared_error(answers: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """(answer − target)², mean over rows that have a target (not NaN), by weights: [B] each -> scalar.

    Zero when no row has a target.
    """
    each = (answers - targets.nan_to_num()).pow(2)
    return _mean(each, ~targets.isnan(), weights)


def binary_grades(scores: Tensor, shares: Tensor) -> Tensor:
    """Binary cross-entropy of σ(score) with a share of the highest grade, 0..1, mean over rows with one (not NaN).

    [B] each -> scalar; zero when no row has a grade. What cross-encoders are usually taught with, each row by itself.
    """
    each = F.binary_cross_entropy_with_logits(scores, shares.nan_to_num(), reduction="none")
    return _mean(each, ~shares.isnan(), None)


def _mean(each: Tensor, known: Tensor, weights: Tensor | None) -> Tensor:
    share = known.to(each.dtype) if weights is None else known.to(each.dtype) * weights
    return (each * share).sum() / share.sum().clamp_min(torch.finfo(each.dtype).tiny)


def check_finite(loss: Tensor, where: str) -> None:
    """Stop before a broken step is taken.

    Raises:
        KdcError: the loss is not finite.
    """
    if not bool(torch.isfinite(loss)):
        raise KdcError(
            f"{where}: the loss became {loss.item()}; lower the learning rate, or set distill.precision: fp32"
        )

"""What a row of logits is charged with, and its gradient: shared by `kd_kl` and `linear_kd`.

With ls = log softmax(s/T) and lt = log softmax(t/T) of a student's and a teacher's row, p = exp(l):

    kl              Σ p_t·(lt − ls)                                  g = p_s − p_t
    reverse_kl      Σ p_s·(ls − lt) = total                          g = p_s·((ls − lt) − total)
    jensen_shannon  ½·Σ p_t·(lt − lm) + ½·total,                     g = ½·p_s·((ls − lm) − total)
                    lm = log ½(p_s + p_t), total = Σ p_s·(ls − lm)

The loss of a row is soft·T²·divergence + hard·cross-entropy(s, label), and its gradient
soft·T·g + hard·(softmax(s) − 1[label]).
Hinton et al. 2015 (https://arxiv.org/abs/1503.02531); reverse KL as in MiniLLM (https://arxiv.org/abs/2306.08543);
Jensen-Shannon as in GKD (https://arxiv.org/abs/2306.13649).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from compress.kernels.bodies import accumulator

DIVERGENCES = ("kl", "reverse_kl", "jensen_shannon")
LOWEST = -1e37
"""Stands for a logit of −inf: no probability, and 0·(LOWEST − LOWEST) is 0 where 0·(−inf + inf) is not a number."""
INFINITE = 1e8
"""A row that is charged more met LOWEST where the other side has probability (above 1e-29): its loss is infinite."""


@dataclass(frozen=True)
class Formula:
    """Which divergence (`kl` is KL(teacher || student)), at which temperature (> 0), and weights of the terms (>= 0).

    Raises:
        ValueError: there is no such divergence, or a number is out of range.
    """

    divergence: str = "kl"
    temperature: float = 1.0
    soft: float = 1.0
    hard: float = 0.0

    def __post_init__(self) -> None:
        if self.divergence not in DIVERGENCES:
            raise ValueError(f"divergence {self.divergence!r} is none of {', '.join(DIVERGENCES)}")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}: it must be above 0")
        if min(self.soft, self.hard) < 0:
            raise ValueError(f"the weight soft is {self.soft} and hard {self.hard}: neither may be below 0")

    @property
    def has_totals(self) -> bool:
        """Whether a row's gradient needs a sum over all its columns besides the log-sum-exps."""
        return self.divergence != "kl"

    @property
    def factor(self) -> float:
        """What a row's gradient, as a tile leaves it, is still to be multiplied by."""
        return 1.0 if self.hard else self.soft * self.temperature

    @property
    def numbers(self) -> list[float]:
        """Temperature and weights, as a schema can hold them: `Formula(divergence, *numbers)` is the same."""
        return [self.temperature, self.soft, self.hard]


def shares_of(
    formula: Formula, rows: Tensor, labels: Tensor | None, weights: Tensor | None, ignore_index: int
) -> Tensor:
    """How much each row counts in the mean: [N, ...] -> [N], the sum 1, or all 0 where no row counts.

    A row with weight 0, or whose label is `ignore_index`, counts nothing.

    Raises:
        ValueError: labels or weights are not one for each row, or labels are needed.
    """
    if formula.hard and labels is None:
        raise ValueError(f"the weight hard is {formula.hard}, and there are no labels: give them, or leave it 0")
    count = len(rows)
    kind = accumulator(rows)
    counted = torch.ones(count, dtype=kind, device=rows.device)
    for name, given in (("labels", labels), ("weights", weights)):
        if given is not None and given.shape != (count,):
            raise ValueError(
                f"{name} have the shape {tuple(given.shape)}, and there are {count} rows: give one for each"
            )
    if weights is not None:
        counted = weights.detach().to(kind)
    if labels is not None:
        counted = counted * (labels != ignore_index)
    return counted / counted.sum().clamp_min(torch.finfo(kind).tiny)


def check_rows(shares: Tensor, columns: int, **given: Tensor | None) -> None:
    """No share is negative, and every number of a column in rows that count is from 0 to below columns.

    Args:
        given: numbers of columns by what they are called, int64 [N] or [N, K].

    Raises:
        ValueError: one is not. On CUDA the device stops instead, so that the host need not wait.
    """
    _check(~(shares < 0), lambda row: f"the weight of row {row} is negative beside the others: weights must be >= 0")
    for name, numbers in given.items():
        if numbers is not None:
            _check_columns(name, numbers, shares, columns)


def _check_columns(name: str, numbers: Tensor, shares: Tensor, columns: int) -> None:
    outside = (numbers < 0) | (numbers >= columns)
    fine = (shares == 0) | ~(outside.any(1) if outside.dim() > 1 else outside)
    _check(
        fine,
        lambda row: (
            f"{name} of row {row}: {numbers[row].tolist()} is not within the {columns} columns 0..{columns - 1}"
        ),
    )


def _check(fine: Tensor, words: Callable[[int], str]) -> None:
    """Raise about the first row that is not fine, [N]."""
    if fine.device.type == "cuda":
        torch._assert_async(fine.all())
    elif not bool(fine.all()):
        raise ValueError(words(int((~fine).nonzero()[0])))


def charged(rows: Tensor, shares: Tensor) -> Tensor:
    """Mean loss of rows [N] by shares [N] -> scalar; rows without a share are not looked at."""
    infinite = torch.where(rows > INFINITE, torch.inf, rows)
    return torch.where(shares > 0, infinite * shares, 0.0).sum()

"""`kd_kl` and `linear_kd` in float64 and plain torch, with every matrix built: what other bodies are tested against."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.kernels.bodies import accumulator
from compress.kernels.formula import Formula


def row_losses(student: Tensor, teacher: Tensor, formula: Formula, labels: Tensor | None) -> Tensor:
    """Loss of each row: logits float64 [N, V] of both, labels int64 [N] -> [N]; see `formula` for what it is."""
    ls, lt = (F.log_softmax(side / formula.temperature, -1) for side in (student, teacher))
    match formula.divergence:
        case "kl":
            each = _times(lt, lt, ls)
        case "reverse_kl":
            each = _times(ls, ls, lt)
        case _:
            possible = (ls > -torch.inf) | (lt > -torch.inf)
            middle = torch.logaddexp(ls.where(possible, 0.0), lt.where(possible, 0.0)) - math.log(2)
            each = 0.5 * (_times(lt, lt, middle) + _times(ls, ls, middle))
    losses = formula.soft * formula.temperature**2 * each.sum(-1)
    if labels is None or not formula.hard:
        return losses
    known = (labels >= 0) & (labels < student.shape[-1])
    hard = F.cross_entropy(student, labels.where(known, 0), reduction="none")
    return losses + formula.hard * torch.where(known, hard, 0.0)


def _times(of: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """exp(of)·(left − right), 0 where there is no probability; neither it nor its gradient is then not a number."""
    possible = of > -torch.inf
    return torch.where(possible, of.exp() * (left.where(possible, 0.0) - right.where(possible, 0.0)), 0.0)


def mean_loss(student: Tensor, teacher: Tensor, shares: Tensor, labels: Tensor | None, formula: Formula) -> Tensor:
    """Mean of the rows' losses by shares [N] -> scalar, fp32 or of float64 logits float64; others are left out."""
    counted = shares > 0
    chosen = None if labels is None else labels[counted]
    losses = row_losses(student[counted].double(), teacher[counted].double(), formula, chosen)
    return (losses * shares[counted].double()).sum().to(accumulator(student, teacher))


def mean_loss_of_largest(
    student: Tensor, teacher: tuple[Tensor, Tensor], shares: Tensor, labels: Tensor | None, formula: Formula
) -> Tensor:
    """As `mean_loss`, of the K columns that the teacher keeps of a row and of all others as one.

    Args:
        student: logits float64 [N, V]. teacher: columns [N, K]; their logits and the rest's log-sum-exp, [N, K + 1].
    """
    indices, kept = teacher
    rest = student.scatter(1, indices, -torch.inf).logsumexp(1, keepdim=True)
    soft = Formula(formula.divergence, formula.temperature, formula.soft)
    loss = mean_loss(torch.cat([student.gather(1, indices), rest], 1), kept.double(), shares, None, soft)
    if not formula.hard:
        return loss
    alone = Formula(soft=0.0, hard=formula.hard)
    return loss + mean_loss(student, student.detach(), shares, labels, alone)

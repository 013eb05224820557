"""The arithmetic on one tile of logits in plain torch: a block of rows and columns, in buffers that are used again."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.kernels.formula import LOWEST, Formula


class TorchTiles:
    """Tiles of up to rows × columns. Logits are held divided by the temperature.

    Statistics [rows, 3] are the log-sum-exps of a row: of student and teacher at the temperature, and of the student
    at 1. Those of several tiles of the same rows combine by `torch.logaddexp`, totals and losses by addition.
    """

    def __init__(self, formula: Formula, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> None:
        self.formula, self.dtype, self.device = formula, dtype, device
        self.buffers = [torch.empty(rows * columns, dtype=dtype, device=device) for _ in range(3 + bool(formula.hard))]

    def _views(self, like: Tensor) -> list[Tensor]:
        return [one[: like.numel()].view(like.shape) for one in self.buffers]

    def copied(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, c] of both, as they are held."""
        ours, theirs = self._views(student)[:2]
        for into, logits in ((ours, student), (theirs, teacher)):
            into.copy_(logits)
            into.mul_(1 / self.formula.temperature).clamp_(min=LOWEST)
        return ours, theirs

    def product(self, side: int, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Logits [n, c] of side 0, the student, or 1, the teacher: states [n, H], weight [c, H], bias [c]."""
        into = self.buffers[side][: len(states) * len(weight)].view(len(states), len(weight))
        scale = 1 / self.formula.temperature
        weight = weight.to(self.dtype)
        if bias is None:
            return torch.addmm(into, states, weight.T, beta=0, alpha=scale, out=into)
        torch.addmm(bias.to(self.dtype), states, weight.T, beta=scale, alpha=scale, out=into)
        return into.clamp_(min=LOWEST)

    def statistics(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Log-sum-exps [n, 3] over the tile's columns."""
        scratch = self._views(ours)[2]
        found = [log_sum_exp(side, scratch) for side in (ours, theirs)]
        at_one = found[0]
        if self.formula.hard and self.formula.temperature != 1:
            at_one = log_sum_exp(torch.mul(ours, self.formula.temperature), scratch)
        return torch.stack([*found, at_one], 1)

    def log_sum_exp(self, ours: Tensor) -> Tensor:
        """Of one side's tile, [n, c] -> [n]."""
        return log_sum_exp(ours, self._views(ours)[2])

    def totals(self, ours: Tensor, theirs: Tensor, statistics: Tensor) -> Tensor:
        """Part [n] of a row's total in the tile's columns."""
        ls, lt = ours - statistics[:, :1], theirs - statistics[:, 1:2]
        return (ls.exp() * self._above(ls, lt)).sum(1)

    def _above(self, of: Tensor, other: Tensor) -> Tensor:
        """of − other, or for Jensen-Shannon of − log ½(exp of + exp other): log-probabilities [n, c] each."""
        if self.formula.divergence == "reverse_kl":
            return of - other
        return math.log(2) - F.softplus(other - of, threshold=40)

    def gradient_(
        self, ours: Tensor, theirs: Tensor, statistics: Tensor, totals: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Losses [n], as far as they come from the tile's columns, and gradients [n, c], to be multiplied by `factor`.

        Args:
            labels: column of the tile that is a row's label, int64 [n]; outside the tile counts nothing.
        """
        hard = self._hard(ours, statistics, labels) if self.formula.hard and labels is not None else None
        ls, lt = ours.sub_(statistics[:, :1]), theirs.sub_(statistics[:, 1:2])
        losses, gradients = (self._kl if self.formula.divergence == "kl" else self._with_totals)(ls, lt, totals)
        losses = losses * (self.formula.soft * self.formula.temperature**2)
        if self.formula.hard:
            gradients.mul_(self.formula.soft * self.formula.temperature)
        if hard is None:
            return losses, gradients
        return losses + hard[0], gradients.add_(hard[1], alpha=self.formula.hard)

    def _kl(self, ls: Tensor, lt: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        chances = torch.exp(lt, out=self._views(ls)[2])
        losses = lt.sub_(ls).mul_(chances).sum(1)
        return losses, ls.exp_().sub_(chances)

    def _with_totals(self, ls: Tensor, lt: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        above = self._above(ls, lt)
        if self.formula.divergence == "reverse_kl":
            chances = ls.exp_()
            losses = (chances * above).sum(1)
            return losses, chances.mul_(above.sub_(totals[:, None]))
        losses = 0.5 * (lt.exp() * self._above(lt, ls)).sum(1)
        chances = ls.exp_()
        losses += 0.5 * (chances * above).sum(1)
        return losses, chances.mul_(above.sub_(totals[:, None])).mul_(0.5)

    def _hard(self, ours: Tensor, statistics: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy [n] times its weight, where the label is in the tile, and softmax(s) − 1[label]."""
        chances = self._views(ours)[3]
        torch.mul(ours, self.formula.temperature, out=chances).sub_(statistics[:, 2:])
        inside = ((labels >= 0) & (labels < ours.shape[1])).nonzero().squeeze(1)
        columns = labels[inside]
        losses = torch.zeros_like(statistics[:, 0])
        losses[inside] = -self.formula.hard * chances[inside, columns]
        chances.exp_()
        chances[inside, columns] -= 1
        return losses, chances


def log_sum_exp(tile: Tensor, scratch: Tensor) -> Tensor:
    """Of rows: [n, c] -> [n]; scratch [n, c] is overwritten."""
    highest = tile.amax(1)
    return highest + torch.sub(tile, highest[:, None], out=scratch).exp_().sum(1).log_()

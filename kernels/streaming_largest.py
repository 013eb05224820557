"""`linear_kd` against a teacher of which each row keeps its K largest logits, and the log-sum-exp of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.kernels.bodies import accumulator
from compress.kernels.formula import LOWEST, Formula, charged
from compress.kernels.gradients import Gradients, Linear, pieces
from compress.kernels.streaming import plan, tiles_of
from compress.kernels.tiles import TorchTiles


class LargestStream:
    """The student's columns by tiles, at temperature 1, and what is known of each row's tracked columns.

    `columns` [N, K] are the teacher's largest and, behind them, the label's where there are labels; `logits` [N, K] are
    the student's there. `rest` [N] is the log-sum-exp of the student's logits outside the teacher's largest.
    """

    def __init__(self, student: Linear, indices: Tensor, labels: Tensor | None, body: str) -> None:
        self.states, self.weight, self.bias = student
        self.kept = indices.shape[1]
        self.columns = indices if labels is None else torch.cat([indices, labels[:, None]], 1)
        self.height, self.width = plan(len(self.states), len(self.weight), self.states.device)
        self.tiles = tiles_of(body, Formula(), (self.height, self.width), student)
        dtype = accumulator(self.states)
        self.logits = torch.zeros(self.columns.shape, dtype=dtype, device=self.states.device)
        self.rest = torch.full((len(self.states),), -torch.inf, dtype=dtype, device=self.states.device)

    def tile(self, rows: slice, part: slice) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Logits [n, c], and where columns that are tracked lie: row, column of the tile, which of the row's."""
        bias = None if self.bias is None else self.bias[part]
        logits = self.tiles.product(0, self.states[rows], self.weight[part], bias)
        inside = (self.columns[rows] >= part.start) & (self.columns[rows] < part.stop)
        row, which = inside.nonzero(as_tuple=True)
        return logits, (row, self.columns[rows][row, which] - part.start, which)

    def parts(self) -> list[tuple[slice, list[slice]]]:
        """Columns of tiles, and the rows for each."""
        rows = list(pieces(len(self.states), self.height))
        return [(part, rows) for part in pieces(len(self.weight), self.width)]

    def look(self) -> None:
        """Find `logits` and `rest`."""
        for part, all_rows in self.parts():
            for rows in all_rows:
                self._look_at(rows, part)
        self.rest.clamp_(min=LOWEST)

    def _look_at(self, rows: slice, part: slice) -> None:
        logits, (row, column, which) = self.tile(rows, part)
        self.logits[rows].index_put_((row, which), logits[row, column])
        largest = which < self.kept
        logits[row[largest], column[largest]] = LOWEST
        self.rest[rows] = torch.logaddexp(self.rest[rows], self.tiles.log_sum_exp(logits))

    def add(self, gradients: Gradients, at_rest: Tensor, tracked: Tensor) -> None:
        """Take all tiles into the gradients.

        Args:
            at_rest: gradient of all columns not among the largest is their probability within the rest times this, [N].
            tracked: gradient of the largest and, added at its column, what the label takes off, as `columns`.
        """
        for part, all_rows in self.parts():
            block = gradients.block(part)
            for rows in all_rows:
                gradients.add(rows, part, self._slopes(rows, part, at_rest[rows], tracked[rows]), block)
            gradients.close(part, block)

    def _slopes(self, rows: slice, part: slice, at_rest: Tensor, tracked: Tensor) -> Tensor:
        logits, (row, column, which) = self.tile(rows, part)
        slopes = logits.sub_(self.rest[rows, None]).exp_().mul_(at_rest[:, None])
        largest = which < self.kept
        slopes[row[largest], column[largest]] = tracked[row[largest], which[largest]]
        slopes[row[~largest], column[~largest]] += tracked[row[~largest], which[~largest]]
        return slopes.to(self.tiles.dtype)


def stream_largest(
    student: Linear,
    teacher: tuple[Tensor, Tensor],
    shares: Tensor,
    labels: Tensor | None,
    formula: Formula,
    need: list[bool],
    body: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, and the gradients of the student's states, weight and bias; [0] for one that is not needed.

    Args:
        teacher: columns [N, K] of the largest logits; those logits and that of the rest, [N, K + 1].
    """
    given, (indices, kept) = student, teacher
    dtype = accumulator(student[0])
    if body == "chunked":
        student = (student[0].to(dtype), *student[1:])
    hard = formula.hard if labels is not None else 0.0
    run = LargestStream(student, indices, labels if hard else None, body)
    run.look()
    merged = torch.cat([run.logits[:, : run.kept], run.rest[:, None]], 1)
    losses, slopes = _merged(merged, kept.to(dtype), Formula(formula.divergence, formula.temperature, formula.soft))
    tracked = slopes[:, :-1]
    if hard:
        at_one = merged.logsumexp(1)
        losses = losses + hard * (at_one - run.logits[:, -1])
        slopes = slopes * (formula.soft * formula.temperature) + hard * (merged - at_one[:, None]).exp()
        tracked = torch.cat([slopes[:, :-1], slopes.new_full((len(slopes), 1), -hard)], 1)
    gradients = Gradients(student, need, shares, formula)
    run.add(gradients, slopes[:, -1], tracked)
    return charged(losses, shares), *gradients.result(given)


def _merged(ours: Tensor, theirs: Tensor, formula: Formula) -> tuple[Tensor, Tensor]:
    """Losses [N] and gradients, before `Formula.factor`, of logits [N, K + 1]."""
    rows, columns = ours.shape
    tiles = TorchTiles(formula, rows, columns, ours.dtype, ours.device)
    made = tiles.copied(ours, theirs)
    statistics = tiles.statistics(*made)
    totals = tiles.totals(*made, statistics) if formula.has_totals else statistics[:, 0]
    return tiles.gradient_(*made, statistics, totals, None)

"""`linear_kd` against a whole teacher: which tiles of logits are made, and when."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from compress.kernels.bodies import accumulator
from compress.kernels.formula import Formula, charged
from compress.kernels.gradients import Gradients, Linear, pieces
from compress.kernels.tiles import TorchTiles

CPU_TILE = 1 << 20
"""Elements of a tile on the CPU: four buffers of fp32 are 16 MiB."""
DEVICE_TILE = 1 << 27
"""Elements of a tile elsewhere: two of fp32, and their gradients in half precision, are 1.25 GiB."""
FEWEST_ROWS = 128
"""Whole rows of logits are tiled only if so many fit: with fewer, reading the weights again for each tile costs more
than making each logit twice."""


def plan(rows: int, columns: int, device: torch.device) -> tuple[int, int]:
    """Rows and columns of a tile of an [N, V] matrix; the columns are all of V where tiles are of whole rows."""
    most = CPU_TILE if device.type == "cpu" else DEVICE_TILE
    whole = most // max(columns, 1)
    if whole >= min(FEWEST_ROWS, max(rows, 1)):
        height = max(1, min(whole, rows))
        return height // FEWEST_ROWS * FEWEST_ROWS or height, columns
    height = max(1, min(rows, 1024 if device.type == "cpu" else 8192))
    return height, min(columns, most // height)


def tiles_of(body: str, formula: Formula, shape: tuple[int, int], student: Linear) -> Any:
    """The tiles of a body, at most of this shape."""
    states, weight, _ = student
    if body == "chunked":
        return TorchTiles(formula, *shape, accumulator(states), states.device)
    from compress.kernels.kd_kl_triton import TritonTiles  # triton need not be installed

    return TritonTiles(formula, torch.promote_types(states.dtype, weight.dtype))


class Stream:
    """The rows and columns of one loss, and what is known of the rows so far.

    `sums` [N, 4] are the log-sum-exps as tiles have them, and the total. `losses` [N].
    """

    def __init__(self, student: Linear, teacher: Linear, labels: Tensor | None, formula: Formula, body: str) -> None:
        states, weight, _ = student
        self.sides, self.labels, self.formula = (student, teacher), labels, formula
        self.height, self.width = plan(len(states), len(weight), states.device)
        self.tiles = tiles_of(body, formula, (self.height, self.width), student)
        dtype = accumulator(states)
        self.sums = torch.full((len(states), 4), -torch.inf, dtype=dtype, device=states.device)
        self.sums[:, 3] = 0
        self.losses = torch.zeros(len(states), dtype=dtype, device=states.device)

    def rows(self) -> list[slice]:
        """Of the tiles."""
        return list(pieces(len(self.losses), self.height))

    def columns(self) -> list[slice]:
        """Of the tiles."""
        return list(pieces(len(self.sides[0][1]), self.width))

    def logits(self, rows: slice, columns: slice) -> list[Tensor]:
        """A tile of the student's and one of the teacher's, [n, c]; valid until the next is made."""
        return [
            self.tiles.product(side, states[rows], weight[columns], None if bias is None else bias[columns])
            for side, (states, weight, bias) in enumerate(self.sides)
        ]

    def look(self, rows: slice, made: list[Tensor]) -> None:
        """Take a tile into the log-sum-exps of its rows."""
        self.sums[rows, :3] = torch.logaddexp(self.sums[rows, :3], self.tiles.statistics(*made))

    def total(self, rows: slice, made: list[Tensor]) -> None:
        """Take a tile into the totals of its rows, whose log-sum-exps are known."""
        self.sums[rows, 3] += self.tiles.totals(*made, self.sums[rows, :3])

    def slopes(self, rows: slice, columns: slice, made: list[Tensor]) -> Tensor:
        """Gradients of a tile's logits, [n, c], and its part of the rows' losses; all sums of the rows are known."""
        labels = None if self.labels is None else self.labels[rows] - columns.start
        losses, slopes = self.tiles.gradient_(*made, self.sums[rows, :3], self.sums[rows, 3], labels)
        self.losses[rows] += losses
        return cast(Tensor, slopes)

    def sum_up(self) -> None:
        """All sums of all rows, where the last pass is not to find them tile by tile."""
        for columns in self.columns():
            for rows in self.rows():
                self.look(rows, self.logits(rows, columns))
        if self.formula.has_totals:
            for columns in self.columns():
                for rows in self.rows():
                    self.total(rows, self.logits(rows, columns))

    def run(self, gradients: Gradients) -> None:
        """Losses and gradients."""
        whole = len(self.columns()) == 1
        if not whole:
            self.sum_up()
        for columns in self.columns():
            block = gradients.block(columns)
            for rows in self.rows():
                gradients.add(rows, columns, self.tile(rows, columns, whole=whole), block)
            gradients.close(columns, block)

    def tile(self, rows: slice, columns: slice, *, whole: bool) -> Tensor:
        """A tile's slopes; its logits end with the call, before the next are made."""
        made = self.logits(rows, columns)
        if whole:
            self.look(rows, made)
            if self.formula.has_totals:
                self.total(rows, made)
        return self.slopes(rows, columns, made)


def stream(
    student: Linear,
    teacher: Linear,
    shares: Tensor,
    labels: Tensor | None,
    formula: Formula,
    need: list[bool],
    body: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, and the gradients of the student's states, weight and bias; [0] for one that is not needed."""
    given = student
    if body == "chunked":
        dtype = accumulator(student[0])
        student, teacher = (student[0].to(dtype), *student[1:]), (teacher[0].to(dtype), *teacher[1:])
    run = Stream(student, teacher, labels, formula, body)
    gradients = Gradients(student, need, shares, formula)
    run.run(gradients)
    return charged(run.losses, shares), *gradients.result(given)

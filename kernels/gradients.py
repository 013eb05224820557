"""Gradients of a last layer, gathered from tiles of the gradients of its logits."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from compress.kernels.bodies import accumulator
from compress.kernels.formula import Formula
from compress.kernels.saved import gradient_room, kept_dtype

Linear = tuple[Tensor, Tensor, Tensor | None]
"""States [N, H], weight [V, H], bias [V] or None."""


def pieces(length: int, step: int) -> Iterator[slice]:
    """0..length in steps, the last one shorter."""
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def accumulate_(into: Tensor, left: Tensor, right: Tensor) -> None:
    """into [m, k] += left [m, n] · right [n, k], summed in the dtype of `into`."""
    if left.dtype == right.dtype == into.dtype:
        into.addmm_(left, right)
    elif into.device.type == "cuda" and left.dtype == right.dtype:
        for rows in pieces(len(into), max(1, (1 << 24) // max(into.shape[1], 1))):
            into[rows] += torch.mm(left[rows], right, out_dtype=into.dtype)
    else:
        into.addmm_(left.to(into.dtype), right.to(into.dtype))


class Gradients:
    """What accumulates for the student's states, weight and bias, those that are needed.

    A tile's slopes [n, c] are those of its logits, before `Formula.factor` and the row's share.

    Args:
        shares: of the rows in the mean, [N].
    """

    def __init__(self, student: Linear, need: list[bool], shares: Tensor, formula: Formula) -> None:
        states, self.weight, _ = student
        self.need, self.dtype = need, accumulator(states)
        # The largest factor in the product is 1, the small rest comes after it: fp16 would lose small numbers.
        largest = shares.amax().to(self.dtype) if len(shares) else torch.ones((), dtype=self.dtype)
        self.scale, self.factors = formula.factor * largest, shares.to(self.dtype) / largest
        self.weighed = (states * self.factors[:, None]).to(states.dtype) if need[1] else states
        self.for_states = torch.zeros(states.shape if need[0] else (0,), dtype=self.dtype, device=states.device)
        self.for_weight = gradient_room(self.weight, need[1])
        self.for_bias = torch.zeros(len(self.weight) if need[2] else 0, dtype=self.dtype, device=states.device)

    def block(self, columns: slice) -> Tensor:
        """Where the weight's gradient of some columns accumulates: in its own memory, where that is exact enough."""
        if not self.need[1]:
            return self.for_weight
        if self.for_weight.dtype == self.dtype:
            return self.for_weight[columns].zero_()
        return torch.zeros(self.for_weight[columns].shape, dtype=self.dtype, device=self.for_weight.device)

    def add(self, rows: slice, columns: slice, slopes: Tensor, block: Tensor) -> None:
        """Add a tile's; block: the one of its columns."""
        if self.need[0]:
            accumulate_(self.for_states[rows], slopes, self.weight[columns])
        if self.need[1]:
            accumulate_(block, slopes.T, self.weighed[rows])
        if self.need[2]:
            factors = self.factors[rows].to(slopes.dtype)
            accumulate_(self.for_bias[columns].unsqueeze(1), slopes.T, factors.unsqueeze(1))

    def close(self, columns: slice, block: Tensor) -> None:
        """All rows of these columns are added."""
        if self.need[1]:
            block.mul_(self.scale)
        if self.need[1] and block.dtype != self.for_weight.dtype:
            self.for_weight[columns] = block.to(self.for_weight.dtype)

    def result(self, student: Linear) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients, each in the dtype that what it is for is kept in."""
        states, weight, bias = student
        if self.need[0]:
            self.for_states.mul_((self.factors * self.scale)[:, None])
        for_bias = self.for_bias.mul_(self.scale).to(kept_dtype(weight if bias is None else bias))
        return self.for_states.to(kept_dtype(states)), self.for_weight, for_bias

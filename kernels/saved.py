"""Gradients that the forward pass has already found, and how they take part in the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor

WIDE = (torch.float32, torch.float64)
PIECE = 1 << 22
"""Elements that are multiplied at a time."""


def kept_dtype(tensor: Tensor) -> torch.dtype:
    """What the gradient for a tensor is kept in until the backward pass.

    Its own dtype, but float32 for float16: a mean's gradient is as small as one over the number of its terms, and the
    factor that lifts it (a gradient scaler's) comes with the upstream gradient.
    """
    return torch.float32 if tensor.dtype == torch.float16 else tensor.dtype


def gradient_room(like: Tensor, wanted: bool) -> Tensor:
    """Where the gradient for a tensor is kept, not filled; of no elements where it is not wanted."""
    return torch.empty(like.shape if wanted else (0,), dtype=kept_dtype(like), device=like.device)


def gradient_rooms(inputs: tuple[Tensor, Tensor, Tensor | None], wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """The same for an input, a weight and a bias that may not be there."""
    student, weight, bias = inputs
    rooms = [
        gradient_room(one, want)
        for one, want in zip((student, weight, weight if bias is None else bias), wanted, strict=True)
    ]
    return rooms[0], rooms[1], rooms[2]


def times(gradient: Tensor, upstream: Tensor, dtype: torch.dtype) -> Tensor:
    """A kept gradient times the upstream one, a scalar. A factor of 1 costs nothing on the CPU.

    On CUDA the factor is not looked at: that would wait for the device. Neither is one that is being traced.
    """
    if type(upstream) is Tensor and upstream.device.type == "cpu" and upstream.item() == 1:
        return gradient.to(dtype)
    if (gradient.dtype in WIDE and dtype in WIDE) or torch.compiler.is_compiling():
        return (gradient * upstream).to(dtype)
    return _scaled(gradient, upstream, torch.empty(gradient.shape, dtype=dtype, device=gradient.device))


def times_(gradient: Tensor, upstream: Tensor) -> Tensor:
    """A gradient times the upstream one, in its own memory."""
    return gradient.mul_(upstream) if gradient.dtype in WIDE else _scaled(gradient, upstream, gradient)


def _scaled(gradient: Tensor, upstream: Tensor, into: Tensor) -> Tensor:
    """Multiplied in float32, a piece after the other: half precision would round, or lose, the factor first."""
    rows = max(1, PIECE // max(1, gradient[:1].numel())) if gradient.dim() else 0
    if not gradient.dim():
        return into.copy_(gradient.float() * upstream)
    for one, other in zip(torch.split(gradient, rows), torch.split(into, rows), strict=True):
        other.copy_(one.float() * upstream)
    return into

"""What the tests of several kernels share: tolerances and ways to compare bodies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
"""Relative error of the largest entry, by dtype: gradients are rounded to it once."""

Loss = Callable[..., Tensor]


def slopes_of(loss: Loss, inputs: Sequence[Tensor], upstream: float = 1.0) -> tuple[Tensor, list[Tensor]]:
    """Value of a loss of copies of the inputs, and its gradient for each, times upstream."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    value = loss(*leaves)
    (value * upstream).backward()
    return value.detach(), [torch.zeros_like(one) if one.grad is None else one.grad for one in leaves]


def close(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> bool:
    """Whether the largest difference is within the dtype's tolerance of the largest entry."""
    if not wanted.numel():
        return found.shape == wanted.shape
    error = (found.double() - wanted.double()).abs().max()
    return bool(error <= TOLERANCE[dtype] * wanted.double().abs().max().clamp_min(1e-6))


def assert_same(found: tuple[Tensor, list[Tensor]], wanted: tuple[Tensor, list[Tensor]], dtype: torch.dtype) -> None:
    """Loss and each gradient within the dtype's tolerance, gradients in their input's dtype."""
    assert close(found[0], wanted[0], dtype), f"loss {found[0].item()} for {wanted[0].item()}"
    for number, (ours, theirs) in enumerate(zip(found[1], wanted[1], strict=True)):
        assert ours.dtype == theirs.dtype
        assert close(ours, theirs, dtype), f"gradient {number} is off by {(ours - theirs).abs().max().item()}"

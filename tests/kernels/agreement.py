"""How near a body must come to the float64 reference, and how much it allocates on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Largest difference as a share of the largest number, by the dtype that a result is rounded to."""


def assert_near(found: Sequence[Tensor], expected: Sequence[Tensor], *, dtype: torch.dtype | None = None) -> None:
    """Each as near as its dtype allows, or as that of the factors does."""
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert torch.isfinite(one).all()
        allowed = TOLERANCES[dtype or one.dtype] * max(1e-3, other.abs().max().item() if other.numel() else 0.0)
        torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=allowed)


def generator(seed: int) -> torch.Generator:
    """Random numbers on the device that tensors are made on."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


Found = tuple[Tensor, list[Tensor]]
"""A loss, and its gradients."""


def slopes_of(loss: Callable[..., Tensor], inputs: Sequence[Tensor], upstream: float = 1.0) -> Found:
    """As `loss_and_gradients`, apart."""
    value, *gradients = loss_and_gradients(loss, *inputs, upstream=upstream)
    return value, gradients


def assert_same(found: Found, expected: Found, dtype: torch.dtype) -> None:
    """Loss and each gradient as near as the dtype of the inputs allows."""
    for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        assert_near([one], [other], dtype=dtype)


def loss_and_gradients(loss: Callable[..., Tensor], *inputs: Tensor, upstream: float = 1.0) -> list[Tensor]:
    """The loss of fresh leaves with these values, and the gradient of `upstream` times it for each."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    value = loss(*leaves)
    (value * upstream).backward()
    gradients = [leaf.grad for leaf in leaves]
    assert all(one is not None for one in gradients)
    return [value.detach(), *(one for one in gradients if one is not None)]


class Largest(TorchDispatchMode):
    """Bytes of the largest memory that any operation has made; views of what was given do not count."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.given = {one.untyped_storage().data_ptr() for one in given}
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        storages = [one.untyped_storage() for one in tree_leaves(result) if isinstance(one, Tensor)]
        self.bytes = max([self.bytes, *(one.nbytes() for one in storages if one.data_ptr() not in self.given)])
        return result

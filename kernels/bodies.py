"""Which body of a kernel runs: chosen here alone, by the device of its inputs.

triton: fused kernels for CUDA, or for any device under Triton's interpreter (TRITON_INTERPRET=1). chunked: plain torch
over pieces of bounded size, on any device. reference: plain torch in float64 that builds every matrix, for tests.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Literal

import torch
from torch import Tensor

Body = Literal["triton", "chunked", "reference"]
BODIES: tuple[Body, ...] = ("triton", "chunked", "reference")


def choose(body: str, device: torch.device) -> Body:
    """The body to run on a device; `auto` is triton on CUDA and chunked elsewhere.

    Raises:
        ValueError: there is no body of that name.
        RuntimeError: the body cannot run here; another one is never taken in its place.
    """
    if body == "auto":
        body = "triton" if device.type == "cuda" else "chunked"
    if body not in BODIES:
        raise ValueError(f"body {body!r} is none of auto, {', '.join(BODIES)}")
    if body == "triton":
        _check_triton(device)
    return body


def _check_triton(device: torch.device) -> None:
    if importlib.util.find_spec("triton") is None:
        raise RuntimeError("body triton needs the package triton, which is not installed: pip install triton")
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError(
            f"body triton runs on CUDA, and the inputs are on {device}: ask for chunked, or set TRITON_INTERPRET=1 "
            "before Python starts to interpret the kernels"
        )


def accumulator(*tensors: Tensor) -> torch.dtype:
    """What sums are kept in: float64 where an input is, float32 for all else."""
    return torch.float64 if any(one.dtype == torch.float64 for one in tensors) else torch.float32


def as_autocast(*matrices: Tensor) -> tuple[Tensor, ...]:
    """The factors of a product as autocast would pass them: in its dtype where it is on, but float64 as it is."""
    kind = matrices[0].device.type
    if not torch.is_autocast_enabled(kind):
        return matrices
    dtype = torch.get_autocast_dtype(kind)
    return tuple(one if one.dtype == torch.float64 else one.to(dtype) for one in matrices)

"""What every Triton kernel here asks of its inputs."""

from __future__ import annotations

import torch
from torch import Tensor
from triton import knobs

from compress.kernels.bodies import accumulator


def dot_ready(*tensors: Tensor) -> list[Tensor]:
    """Factors of products with rows that lie together: all in float64 where one is, else each in its own dtype.

    Triton's interpreter has no bfloat16 arithmetic, and reads it as float32.
    """
    wide = accumulator(*tensors) == torch.float64
    ready = []
    for one in tensors:
        dtype = torch.float64 if wide else one.dtype
        if dtype == torch.bfloat16 and knobs.runtime.interpret:
            dtype = torch.float32
        cast = one.to(dtype)
        ready.append(cast if cast.stride(-1) == 1 else cast.contiguous())
    return ready


def dot_precision() -> str:
    """How float32 factors are multiplied: in TF32 only where torch may do so too."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"

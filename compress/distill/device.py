"""Which device and arithmetic training uses."""

from __future__ import annotations

import torch

from compress import parallel
from compress.errors import EnvironmentProblem


def training_device() -> torch.device:
    """A CUDA device where there is one, each process of a machine its own; else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", parallel.local_rank())


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to train in bfloat16: `auto` takes it only where the processor computes in it.

    Raises:
        EnvironmentProblem: bf16 was asked for on a GPU that lacks it.
    """
    has = torch.cuda.is_bf16_supported() if device.type == "cuda" else _processor_has_bf16()
    if precision == "bf16" and device.type == "cuda" and not has:
        raise EnvironmentProblem("distill.precision is bf16, but this GPU has no bfloat16; set it to fp32")
    return precision == "bf16" or (precision == "auto" and has)


def _processor_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))

"""What this process holds of a GPU's memory: by NVIDIA's management library, for torch by its own allocator."""

from __future__ import annotations

import os
import sys

from compress.bench.targets import TORCH_CUDA
from compress.extras import available, install_hint, require

NVML, TORCH = "nvml", "torch"


def own_mb(target: str) -> tuple[float | None, str]:
    """Device memory in 10^6 bytes, and who tells it; None and why nobody does.

    `nvml`: all that this process holds now, CUDA's context included; what runtimes take they keep until the end, so
    that it is the most they took. `torch`: the most that its allocator held, without context and libraries.
    """
    held, reason = _by_nvml()
    if held is not None:
        return held / 1e6, NVML
    torch = sys.modules.get("torch")
    if target == TORCH_CUDA and torch is not None:
        return torch.cuda.max_memory_reserved() / 1e6, TORCH
    return None, f"not run: {reason}"


def _by_nvml() -> tuple[int | None, str]:
    """Bytes on all GPUs, or None and why."""
    if not available("pynvml"):
        return None, f"nvidia-ml-py is not installed: {install_hint('gpu')}"
    nvml = require("pynvml", extra="gpu", why="memory of a GPU")
    try:
        nvml.nvmlInit()
        devices = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        found = [
            process.usedGpuMemory
            for device in devices
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(device)
            if process.pid == os.getpid()
        ]
        nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        return None, f"NVML fails ({error})"
    if not found or None in found:  # in a container, whose process numbers are its own
        return None, "NVML does not tell the memory of this process"
    return sum(found), ""

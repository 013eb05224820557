"""The machine that figures come from, and whether they can be trusted."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.extras import version

FLAGS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
)
BUSY_SHARE = 0.25
LOOK_SECONDS = 0.5
PACKAGES = ("onnxruntime", "tokenizers", "numpy")


def describe() -> dict[str, Any]:
    """Processor, its vector instructions, cores, limits, memory, load and versions, as plain data.

    `warnings` lists what makes figures from now on unsafe. What the system does not tell is None.
    """
    model, flags = _processor()
    cores = usable_cores()
    busy = busy_cores()
    return {
        "processor": model,
        "flags": flags,
        "cores": cores,
        "cpu_limit": cgroup_cpus(),
        "memory_gib": _memory_gib(),
        "load_average": round(os.getloadavg()[0], 2),
        "busy_cores": round(busy, 2),
        "system": f"{platform.system()} {platform.release()}",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "warnings": busy_warnings(busy, cores),
    }


def busy_cores() -> float:
    """Cores that others keep busy while this process sleeps for a moment; the load average where /proc/stat is not.

    The load average alone would blame the run's own training of the last minute.
    """
    before = _processor_times()
    if before is None:
        return os.getloadavg()[0]
    time.sleep(LOOK_SECONDS)
    after = _processor_times() or before
    busy, total = (new - old for new, old in zip(after, before, strict=True))
    return (os.cpu_count() or 1) * busy / total if total else 0.0


def _processor_times() -> tuple[int, int] | None:
    """Ticks of all processors since the start of the system: (busy, all)."""
    path = Path("/proc/stat")
    if not path.is_file():
        return None
    ticks = [int(field) for field in path.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def busy_warnings(busy: float, cores: int) -> list[str]:
    """A sentence when other work keeps more than a quarter of the cores busy."""
    if busy <= cores * BUSY_SHARE:
        return []
    return [
        f"other work kept {busy:.1f} of {cores} cores busy when timing began, "
        "so the latencies are unsafe to quote; repeat `kdc bench` on a quiet machine"
    ]


def thread_warnings(threads: Sequence[int]) -> list[str]:
    """A sentence when more threads are asked for than there are processors to run them."""
    allowed = min(usable_cores(), cgroup_cpus() or math.inf)
    if max(threads) <= allowed:
        return []
    return [
        f"{max(threads)} threads were asked for, but this process may use {allowed:g} cores: they wait for each other, "
        "so the figures say nothing about a machine that has them"
    ]


def processor() -> str | None:
    """Model of the processor."""
    return _processor()[0]


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> tuple[str | None, list[str]]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or platform.machine() or None, []
    fields: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip().lower(), value.strip())
    present = set(fields.get("flags", fields.get("features", "")).split())
    return fields.get("model name") or platform.machine() or None, [flag for flag in FLAGS if flag in present]


def cgroup_cpus(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Processors that the control group allows, or None without a limit; reads version 2, then version 1."""
    limit = root / "cpu.max"
    if limit.is_file():
        quota, period = limit.read_text(encoding="ascii").split()
        return None if quota == "max" else round(int(quota) / int(period), 2)
    old = root / "cpu" / "cpu.cfs_quota_us"
    if old.is_file():
        microseconds = int(old.read_text(encoding="ascii"))
        period_us = int((old.parent / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return None if microseconds <= 0 else round(microseconds / period_us, 2)
    return None


def _memory_gib() -> float | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)

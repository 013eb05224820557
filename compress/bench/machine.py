"""The machine that figures come from, and whether they can be trusted."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.bench import energy
from compress.extras import version
from compress.runtime import cuda

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
CPU = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")
SAVING = ("powersave", "conservative", "ondemand", "schedutil")
"""Frequency policies that follow the load."""
BUSY_SHARE = 0.25
LOOK_SECONDS = 0.5
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "torch", "tokenizers", "numpy")


def describe() -> dict[str, Any]:
    """Processor, its vector instructions, cores, limits, frequency policy, memory, load and versions, as plain data.

    `warnings` lists what makes figures from now on unsafe, and may be over when they are taken again. What the
    system does not tell is None.
    """
    model, flags = _processor()
    cores = usable_cores()
    busy = busy_cores()
    return {
        "processor": model,
        "flags": flags,
        "cores": cores,
        "cpu_limit": cgroup_cpus(),
        "governor": governor(),
        "boost": boost(),
        "energy": "rapl" if (reason := energy.absent()) is None else f"not run: {reason}",
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


def governor(root: Path = CPU) -> str | None:
    """Frequency policy of the first processor, or None where the system does not tell."""
    path = root / "cpu0" / "cpufreq" / "scaling_governor"
    return path.read_text(encoding="ascii").strip() if path.is_file() else None


def boost(root: Path = CPU) -> bool | None:
    """Whether the processor may exceed its nominal frequency, or None where the system does not tell."""
    for path, on in ((root / "cpufreq" / "boost", "1"), (root / "intel_pstate" / "no_turbo", "0")):
        if path.is_file():
            return path.read_text(encoding="ascii").strip() == on
    return None


def policy_warnings(policy: str | None) -> list[str]:
    """A sentence when the processor saves power, and so is slow at first."""
    if policy not in SAVING:
        return []
    return [
        f"the frequency policy is {policy}, so latencies hang on what ran before; set it to performance "
        "(`cpupower frequency-set -g performance`) for figures to quote"
    ]


def throttled(cpu: Path = CPU, group: Path = CGROUP) -> dict[str, int]:
    """How often, since the start, heat slowed the processors down, and the control group's limit stopped this one."""
    found = {}
    counters = list(cpu.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    if counters:
        found["heat"] = sum(int(path.read_text(encoding="ascii")) for path in counters)
    stat = group / "cpu.stat"
    if stat.is_file():
        counts = dict(line.split() for line in stat.read_text(encoding="ascii").splitlines())
        found["the control group's limit"] = int(counts.get("nr_throttled", 0))
    return found


def throttle_notes(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """A sentence for each cause that slowed the processor down between two counts."""
    return [
        f"{cause} slowed the processor down {after[cause] - count} times while this was measured: unsafe to quote"
        for cause, count in before.items()
        if after.get(cause, 0) > count
    ]


def lasting_warnings(
    threads: Sequence[int], processes: int = 1, affinity: Sequence[Sequence[int]] | None = None
) -> list[str]:
    """What makes figures of this machine unsafe, now and later."""
    return [*policy_warnings(governor()), *thread_warnings(threads, processes, affinity)]


def thread_warnings(
    threads: Sequence[int], processes: int = 1, affinity: Sequence[Sequence[int]] | None = None
) -> list[str]:
    """A sentence when more threads are asked for than there are processors to run them, in all or of a process."""
    allowed = min(usable_cores(), cgroup_cpus() or math.inf)
    if affinity is not None:
        allowed = min(allowed, len({core for cores in affinity for core in cores}))
    found = crowded(max(threads), allowed, processes)
    if not found and affinity is not None and (narrow := min(map(len, affinity))) < max(threads):
        found.append(
            f"a process of {max(threads)} threads is pinned to {narrow} core(s): they wait for each other, so the "
            "figures say nothing about cores of their own"
        )
    return found


def crowded(threads: float, allowed: float, processes: int = 1) -> list[str]:
    """A sentence when processes of so many threads each may use fewer cores than that."""
    if threads * processes <= allowed:
        return []
    each = "" if processes == 1 else f" ({processes} processes of {threads:g})"
    return [
        f"{threads * processes:g} threads{each} were asked for, but this process may use {allowed:g} cores: they wait "
        "for each other, so the figures say nothing about a machine that has them"
    ]


def processor() -> str | None:
    """Model of the processor."""
    return _processor()[0]


def gpu() -> str:
    """The first GPU with its compute capability, or `not run: ` and why there is none."""
    if (reason := cuda.problem()) is not None:
        return f"not run: {reason}"
    found = cuda.gpu()
    return f"{found.name} ({found.capability})"


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(usable())


def usable() -> set[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


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


def cgroup_cpus(root: Path = CGROUP) -> float | None:
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

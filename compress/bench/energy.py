"""Energy of the processor from RAPL, where Linux exposes its counters and this user may read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def packages(root: Path = POWERCAP) -> list[Path]:
    """Folders of the counters of whole processor packages, whose parts (cores, memory) have folders of their own."""
    return sorted(folder for folder in root.glob("intel-rapl:*") if folder.name.count(":") == 1)


def absent(root: Path = POWERCAP) -> str | None:
    """Why energy cannot be measured, or None where it can."""
    found = packages(root)
    if not found:
        return "this machine exposes no RAPL counters"
    return None if read_uj(root) is not None else f"{found[0] / 'energy_uj'} is readable by root alone"


def read_uj(root: Path = POWERCAP) -> list[int] | None:
    """The counter of each package in microjoules, or None where there is none or one cannot be read."""
    try:
        return [int((folder / "energy_uj").read_text(encoding="ascii")) for folder in packages(root)] or None
    except OSError:
        return None


def spent_uj(before: Sequence[int], after: Sequence[int], root: Path = POWERCAP) -> int:
    """Microjoules between two readings; a counter starts again at zero behind its range."""
    total = 0
    for folder, start, end in zip(packages(root), before, after, strict=True):
        span = 0 if end >= start else int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
        total += end - start + span
    return total

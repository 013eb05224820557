"""Time and memory of the fused losses beside torch's eager formulas and Liger-Kernel, forward and backward.

    python -m benchmarks.kernels [--device cpu|cuda] [--rounds 5] [--only linear_kd …] [--check]

The contestants of a case take turns, round by round, in one process. Time is of loss and gradients together. Memory is
the peak less inputs and gradients: of the process on the CPU (VmHWM, set back before each run; Linux alone), of torch's
allocator on CUDA. Gradients that are not there yet at the peak are taken off all the same, which is in favour of
torch's own formula. A contestant whose matrices do not fit, that is not installed, or whose loss is not kdc's, is a row
that says so.
Rows are appended to benchmarks/results/kernels.jsonl. `--check` ends with exit code 5 where a target is missed.
Liger-Kernel is installed at its first use into an environment of its own below benchmarks/.peers, and this script goes
on there.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import append, exit_codes, origin
from benchmarks.kernel_cases import Case, cpu_cases, cuda_cases
from benchmarks.kernel_table import KERNEL_ROWS, kernel_table
from benchmarks.peer_environments import enter
from compress.bench.memory import own_peak_mb
from compress.errors import EnvironmentProblem, GateError
from compress.progress import reporter

CASES = {"cpu": cpu_cases, "cuda": cuda_cases}
LIMIT_MB = {"linear_kd": 64 * 2**20 / 1e6}
"""Peak beyond inputs and gradients on the CPU, 10^6 bytes."""
SHARES = {"cpu": {"relation_kd": ("torch", 1 / 8)}, "cuda": {"linear_kd": ("Liger", 1 / 2)}}
"""By device and kernel: of whose peak beyond inputs and gradients kdc may take which share."""
LEAST_MB = 64.0
"""Where the rival takes less, buffers of a fixed size weigh more than the share says."""
RIVAL = {"cpu": "torch", "cuda": "Liger"}
"""Whom kdc must not be slower than."""
SAME = 0.02
"""Losses of contestants differ by a smaller share of kdc's."""
CLEAR_PEAK = "5"
LIGER = "liger-kernel"
NOBODY: Mapping[str, str] = {}

Row = dict[str, Any]


def own_now_mb() -> float:
    """Resident memory of this process, 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def settle() -> None:
    """Give back what is free, so that a later peak is the run's own."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform.startswith("linux"):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class Meter:
    """Seconds and peak memory of a run on a device."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def _now(self) -> float:
        return torch.cuda.memory_allocated() / 1e6 if self.cuda else own_now_mb()

    def _peak(self) -> float:
        return torch.cuda.max_memory_allocated() / 1e6 if self.cuda else own_peak_mb()

    def _reset(self) -> None:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text(CLEAR_PEAK, encoding="ascii")

    def of(self, case: Case, run: Callable[[], torch.Tensor]) -> tuple[float, float]:
        """Milliseconds of loss and gradients, and peak beyond inputs and gradients in 10^6 bytes."""
        for leaf in case.leaves:
            leaf.grad = None
        if not self.cuda:  # there the allocator knows what is in use, and memory it holds makes a run faster
            settle()
        self._reset()
        before = self._now()
        self._wait()
        start = time.perf_counter()
        torch.autograd.backward(run())
        self._wait()
        seconds = time.perf_counter() - start
        gradients = sum(leaf.grad.numel() * leaf.grad.element_size() for leaf in case.leaves if leaf.grad is not None)
        return 1e3 * seconds, self._peak() - before - gradients / 1e6

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def measure(case: Case, device: torch.device, rounds: int, missing: Mapping[str, str] = NOBODY) -> list[Row]:
    """One row for each contestant. missing: why a contestant is not there, by name."""
    meter, found, reasons = Meter(device), {name: list[tuple[float, float]]() for name in case.runs}, dict[str, str]()
    losses: dict[str, float] = {}
    for name, run in case.runs.items():
        settle()
        reason = missing.get(name) or _misfit(case, name, device) or _try(case, name, run, losses)
        if reason:
            reasons[name] = reason
    running = [name for name in case.runs if name not in reasons]
    for _ in range(rounds):
        for name in running:
            found[name].append(meter.of(case, case.runs[name]))
    return [_row(case, name, found[name], reasons.get(name)) for name in case.runs]


def _try(case: Case, name: str, run: Callable[[], torch.Tensor], losses: dict[str, float]) -> str | None:
    """Run once, to warm up, and keep its loss; why it cannot take part, or None. A failure is a row, not the end."""
    try:
        loss = run()
        torch.autograd.backward(loss)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
    finally:
        for leaf in case.leaves:
            leaf.grad = None
    losses[name] = loss.item()
    ours = losses.get("kdc", losses[name])
    if abs(losses[name] - ours) > SAME * abs(ours):
        return f"its loss is {losses[name]:.6g}, and kdc's {ours:.6g}: not the same loss"
    return None


def _misfit(case: Case, name: str, device: torch.device) -> str | None:
    needed = case.needs.get(name, 0)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info()[0]
    else:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return f"needs {needed / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free" if needed > free else None


def _row(case: Case, name: str, found: list[tuple[float, float]], reason: str | None) -> Row:
    dtype = str(case.leaves[0].dtype).removeprefix("torch.")
    row: Row = {"kernel": case.kernel, "sizes": dict(case.sizes), "dtype": dtype, "contestant": name}
    if reason is not None:
        return row | {"not_run": reason}
    times = sorted(one for one, _ in found)
    return row | {
        "p20_ms": times[round(0.2 * (len(times) - 1))],
        "p50_ms": statistics.median(times),
        "p80_ms": times[round(0.8 * (len(times) - 1))],
        "extra_mb": max(0.0, statistics.median(one for _, one in found)),
        "gb_a_second": None if case.moves is None else case.moves / statistics.median(times) / 1e6,
        "rounds": len(times),
    }


def check(rows: list[Row], device: str) -> None:
    """Hold the targets: no slower than the rival, and bounded memory.

    Raises:
        GateError: one is missed.
    """
    others = {(row["kernel"], str(row["sizes"]), row["contestant"]): row for row in rows}
    for row in [row for row in rows if row["contestant"] == "kdc"]:
        where = f"{row['kernel']} at {row['sizes']}"
        if "not_run" in row:
            raise GateError(f"{where}: not run: {row['not_run']}")
        limit = LIMIT_MB.get(row["kernel"]) if device == "cpu" else None
        if limit is not None and row["extra_mb"] > limit:
            raise GateError(
                f"{where}: {row['extra_mb']:.0f} MB beyond inputs and gradients, and {limit:.0f} are allowed"
            )
        rival = others.get((row["kernel"], str(row["sizes"]), RIVAL[device]), {"not_run": "not in the case"})
        if "not_run" not in rival and row["p50_ms"] > rival["p50_ms"]:
            raise GateError(f"{where}: {row['p50_ms']:.1f} ms, and {RIVAL[device]} takes {rival['p50_ms']:.1f}")
        whose, share = SHARES[device].get(row["kernel"], (None, 1.0))
        their = others.get((row["kernel"], str(row["sizes"]), whose), {"not_run": "not in the case"})
        large = "not_run" not in their and their["extra_mb"] > LEAST_MB
        if large and row["extra_mb"] > share * their["extra_mb"]:
            raise GateError(f"{where}: {row['extra_mb']:.1f} MB, and {whose} takes {their['extra_mb']:.1f}")


def main() -> None:
    """Measure, append, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=CASES, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--only", nargs="+", help="kernels to time; all when absent")
    parser.add_argument("--check", action="store_true", help="hold the targets")
    options = parser.parse_args()
    with exit_codes("kernels"):
        unmade = enter(LIGER, "benchmarks.kernels")
        missing = NOBODY if unmade is None else {"Liger": unmade}
        rows = run_all(torch.device(options.device), options.rounds, options.only, missing)
        append(KERNEL_ROWS, rows)
        print("\n".join(kernel_table(rows)))
        if options.check:
            check(rows, options.device)


def run_all(
    device: torch.device, rounds: int, only: list[str] | None, missing: Mapping[str, str] = NOBODY
) -> list[Row]:
    """All rows, with where they come from.

    Raises:
        EnvironmentProblem: the device is not there, or its memory cannot be told.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EnvironmentProblem("there is no CUDA device: run with --device cpu")
    if device.type == "cpu" and not sys.platform.startswith("linux"):
        raise EnvironmentProblem("the peak of a run can only be told on Linux; measure there")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    made = {"benchmark": "kernels", "device": name, **origin(("torch", "triton", LIGER))}
    rows: list[Row] = []
    for build in CASES[device.type]():
        torch.manual_seed(0)
        case = build()
        if only is None or case.kernel in only:
            reporter.say(f"{case.kernel} {dict(case.sizes)}")
            rows += [made | row for row in measure(case, device, rounds, missing)]
    return rows


if __name__ == "__main__":
    main()

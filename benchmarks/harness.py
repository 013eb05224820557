"""What the bench itself adds to a latency: its loop, and LoadGen, around a model that does nothing.

    python -m benchmarks.harness

Prints, and appends to `results/harness.jsonl`, the latency that `kdc bench` reports of such a model in single-stream,
the model's own call included, and from which latency on that is less than 2%. The limit is 5 µs.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import RESULTS, append, origin
from compress.artifacts import ONNX
from compress.bench.lanes import Contender, Instruments
from compress.bench.measure import run_bench
from compress.bench.memory import Memory
from compress.extras import available
from compress.progress import reporter
from compress.recipe import Bench
from compress.runtime.predictor import Request

FILE = RESULTS / "harness.jsonl"
QUERIES = 20_000
REPEATS = 5
REQUESTS = tuple(Request(f"request {number}") for number in range(64))
LIMIT_US = 5.0
SHARE = 0.02


class Nothing:
    """Answers at once."""

    def encode(self, requests: Sequence[Request]) -> None:
        """No inputs."""

    def answer(self, requests: Sequence[Request], batch_size: int = 32) -> None:
        """No answers."""


def latency_us(queries: int, *, by_loadgen: bool) -> tuple[float, float]:
    """Median and p99 in microseconds that the bench reports of a model that does nothing."""
    bench = Bench(scenarios=("single-stream",), requests=queries, rounds=1, loadgen=by_loadgen)
    tools = Instruments(open=lambda *_: Nothing(), memory=lambda *_, **__: Memory(0.0))
    with TemporaryDirectory() as folder:
        (Path(folder) / ONNX).touch()
        (row,) = run_bench([Contender("nothing", Path(folder))], REQUESTS, bench, instruments=tools)
    if row.p50_ms is None or row.p99_ms is None:
        raise RuntimeError(f"the bench timed nothing: {row.status}")
    return row.p50_ms * 1e3, row.p99_ms * 1e3


def measure(queries: int, repeats: int) -> dict[str, Any]:
    """Medians over repeats, in which the two ways of asking take turns, and whether the limit is kept."""
    there = available("mlperf_loadgen")
    ways = {"loop": False} | ({"loadgen": True} if there else {})
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, by_loadgen in ways.items():
            taken[name].append(latency_us(queries, by_loadgen=by_loadgen))
    found: dict[str, Any] = {"benchmark": "harness", "queries": queries, "repeats": repeats}
    for name, pairs in taken.items():
        p50, p99 = (statistics.median(column) for column in zip(*pairs, strict=True))
        found[name] = {
            "p50_us": round(p50, 3),
            "p99_us": round(p99, 3),
            "below_2_percent_from_ms": round(p50 / SHARE / 1e3, 4),
            "within_limit": p50 <= LIMIT_US,
        }
    if not there:
        found["loadgen"] = "not run: mlcommons-loadgen is not installed"
    return found


def main() -> None:
    """Parse, measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("-o", "--out", type=Path, default=FILE, help="File of JSON lines that the row is appended to.")
    arguments = parser.parse_args()
    reporter.quiet = True
    row = measure(arguments.queries, arguments.repeats) | origin(["mlcommons-loadgen"])
    print(json.dumps(row))
    append(arguments.out, [row])


if __name__ == "__main__":
    main()

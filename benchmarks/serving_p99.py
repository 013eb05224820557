"""What HTTP adds to p99: the same requests at the same times, in process and asked of `kdc serve`.

    python -m benchmarks.serving_p99 runs/…/bundle/NAME.kdc --p99-ms 10 --check

`kdc bench --find-qps` finds the highest rate whose p99 is within `--p99-ms` in process, on one thread. Then both ways
take turns at 70% of it: in process MLPerf LoadGen's server scenario asks (Poisson arrivals), and what it has asked, at
the times at which it was due, is asked of a `kdc serve` with `--workers` workers (1) of one thread; each latency counts
from when its request was due. `kdc bench` keeps no texts, so that the server is told to keep none either
(`--cached-texts` says otherwise). Needs two cores with nothing else on them. One JSON line goes to
benchmarks/results/serving.jsonl; `--check` ends with exit code 5 where p99 over HTTP is more than twice that in process
(median of the rounds' ratios), or a request was not answered with 200.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arrivals import Replayed, replay
from benchmarks.common import RESULTS, append, exit_codes, origin
from benchmarks.processes import cpu_seconds
from benchmarks.serving import PACKAGES, bodies, free_port, serving
from compress.artifacts import Runtime
from compress.bench import loadgen
from compress.bench.measure import no_garbage_collection
from compress.bench.search import WARM_QUERIES
from compress.bundle.verify import read_golden
from compress.errors import GateError
from compress.runtime.bundle import open_bundle
from compress.runtime.predictor import Predictor, Request

BENCHMARK = "serving p99"
SHARE = 0.7
LIMIT = 2.0
LEAST_QUERIES = 300
"""Of a round: fewer have no 99th percentile to speak of."""
RUNTIME: Runtime = "onnxruntime"
TARGET = "onnxruntime-cpu"
"""What both ways are timed on, by its names for `kdc serve` and `kdc bench`: the model that every bundle has."""


@dataclass
class Ways:
    """Latencies in nanoseconds of each round in process and over HTTP, and what came of the latter."""

    in_process: list[Sequence[int]] = field(default_factory=list)
    http: list[Sequence[int]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    late: list[int] = field(default_factory=list)
    server_cpu: float = 0.0
    client_cpu: float = 0.0
    client_seconds: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Quantiles over all rounds, the ratio of each round and their median, and processor times.

        A disturbance of one round moves quantiles over all of them, in either way, and the median of ratios hardly.
        """
        pooled = {
            name: np.concatenate(rounds) for name, rounds in (("in_process", self.in_process), ("http", self.http))
        }
        rounds = [_p99(http) / _p99(alone) for alone, http in zip(self.in_process, self.http, strict=True)]
        return {
            **{name: {f"p{q}_ms": round(_ms(times, q), 3) for q in (50, 99)} for name, times in pooled.items()},
            "p99_ratio": round(statistics.median(rounds), 3),
            "p99_ratio_by_round": [round(ratio, 3) for ratio in rounds],
            "queries": len(pooled["http"]),
            "statuses": dict(self.statuses),
            "server_cpu_ms": round(1e3 * self.server_cpu / max(1, len(pooled["http"])), 3),
            "client_cores": round(self.client_cpu / self.client_seconds, 3),
            "client_late_p99_ms": round(_ms(self.late, 99), 3),
        }


def _ms(times_ns: Sequence[int] | np.ndarray[Any, Any], percentile: float) -> float:
    return float(np.percentile(times_ns, percentile, method="higher")) / 1e6


def _p99(times_ns: Sequence[int] | np.ndarray[Any, Any]) -> float:
    return _ms(times_ns, 99)


def highest_rate(bundle: Path, p99_ms: float) -> dict[str, Any]:
    """What `kdc bench --find-qps` finds: its row.

    Raises:
        GateError: no rate holds the bound.
    """
    command = [sys.executable, "-m", "compress", "bench", str(bundle), "--target", TARGET, "--threads", "1"]
    command += ["--find-qps", "--p99-ms", str(p99_ms), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise GateError(f"`{' '.join(command[1:])}` ends with exit code {done.returncode}: it says why above")
    row: dict[str, Any] = json.loads(done.stdout)["latency"][0]
    return row


def ask_in_process(predictor: Predictor, requests: Sequence[Request], load: loadgen.Load) -> tuple[Any, list[int]]:
    """A server run of LoadGen, and which request it asked for at each arrival."""
    asked: list[int] = []

    def answer(numbers: Sequence[int]) -> None:
        asked.extend(numbers)
        predictor.answer([requests[number] for number in numbers], batch_size=1)

    return loadgen.drive(load, answer), asked


def take_turns(bundle: Path, rate: float, rounds: int, queries: int, *, cached_texts: int, workers: int) -> Ways:
    """Both ways at one rate, so many rounds of so many queries; each round has its own arrivals."""
    opened = open_bundle(bundle)
    requests, _ = read_golden(opened)
    predictor, sent = opened.predictor(1, RUNTIME, cached_texts=cached_texts), bodies(bundle)
    port, ways = free_port(), Ways()
    command = [sys.executable, "-m", "compress", "serve", str(bundle), "--port", str(port), "--quiet"]
    command += ["--workers", str(workers), "--threads", "1", "--runtime", RUNTIME, "--cached-texts", str(cached_texts)]
    with serving(command, port) as server, no_garbage_collection():
        for number in range(rounds + 1):
            load = loadgen.Load("server", queries if number else LEAST_QUERIES, len(requests), qps=rate, seed=number)
            predictor.answer([requests[0]] * WARM_QUERIES, batch_size=1)
            alone, asked = ask_in_process(predictor, requests, load)
            before, own, start = cpu_seconds(server.pid), time.process_time(), time.perf_counter()
            replayed = replay(port, [sent[each] for each in asked], alone.arrivals_ns)
            if number:  # the first round warms both
                ways.in_process.append(alone.latencies_ns)
                _add(ways, replayed, cpu_seconds(server.pid) - before)
                ways.client_cpu += time.process_time() - own
                ways.client_seconds += time.perf_counter() - start
    return ways


def _add(ways: Ways, replayed: Replayed, server_cpu: float) -> None:
    ways.http.append(replayed.latencies_ns)
    ways.statuses += replayed.statuses
    ways.late += replayed.late_ns
    ways.server_cpu += server_cpu


def measure(
    bundle: Path, p99_ms: float, highest: float, *, rounds: int, seconds: float, cached_texts: int, workers: int
) -> dict[str, Any]:
    """The row."""
    rate = SHARE * highest
    queries = max(LEAST_QUERIES, round(rate * seconds))
    ways = take_turns(bundle, rate, rounds, queries, cached_texts=cached_texts, workers=workers)
    return {
        "benchmark": BENCHMARK,
        "bundle": bundle.name,
        "bundle_bytes": bundle.stat().st_size,
        "runtime": RUNTIME,
        "cached_texts": cached_texts,
        "workers": workers,
        "p99_bound_ms": p99_ms,
        "highest_qps": round(highest, 1),
        "qps": round(rate, 1),
        "rounds": rounds,
        "load": loadgen.load_name(),
        **ways.figures(),
        "limit": LIMIT,
        **origin([*PACKAGES, "mlcommons-loadgen"]),
    }


def check(row: dict[str, Any]) -> None:
    """Raise GateError where the limit is not kept."""
    others = {status: count for status, count in row["statuses"].items() if int(status) != 200}
    if others:
        raise GateError(f"{row['bundle']}: not every request was answered with 200: {others}")
    if row["p99_ratio"] > row["limit"]:
        raise GateError(
            f"{row['bundle']}: at {row['qps']:g} requests/s p99 over HTTP is {row['p99_ratio']:g} times that in "
            f"process, the limit is {row['limit']:g}; rounds: {row['p99_ratio_by_round']}"
        )


def main() -> None:
    """Parse, measure, append, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--p99-ms", type=float, required=True, help="The bound that the highest rate holds in process.")
    parser.add_argument("--highest-qps", type=float, help="That rate, where it is known: nothing is searched.")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0, help="Of each way in a round.")
    parser.add_argument("--workers", type=int, default=1, help="Of `kdc serve`, one thread each.")
    parser.add_argument("--cached-texts", type=int, default=0, help="Texts that both ways keep.")
    parser.add_argument("--check", action="store_true", help=f"Exit 5 where the ratio is above {LIMIT:g}.")
    parser.add_argument("--out", type=Path, default=RESULTS / "serving.jsonl")
    given = parser.parse_args()
    with exit_codes("serving_p99"):
        highest = given.highest_qps or highest_rate(given.bundle, given.p99_ms)["offered_qps"]
        row = measure(
            given.bundle,
            given.p99_ms,
            highest,
            rounds=given.rounds,
            seconds=given.seconds,
            cached_texts=given.cached_texts,
            workers=given.workers,
        )
        append(given.out, [row])
        print(json.dumps(row))
        if given.check:
            check(row)


if __name__ == "__main__":
    main()

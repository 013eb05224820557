"""The same model measured twice by `kdc bench`: by how much the two medians differ.

    python -m benchmarks.repeatability RUN [--artifact quantized] [--pairs 5] [--queries 3000] [--check]

Each measurement is a `kdc bench` of its own, one after the other, in single-stream with one thread on requests of the
run's test split. Prints, and appends to benchmarks/results/repeatability.jsonl, the p50 of each and the ratio of the
larger to the smaller one of each pair. --check ends with exit code 5 where a pair differs by 3% or more, as none
should on a quiet machine. It takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import RESULTS, append, exit_codes, origin
from benchmarks.run_requests import distinct_requests
from compress.errors import EnvironmentProblem, GateError, RecipeError
from compress.progress import reporter

REPEATABILITY_ROWS = RESULTS / "repeatability.jsonl"
LIMIT = 0.03
DISTINCT = 300
BENCH = (sys.executable, "-m", "compress", "bench")

Row = dict[str, Any]


def p50_ms(model: Path, requests: Path, queries: int) -> float:
    """One `kdc bench` of a deployable folder.

    Raises:
        EnvironmentProblem: it failed.
    """
    given = ["--scenario", "single-stream", "--requests", str(requests), "--queries", str(queries), "--json", "--quiet"]
    done = subprocess.run([*BENCH, str(model), *given], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvironmentProblem(f"`kdc bench {model}` ended with {done.returncode}: {last}")
    (row,) = json.loads(done.stdout)["latency"]
    if row["p50_ms"] is None:
        raise EnvironmentProblem(f"`kdc bench {model}` timed nothing: {row['status']}, {row['reason']}")
    return float(row["p50_ms"])


def summed_up(p50s: Sequence[float]) -> Row:
    """Of measurements in their order, each pair after the other: medians in ms, ratios, and the largest ratio."""
    pairs = list(zip(p50s[::2], p50s[1::2], strict=True))
    ratios = [max(pair) / min(pair) for pair in pairs]
    return {
        "p50_ms": [round(value, 6) for value in p50s],
        "ratios": [round(ratio, 4) for ratio in ratios],
        "median_ratio": round(statistics.median(ratios), 4),
        "largest_ratio": round(max(ratios), 4),
        "within_limit": max(ratios) < 1 + LIMIT,
    }


def check(row: Row) -> None:
    """Hold the limit.

    Raises:
        GateError: a pair differs by more.
    """
    if not row["within_limit"]:
        raise GateError(
            f"two measurements of one model differ by {row['largest_ratio'] - 1:.1%} in p50 (less than {LIMIT:.0%}); "
            "repeat it on a quiet machine"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, append, print, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--artifact", default="quantized", help="which of its folders is the model")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--queries", type=int, default=3000, help="of each measurement")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="data.root=… when data moved")
    parser.add_argument("-o", "--out", type=Path, default=REPEATABILITY_ROWS)
    parser.add_argument("--check", action="store_true", help="exit code 5 where a pair differs by 3% or more")
    options = parser.parse_args(arguments)
    with exit_codes("repeatability"):
        row = _measured(options)
        append(options.out, [row])
        print(json.dumps(row))
        if options.check:
            check(row)


def _measured(options: argparse.Namespace) -> Row:
    if options.pairs < 1:
        raise RecipeError(f"--pairs is {options.pairs}, but it takes at least 1; raise it")
    made = origin()  # before anything is timed: was the machine quiet?
    with TemporaryDirectory(prefix="kdc-repeatability-") as work:
        file = Path(work) / "requests.jsonl"
        append(file, map(asdict, distinct_requests(options.run, DISTINCT, options.set)))
        p50s = []
        for number in range(2 * options.pairs):
            reporter.say(f"  measurement {number + 1} of {2 * options.pairs}")
            p50s.append(p50_ms(options.run / options.artifact, file, options.queries))
    name = options.run.resolve().name
    given = f"--artifact {options.artifact} --pairs {options.pairs} --queries {options.queries}"
    return {
        "benchmark": "repeatability",
        "run": name,
        "artifact": options.artifact,
        "queries": options.queries,
        **summed_up(p50s),
        "command": f"python -m benchmarks.repeatability runs/{name} {given}",
        **made,
    }


if __name__ == "__main__":
    main()

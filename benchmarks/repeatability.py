"""The same model measured twice by `kdc bench`: by how much the two medians differ.

    python -m benchmarks.repeatability RUN [--artifact quantized] [--pairs 5] [--queries 20000] [--check]

In single-stream with one thread, on requests of the run's test split, in two ways: *side by side*, where one `kdc
bench` of the model and a copy lets both take turns, as whoever compares two models does; and *apart*, where each of a
pair is a `kdc bench` of its own, one after the other, as whoever compares with yesterday's figure does. Prints, and
appends to benchmarks/results/repeatability.jsonl, each p50 and the ratio of the larger to the smaller one of each
pair. --check ends with exit code 5 where a pair of either kind differs by 3% or more, as none should on a quiet
machine. It takes about five minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
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


def p50_ms(models: Sequence[Path], requests: Path, queries: int) -> list[float]:
    """One `kdc bench` of deployable folders, which take turns.

    Raises:
        EnvironmentProblem: it failed.
    """
    given = ["--scenario", "single-stream", "--requests", str(requests), "--queries", str(queries), "--json", "--quiet"]
    named = [str(model) for model in models]
    done = subprocess.run([*BENCH, *named, *given], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvironmentProblem(f"`kdc bench {' '.join(named)}` ended with {done.returncode}: {last}")
    rows = json.loads(done.stdout)["latency"]
    for row in rows:
        if row["p50_ms"] is None:
            raise EnvironmentProblem(f"`kdc bench {' '.join(named)}` timed nothing: {row['status']}, {row['reason']}")
    return [float(row["p50_ms"]) for row in rows]


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
    for way, found in (("side by side", row["side_by_side"]), ("apart", row)):
        if not found["within_limit"]:
            raise GateError(
                f"two measurements of one model, {way}, differ by {found['largest_ratio'] - 1:.1%} in p50 (less than "
                f"{LIMIT:.0%}); repeat it on a quiet machine"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, append, print, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--artifact", default="quantized", help="which of its folders is the model")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--queries", type=int, default=20_000, help="of each measurement")
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
        model, copy = options.run / options.artifact, Path(work) / "copy"
        apart, together = [], []
        for number in range(options.pairs):
            reporter.say(f"  pair {number + 1} of {options.pairs}")
            for _ in range(2):
                apart += p50_ms([model], file, options.queries)
            shutil.copytree(model, copy, dirs_exist_ok=True)
            together += p50_ms([model, copy], file, options.queries)
    name = options.run.resolve().name
    given = f"--artifact {options.artifact} --pairs {options.pairs} --queries {options.queries}"
    return {
        "benchmark": "repeatability",
        "run": name,
        "artifact": options.artifact,
        "queries": options.queries,
        **summed_up(apart),
        "side_by_side": summed_up(together),
        "command": f"python -m benchmarks.repeatability runs/{name} {given}",
        **made,
    }


if __name__ == "__main__":
    main()

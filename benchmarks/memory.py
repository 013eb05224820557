"""Peak memory of a run up to its student, by the size of the corpus that it learns from.

    python -m benchmarks.memory [--rows 10000 100000 1000000] [--corpus unlabeled train] [--check]
    python -m benchmarks.memory --rows                                             draw only

Each size is a run of its own, in a process of its own: simulated titles on disk, a BERT teacher of 2 layers of 32 with
random weights, a `static` student, hidden states compared, one epoch. Of each stage the highest resident memory is
kept (VmHWM, set back between stages; Linux alone), pages of mapped files included. A row for each run is appended to
benchmarks/results/memory.jsonl, and docs/memory.svg is drawn from the newest. `--check` ends with exit code 5 where
memory grows by more than the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.common import RESULTS, ROOT, append, exit_codes, origin
from benchmarks.frontier import standalone
from benchmarks.memory_corpus import CORPORA, write_project
from compress import pipeline
from compress.bench import charts
from compress.bench.memory import own_peak_mb
from compress.data.load import load_splits
from compress.errors import EnvironmentProblem, GateError
from compress.progress import reporter
from compress.recipe.file import load_recipe
from compress.stages import STAGES, StageRule
from compress.steps.context import Metrics, Run

FILE = RESULTS / "memory.jsonl"
PICTURE = ROOT / "docs" / "memory.svg"
SIZES = (10_000, 100_000, 1_000_000)
LIMIT = 64.0
"""Bytes that a further row may take."""
PACKAGES = ("torch", "datasets", "pyarrow")
CLEAR_PEAK = "5"
"""What sets VmHWM back to what is resident now (proc(5), clear_refs)."""

Row = dict[str, Any]


# ---------------------------------------------------------------- inside


class Watch:
    """Peak memory in 10^6 bytes, and seconds, of pieces of work one after the other."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def of(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work, watched."""

        def watched(*arguments: Any) -> Any:
            Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
            start = time.monotonic()
            found = work(*arguments)
            self.peaks[name] = round(own_peak_mb(), 1)
            self.seconds[name] = round(time.monotonic() - start, 1)
            return found

        return watched

    def stage(self, rule: StageRule) -> StageRule:
        """A stage whose body is watched."""

        def body() -> Callable[[Run, Path, Path], Metrics]:
            return self.of(rule.name, rule.body())

        return replace(rule, body=body)


def run_watched(recipe: Path) -> Row:
    """Run a recipe up to its student in this process; peaks and seconds by stage."""
    watch = Watch()
    stages = tuple(watch.stage(rule) for rule in STAGES)
    with patch.multiple(pipeline, STAGES=stages, load_splits=watch.of("data", load_splits)):
        pipeline.run(load_recipe(recipe), runs=recipe.parent / "runs", until="distill")
    return {"peak_mb": watch.peaks, "seconds": watch.seconds}


# ---------------------------------------------------------------- outside


def measure(rows: int, corpus: str) -> Row:
    """One run in a process of its own.

    Raises:
        EnvironmentProblem: not Linux, or the process ended badly.
    """
    if not sys.platform.startswith("linux"):
        raise EnvironmentProblem("the peak of a stage can only be told on Linux; measure there")
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:  # the folder of temporary files may be in memory
        reporter.say(f"{rows:,} {corpus} rows: writing them")
        recipe = write_project(Path(folder), rows, corpus)
        started = origin(PACKAGES)
        reporter.say(f"{rows:,} {corpus} rows: running")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TMPDIR": folder}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", "--inside", str(recipe)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=environment,
        )
    if done.returncode != 0:
        raise EnvironmentProblem(f"the run of {rows:,} rows ended with {done.returncode}: {done.stderr[-2000:]}")
    found: Row = json.loads(done.stdout)
    reporter.say(f"  {found['peak_mb']}")
    return {"benchmark": "memory", "corpus": corpus, "rows": rows} | found | started


def newest(rows: Sequence[Row]) -> dict[str, dict[int, Row]]:
    """The last row of each size, by corpus."""
    found: dict[str, dict[int, Row]] = {}
    for row in rows:
        found.setdefault(row["corpus"], {})[row["rows"]] = row
    return {corpus: dict(sorted(sizes.items())) for corpus, sizes in found.items()}


def highest(row: Row) -> float:
    """The highest peak of a run's stages, in 10^6 bytes."""
    return float(max(row["peak_mb"].values()))


def growth(sizes: dict[int, Row]) -> float:
    """Bytes that a further row takes, between the smallest and the largest run."""
    small, large = min(sizes), max(sizes)
    return 1e6 * (highest(sizes[large]) - highest(sizes[small])) / max(large - small, 1)


def picture(found: dict[str, dict[int, Row]]) -> str:
    """Peak memory against rows, for each corpus of which several sizes were measured."""
    series = [
        charts.Series(f"{corpus} rows", [(float(rows), highest(row)) for rows, row in sizes.items()], "", dash)
        for (corpus, sizes), dash in zip(sorted(found.items()), ("6 4", ""), strict=False)
        if len(sizes) > 1
    ]
    return standalone(charts.curve(series, "rows of the corpus (log scale)", "peak memory of the run, MB"))


def check(found: dict[str, dict[int, Row]]) -> None:
    """Hold the limit.

    Raises:
        GateError: memory grows by more.
    """
    for corpus, sizes in found.items():
        if growth(sizes) > LIMIT:
            raise GateError(
                f"{corpus} rows: a further row takes {growth(sizes):.0f} bytes of memory, but at most {LIMIT:g} are "
                "allowed; find the stage that grows among `peak_mb`"
            )


def main() -> None:
    """Measure, append, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", type=int, default=SIZES, help="sizes of the corpus")
    parser.add_argument("--corpus", nargs="+", choices=CORPORA, default=CORPORA, help="where the many rows are")
    parser.add_argument("--check", action="store_true", help="hold the limit of bytes a row")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with exit_codes("memory"):
        if options.inside is not None:
            print(json.dumps(run_watched(options.inside)))
            return
        for rows in options.rows:
            for corpus in options.corpus:
                append(FILE, [measure(rows, corpus)])
        found = newest([json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()])
        PICTURE.write_text(picture(found), encoding="utf-8")
        if options.check:
            check(found)


if __name__ == "__main__":
    main()

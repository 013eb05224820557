"""Cold start: a fresh process to its help text, and to its first answer.

    python -m benchmarks.start_up runs/…/bundle/NAME.kdc … --check

Adds a row to benchmarks/results/start_up.jsonl for each bundle: medians over `--rounds` processes each. With `--check`
the exit code is 5 where a limit is missed: 0.5 s for the help text,
1.0 s for the first answer of `kdc predict`, and for `compress.load` in a process of its own 0.5 s from before the
import to the first answer, and memory of the bundle's size and 60 MiB. Memory is what the process has for itself after
200 answers: resident pages that come from no file (RssAnon). Its peak with the libraries' pages is told beside it.

`end_to_end` is an answer from text, of titles that were asked before, against the model's own time for the same
tokens: medians of single requests in blocks that take turns, one thread; the limits are 1.3 for a transformer and 1.6
for `mobile`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, append, exit_codes, origin
from compress import load
from compress.errors import RecipeError
from compress.runtime.bundle import GOLDEN, open_bundle
from compress.runtime.predictor import Request

IN_PROCESS = """
import json, sys, time
start, own = time.perf_counter(), time.process_time()
import compress
model = compress.load(sys.argv[1])
request = compress.Request(**json.loads(sys.stdin.read()))
model.predict_one(request)
taken, computed = time.perf_counter() - start, time.process_time() - own
for _ in range(200):
    model.predict_one(request)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
kept = {name: int(status[name].split()[0]) / 1024 for name in ("RssAnon", "VmHWM")}
kept |= {"seconds": taken, "cpu": computed}
print(json.dumps(kept))
"""
"""A program that loads a bundle and answers; memory in MiB."""
TURNS = 30
START_UP_ROWS = RESULTS / "start_up.jsonl"
LIMITS = {"help_s": 0.5, "predict_s": 1.0, "load_s": 0.5, "beyond_model_mib": 60.0}
END_TO_END = {"transformer": 1.3, "mobile": 1.6}
"""Largest `warm_ratio` of a family; the others have no limit."""
KDC = Path(sys.executable).with_name("kdc")


def seconds(command: Sequence[str], stdin: str = "") -> float:
    """Wall time of one process, which must end well and print something."""
    start = time.perf_counter()
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode != 0 or not done.stdout.strip():
        raise RecipeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return taken


def first_request(bundle: Path) -> str:
    """The first golden request of a bundle, as a JSON line for `kdc predict`."""
    line = open_bundle(bundle).members[GOLDEN].decode().split("\n")[0]
    request = Request(**json.loads(line)["request"])
    return json.dumps({key: value for key, value in asdict(request).items() if value is not None}) + "\n"


def family(bundle: Path) -> str:
    """The kind of student in a bundle."""
    student = open_bundle(bundle).manifest.spec.student
    return str(student["section"]["kind"]) if student else "unknown"


def in_process(bundle: Path, request: str, rounds: int) -> dict[str, float]:
    """Medians over processes: seconds to the first answer, memory beyond the model's files, MiB."""
    found = []
    for _ in range(rounds):
        command = [sys.executable, "-c", IN_PROCESS, str(bundle)]
        done = subprocess.run(command, input=request, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RecipeError(f"loading {bundle} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
        found.append(json.loads(done.stdout))
    middle = {name: statistics.median(row[name] for row in found) for name in found[0]}
    model = bundle.stat().st_size / 2**20
    return {
        "load_s": round(middle["seconds"], 4),
        "load_cpu_s": round(middle["cpu"], 4),
        "load_max_s": round(max(row["seconds"] for row in found), 4),
        "model_mib": round(model, 1),
        "beyond_model_mib": round(middle["RssAnon"] - model, 1),
        "peak_with_libraries_mib": round(middle["VmHWM"], 1),
    }


def end_to_end(bundle: Path) -> dict[str, float]:
    """Median microseconds of one request, tokenised anew, with its titles known, and of the model alone."""
    opened = open_bundle(bundle)
    asked = [Request(**json.loads(line)["request"]) for line in opened.members[GOLDEN].decode().splitlines()]
    cold, warm = opened.predictor(), load(bundle).predictor
    feeds = [warm.encode([request]) for request in asked]
    calls: dict[str, list[Callable[[], object]]] = {
        "cold": [partial(cold.answer, [request]) for request in asked],
        "warm": [partial(warm.answer, [request]) for request in asked],
        "model": [partial(warm.logits_from, feed) for feed in feeds],
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, each in calls.items():  # whole blocks: two models that alternate push each other out of the caches
            for call in each:
                start = time.perf_counter()
                call()
                taken[name].append(time.perf_counter() - start)
    middle = {f"{name}_us": round(1e6 * statistics.median(values), 1) for name, values in taken.items()}
    return middle | {f"{name}_ratio": round(middle[f"{name}_us"] / middle["model_us"], 3) for name in ("cold", "warm")}


def measure(bundle: Path, rounds: int) -> dict[str, object]:
    """Median seconds of each command; the commands take turns."""
    request = first_request(bundle)
    commands = {"help": ([str(KDC), "--help"], ""), "predict": ([str(KDC), "predict", str(bundle)], request)}
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (command, stdin) in commands.items():
            taken[name].append(seconds(command, stdin))
    return {
        "benchmark": "start_up",
        "bundle": bundle.stem,
        "family": family(bundle),
        "rounds": rounds,
        "bundle_bytes": bundle.stat().st_size,
        **{f"{name}_s": round(statistics.median(values), 4) for name, values in taken.items()},
        **{f"{name}_max_s": round(max(values), 4) for name, values in taken.items()},
        **in_process(bundle, request, rounds),
        **end_to_end(bundle),
        **origin(),
    }


def missed(row: dict[str, Any]) -> list[str]:
    """What of a row is beyond its limit, each with both values."""
    limits = dict(LIMITS)
    if row["family"] in END_TO_END:
        limits["warm_ratio"] = END_TO_END[row["family"]]
    return [f"{name} {row[name]} > {limit}" for name, limit in limits.items() if row[name] > limit]


def main() -> None:
    """Parse, measure, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--check", action="store_true", help="exit code 5 where a limit is missed")
    arguments = parser.parse_args()
    with exit_codes("start_up"):
        rows = [measure(bundle, arguments.rounds) for bundle in arguments.bundles]
    append(START_UP_ROWS, rows)
    for row in rows:
        print(json.dumps(row))
        for what in missed(row):
            print(f"start_up: {row['bundle']}: {what}", file=sys.stderr)
    if arguments.check and any(missed(row) for row in rows):
        sys.exit(5)


if __name__ == "__main__":
    main()

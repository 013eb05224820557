"""Cold start: a fresh process to its help text, and to its first answer.

    python -m benchmarks.start_up runs/…/bundle/NAME.kdc

Prints one JSON line: medians in seconds over `--rounds` processes each, and the machine. The limits are 0.5 s
for the help text and 1.0 s for the first answer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from compress.bench.machine import describe
from compress.errors import KdcError, RecipeError
from compress.runtime.bundle import GOLDEN, open_bundle
from compress.runtime.predictor import Request

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
        "rounds": rounds,
        "bundle_bytes": bundle.stat().st_size,
        **{f"{name}_s": round(statistics.median(values), 4) for name, values in taken.items()},
        **{f"{name}_max_s": round(max(values), 4) for name, values in taken.items()},
        "machine": describe(),
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    try:
        print(json.dumps(measure(arguments.bundle, arguments.rounds)))
    except KdcError as error:
        sys.exit(f"start_up: {error}")


if __name__ == "__main__":
    main()

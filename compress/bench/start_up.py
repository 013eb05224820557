"""Start-up: from the start of a fresh process, over loading the model, to its first answer.

Run as `python -m compress.bench.start_up FOLDER THREADS TARGET`, with a request as JSON on stdin.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from compress.bench.targets import ONNXRUNTIME
from compress.errors import EnvironmentProblem

if TYPE_CHECKING:
    from compress.runtime.predictor import Request

PROCESSES = 3
TIMEOUT_SECONDS = 120


def startup_ms(folder: Path, request: Request, *, threads: int = 1, target: str = ONNXRUNTIME) -> float:
    """Median milliseconds of three processes, the interpreter's own start included; the files were read before.

    Raises:
        EnvironmentProblem: a process ended badly, or took over two minutes.
    """
    command = [sys.executable, "-m", "compress.bench.start_up", str(folder), str(threads), target]
    return statistics.median(_once(command, json.dumps(asdict(request)), folder) for _ in range(PROCESSES))


def _once(command: list[str], request: str, folder: Path) -> float:
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, timeout=TIMEOUT_SECONDS, check=False, encoding="utf-8"
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(
            f"starting {folder} took more than {TIMEOUT_SECONDS} s; repeat it on a machine that is less busy"
        ) from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvironmentProblem(
            f"{folder} did not start: its process ended with {done.returncode} ({last}); run `kdc predict` on it to "
            "see why"
        )
    return (time.perf_counter() - began) * 1e3


def main(folder: str, threads: str, target: str) -> None:
    """Answer the request on stdin with the model in `folder`."""
    from compress.bench.targets import open_model
    from compress.runtime.predictor import Request

    open_model(Path(folder), int(threads), target).answer([Request(**json.load(sys.stdin))], 1)


if __name__ == "__main__":
    main(*sys.argv[1:])

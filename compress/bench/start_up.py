"""Start-up: from the start of a fresh process, over loading the model, to its first answer.

Run as `python -m compress.bench.start_up FOLDER THREADS TARGET`, with a request as JSON on stdin.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from compress.bench.fresh import run_fresh
from compress.bench.targets import ONNXRUNTIME

if TYPE_CHECKING:
    from compress.runtime.predictor import Request

PROCESSES = 3


def startup_ms(folder: Path, request: Request, *, threads: int = 1, target: str = ONNXRUNTIME) -> float:
    """Median milliseconds of three processes, the interpreter's own start included; the files were read before.

    Raises:
        EnvironmentProblem: a process ended badly, or took over two minutes.
    """
    arguments, asked = [str(folder), str(threads), target], json.dumps(asdict(request))
    return statistics.median(_once(arguments, asked, folder) for _ in range(PROCESSES))


def _once(arguments: list[str], request: str, folder: Path) -> float:
    began = time.perf_counter()
    remedy = "run `kdc predict` on it to see why"
    run_fresh("compress.bench.start_up", arguments, f"starting {folder}", request=request, remedy=remedy)
    return (time.perf_counter() - began) * 1e3


def main(folder: str, threads: str, target: str) -> None:
    """Answer the request on stdin with the model in `folder`."""
    from compress.bench.targets import open_model
    from compress.runtime.predictor import Request

    open_model(Path(folder), int(threads), target).answer([Request(**json.load(sys.stdin))], 1)


if __name__ == "__main__":
    main(*sys.argv[1:])

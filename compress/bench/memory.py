"""Peak memory of a fresh process that loads a deployable folder and answers a few requests.

`python -m compress.bench.memory FOLDER THREADS BATCH TARGET` reads requests (JSON list) on stdin, prints megabytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from compress.bench.fresh import run_fresh
from compress.bench.targets import ONNXRUNTIME

if TYPE_CHECKING:
    from compress.runtime.predictor import Request

REQUESTS = 20


def peak_mb(
    folder: Path, requests: Sequence[Request], *, threads: int = 1, batch: int = 1, target: str = ONNXRUNTIME
) -> float:
    """Peak resident memory, in 10^6 bytes, of loading `folder` and answering 20 requests or one batch.

    Raises:
        EnvironmentProblem: the process ended badly, for lack of memory for example, or took over two minutes.
    """
    asked = json.dumps([asdict(request) for request in requests[: max(REQUESTS, batch)]])
    arguments = [str(folder), str(threads), str(batch), target]
    remedy = "run `kdc predict` on it to see why"
    what = f"measuring the memory of {folder}"
    return float(run_fresh("compress.bench.memory", arguments, what, request=asked, remedy=remedy))


def own_peak_mb() -> float:
    """Peak resident memory of this process in 10^6 bytes."""
    # On Linux ru_maxrss survives exec and so starts at the size of whoever started this process (a training
    # with torch, say); VmHWM belongs to this program's own memory alone.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def main(folder: str, threads: str, batch: str, target: str) -> None:
    """Answer the requests on stdin with the model in `folder`, then print this process's peak."""
    from compress.bench.targets import open_model
    from compress.runtime.predictor import Request

    requests = [Request(**fields) for fields in json.load(sys.stdin)]
    model = open_model(Path(folder), int(threads), target)
    for start in range(0, len(requests), int(batch)):
        model.answer(requests[start : start + int(batch)], int(batch))
    sys.stdout.write(f"{own_peak_mb():.3f}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

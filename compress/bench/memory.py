"""Memory of a fresh process that loads a deployable folder and answers a few requests.

`python -m compress.bench.memory FOLDER THREADS BATCH TARGET` reads requests (JSON list) on stdin, prints `Memory`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.bench import device_memory
from compress.bench.fresh import run_fresh
from compress.bench.targets import ON_GPU, ONNXRUNTIME

if TYPE_CHECKING:
    from compress.runtime.predictor import Request

REQUESTS = 20


@dataclass(frozen=True)
class Memory:
    """What a process took, in 10^6 bytes; None where it was not measured.

    peak: most that was resident. mapped: of what is resident at the end, pages of files (libraries, mapped weights),
    which processes of one machine share. gpu: of the device, and gpu_by: who tells it, or why nobody does.
    """

    peak: float
    mapped: float | None = None
    gpu: float | None = None
    gpu_by: str | None = None


def taken(
    folder: Path, requests: Sequence[Request], *, threads: int = 1, batch: int = 1, target: str = ONNXRUNTIME
) -> Memory:
    """What a fresh process takes that loads `folder` and answers 20 requests or one batch.

    Raises:
        EnvironmentProblem: the process ended badly, for lack of memory for example, or took over two minutes.
    """
    asked = json.dumps([asdict(request) for request in requests[: max(REQUESTS, batch)]])
    arguments = [str(folder), str(threads), str(batch), target]
    remedy = "run `kdc predict` on it to see why"
    what = f"measuring the memory of {folder}"
    printed = run_fresh("compress.bench.memory", arguments, what, request=asked, remedy=remedy)
    return Memory(**json.loads(printed.splitlines()[-1]))


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


def own_mapped_mb(rollup: Path = Path("/proc/self/smaps_rollup")) -> float | None:
    """Resident pages of files of this process, in 10^6 bytes; None where the system does not tell."""
    if not rollup.is_file():
        return None
    sizes = {
        name: int(value.split()[0]) * 1024
        for name, colon, value in (line.partition(":") for line in rollup.read_text(encoding="ascii").splitlines()[1:])
        if colon
    }
    return (sizes["Rss"] - sizes["Anonymous"]) / 1e6


def main(folder: str, threads: str, batch: str, target: str) -> None:
    """Answer the requests on stdin with the model in `folder`, then print what this process took."""
    from compress.bench.targets import open_model
    from compress.runtime.predictor import Request

    requests = [Request(**fields) for fields in json.load(sys.stdin)]
    model = open_model(Path(folder), int(threads), target)
    for start in range(0, len(requests), int(batch)):
        model.answer(requests[start : start + int(batch)], int(batch))
    gpu, by = device_memory.own_mb(target) if target in ON_GPU else (None, None)
    found = Memory(own_peak_mb(), own_mapped_mb(), gpu, by)
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Serving: which engine, and what HTTP costs.

    python -m benchmarks.serving runs/…/bundle/NAME.kdc

Measures the bundle in this process, one request at a time; then each engine and `kdc serve` in a process of its own,
with one worker: the most requests a second (16 connections, each asks again when it is answered), and p50 and p99 of
Poisson arrivals at 70% of the rate in process, counted from when a request was due. Beside each stands the server's
processor time for an answer, which a busy machine changes less than the times. Engines take turns, `--rounds`
times; each round is a JSON line in benchmarks/results/serving.jsonl. `--engine` picks some of them.
FastAPI and granian are installed at their first use into an environment of their own below benchmarks/.peers, where all
engines then run; where that fails, or a peer does not serve, its row says so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, append, exit_codes, origin
from benchmarks.http_load import closed_loop, open_loop, post
from benchmarks.peer_environments import enter
from compress.bundle.verify import read_golden
from compress.errors import EnvironmentProblem
from compress.runtime.bundle import open_bundle

ENGINES = ("fastapi+uvicorn", "fastapi+granian", "starlette+uvicorn", "starlette+granian", "kdc serve")
OURS = ("starlette+uvicorn", "kdc serve")
"""What the extra `serve` is enough for; the others are peers."""
NOT_MEASURED = {
    "LitServe": "not run: not installed",
    "BentoML": "not run: not installed",
}
PACKAGES = ("uvicorn", "granian", "starlette", "fastapi", "httptools", "uvloop")
PRINTED = ("engine", "not_run", "in_process", "most", "open_loop", "p99_ratio")
CONNECTIONS = 16
SHARE = 0.7
PATIENCE_SECONDS = 60.0


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own, once it accepts connections."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise EnvironmentProblem(f"{' '.join(command)} does not serve (exit code {process.poll()})")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_seconds(session: int) -> float:
    """Processor time of all living processes of a session, with that of their children that ended."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) if int(fields[3]) == session else 0
    return total / os.sysconf("SC_CLK_TCK")


def command_of(engine: str, bundle: Path, port: int) -> list[str]:
    """How an engine is started."""
    if engine == "kdc serve":
        return [sys.executable, "-m", "compress", "serve", str(bundle), "--port", str(port), "--quiet"]
    return [sys.executable, "-m", "benchmarks.serving_apps", *engine.split("+"), str(bundle), str(port)]


def in_process(bundle: Path, seconds: float) -> dict[str, float]:
    """One golden request after the other, one thread: answers a second and quantiles in milliseconds."""
    opened = open_bundle(bundle)
    predictor, (requests, _) = opened.predictor(), read_golden(opened)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        predictor.answer([requests[len(taken) % len(requests)]])
        taken.append(time.perf_counter() - start)
    warm = np.array(taken[len(taken) // 10 :])
    p50, p99 = np.percentile(1000 * warm, (50, 99))
    return {"per_second": round(1 / warm.mean(), 1), "p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def bodies(bundle: Path) -> list[bytes]:
    """The golden requests as HTTP requests."""
    requests, _ = read_golden(open_bundle(bundle))
    given = ({k: v for k, v in asdict(request).items() if v is not None} for request in requests)
    return [post("/v1/predict", json.dumps(body).encode()) for body in given]


async def loads(session: int, port: int, requests: Sequence[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Warm-up, the most that is possible, and the rate asked for; milliseconds of processor time for each answer."""
    await closed_loop(port, requests, CONNECTIONS, seconds / 4)
    found = {}
    for name in ("most", "open_loop"):
        before = cpu_seconds(session)
        if name == "most":
            figures = await closed_loop(port, requests, CONNECTIONS, seconds)
        else:
            figures = await open_loop(port, requests, rate, seconds)
        spent = 1000 * (cpu_seconds(session) - before) / max(len(figures.milliseconds), 1)
        found[name] = {**figures.summary(), "cpu_ms": round(spent, 3)}
    found["open_loop"]["rate"] = round(rate, 1)
    return found


def measure(
    bundle: Path, engines: Sequence[str], rounds: int, seconds: float, missing: str | None = None
) -> Iterator[dict[str, Any]]:
    """A row for each engine and round. missing: why peers are not there, where they are not.

    Raises:
        EnvironmentProblem: an engine that is no peer does not serve.
    """
    requests = bodies(bundle)
    for number in range(rounds):
        alone = in_process(bundle, seconds)
        for engine in engines:
            reason, seen = None if engine in OURS else missing, dict[str, Any]()
            if reason is None:
                try:
                    seen = _served(engine, bundle, requests, alone, seconds)
                except Exception as error:  # a peer that fails, however, is a row with its error
                    if engine in OURS:
                        raise
                    reason = f"{type(error).__name__}: {error}".splitlines()[0]
            yield {
                "benchmark": "serving",
                "engine": engine,
                "round": number,
                "seconds": seconds,
                "bundle": bundle.name,
                "bundle_bytes": bundle.stat().st_size,
                "in_process": alone,
                **(seen if reason is None else {"not_run": reason}),
                "not_measured": NOT_MEASURED,
                **origin(PACKAGES),
            }


def _served(
    engine: str, bundle: Path, requests: Sequence[bytes], alone: dict[str, float], seconds: float
) -> dict[str, Any]:
    """The figures of one engine in a process of its own."""
    port = free_port()
    with serving(command_of(engine, bundle, port), port) as server:
        seen = asyncio.run(loads(server.pid, port, requests, SHARE * alone["per_second"], seconds))
    ratio = seen["open_loop"].get("p99_ms", float("nan")) / alone["p99_ms"]
    return seen | {"p99_ratio": round(ratio, 2)}


def main() -> None:
    """Parse, measure, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="Of each load.")
    parser.add_argument("--out", type=Path, default=RESULTS / "serving.jsonl")
    arguments = parser.parse_args()
    with exit_codes("serving"):
        missing = enter("serving", "benchmarks.serving")
        engines = arguments.engine or ENGINES
        for row in measure(arguments.bundle, engines, arguments.rounds, arguments.seconds, missing):
            append(arguments.out, [row])
            print(json.dumps({key: row[key] for key in PRINTED if key in row}))


if __name__ == "__main__":
    main()

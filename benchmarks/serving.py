"""Serving: which engine, and what HTTP costs.

    python -m benchmarks.serving runs/…/bundle/NAME.kdc

Measures the bundle in this process, one request at a time; then each engine and `kdc serve` in processes of their own,
with one worker: once each golden request was answered as in this process, the most requests a second (16 connections,
each asks again when it is answered), and p50 and p99 of Poisson arrivals at 70% of that rate, counted from when a
request was due. Beside each stands the server's processor time for an answer, which a busy machine changes less than
the times. Engines take turns, `--rounds` times; each round is a JSON line in benchmarks/results/serving.jsonl.
`--engine` picks some of them.
FastAPI, granian, LitServe and BentoML are installed at their first use into an environment of their own below
benchmarks/.peers, where all engines then run; where that fails, or a peer does not serve or answers otherwise, its row
says so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
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

from benchmarks.arrivals import Replayed, replay
from benchmarks.common import RESULTS, append, exit_codes, origin
from benchmarks.http_answers import TOLERANCE, body_of, same
from benchmarks.http_load import Pool, closed_loop, post
from benchmarks.peer_environments import enter
from benchmarks.processes import cpu_seconds, end, processes
from compress.bundle.verify import read_golden
from compress.errors import EnvironmentProblem, IntegrityError
from compress.runtime.bundle import open_bundle

ENGINES = (
    "fastapi+uvicorn",
    "fastapi+granian",
    "starlette+uvicorn",
    "starlette+granian",
    "litserve",
    "bentoml",
    "kdc serve",
)
OURS = ("starlette+uvicorn", "kdc serve")
"""What the extra `serve` is enough for; the others are peers."""
PACKAGES = ("uvicorn", "granian", "starlette", "fastapi", "httptools", "uvloop", "litserve", "bentoml")
PRINTED = ("engine", "not_run", "in_process", "most", "open_loop")
CONNECTIONS = 16
SHARE = 0.7
LEAST_ARRIVALS = 100
PATIENCE_SECONDS = 60.0


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server in processes of its own, once it accepts connections; at the end none of them is left.

    Raises:
        EnvironmentProblem: it ended, or accepted none in time.
    """
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise EnvironmentProblem(f"{' '.join(command)} does not serve (exit code {process.poll()})")
            time.sleep(0.1)
        yield process
    finally:
        own = processes(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        end(own + processes(process.pid))  # a peer that had to be killed leaves its workers behind


def command_of(engine: str, bundle: Path, port: int) -> list[str]:
    """How an engine is started."""
    if engine == "kdc serve":
        return [sys.executable, "-m", "compress", "serve", str(bundle), "--port", str(port), "--quiet"]
    return [sys.executable, "-m", "benchmarks.serving_apps", engine, str(bundle), str(port)]


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
    return [post("/v1/predict", json.dumps(body_of(request)).encode()) for request in requests]


def answers(bundle: Path) -> list[dict[str, Any]]:
    """What this process answers to the golden requests, each asked alone."""
    opened = open_bundle(bundle)
    return [asdict(answer) for answer in opened.predictor().answer(read_golden(opened)[0], batch_size=1)]


async def check_answers(port: int, requests: Sequence[bytes], wanted: Sequence[dict[str, Any]]) -> None:
    """Each request once, one after the other. A server may accept connections long before it answers.

    Raises:
        EnvironmentProblem: not all were answered in time.
        IntegrityError: one was answered otherwise.
    """
    pool = Pool(port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for number, (request, expected) in enumerate(zip(requests, wanted, strict=True)):
                reply = await pool.ask(request)
                if reply.status != 200 or not same(reply.json(), expected, TOLERANCE):
                    told = f"{reply.status} {reply.body[:200]!r}"
                    raise IntegrityError(f"golden request {number} is answered with {told}, in process {expected}")
    except TimeoutError as error:
        raise EnvironmentProblem(f"no answer to all golden requests within {PATIENCE_SECONDS:g} s") from error
    finally:
        pool.close()


def loads(session: int, port: int, requests: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """Warm-up, the most that is possible, and a share of that; milliseconds of processor time for each answer."""
    asyncio.run(closed_loop(port, requests, CONNECTIONS, seconds / 4))
    before = cpu_seconds(session)
    most = asyncio.run(closed_loop(port, requests, CONNECTIONS, seconds))
    between = cpu_seconds(session)
    rate = SHARE * len(most.milliseconds) / most.seconds
    seen = poisson(port, requests, rate, max(LEAST_ARRIVALS, round(rate * seconds)))
    after = cpu_seconds(session)
    return {
        "most": most.summary() | {"cpu_ms": _each(between - before, len(most.milliseconds))},
        "open_loop": {
            "share": SHARE,
            "rate": round(rate, 1),
            "statuses": dict(seen.statuses),
            **{f"p{q}_ms": round(float(np.percentile(seen.latencies_ns, q)) / 1e6, 3) for q in (50, 99)},
            "cpu_ms": _each(after - between, len(seen.latencies_ns)),
        },
    }


def poisson(port: int, requests: Sequence[bytes], rate: float, count: int) -> Replayed:
    """So many requests in turn, at random times with `rate` a second in the mean."""
    gaps = np.random.default_rng(0).exponential(1e9 / rate, count)
    return replay(
        port, [requests[number % len(requests)] for number in range(count)], np.cumsum(gaps).astype(int).tolist()
    )


def _each(seconds: float, answers: int) -> float:
    return round(1000 * seconds / max(answers, 1), 3)


def measure(
    bundle: Path, engines: Sequence[str], rounds: int, seconds: float, missing: str | None = None
) -> Iterator[dict[str, Any]]:
    """A row for each engine and round. missing: why peers are not there, where they are not.

    Raises:
        EnvironmentProblem, IntegrityError: an engine that is no peer does not serve, or answers otherwise.
    """
    golden = bodies(bundle), answers(bundle)
    for number in range(rounds):
        alone = in_process(bundle, seconds)
        for engine in engines:
            reason, seen = None if engine in OURS else missing, dict[str, Any]()
            if reason is None:
                try:
                    seen = _served(engine, bundle, golden, seconds)
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
                **origin(PACKAGES),
            }


def _served(
    engine: str, bundle: Path, golden: tuple[Sequence[bytes], Sequence[dict[str, Any]]], seconds: float
) -> dict[str, Any]:
    """The figures of one engine in processes of its own. golden: requests with this process's answers."""
    requests, wanted = golden
    port = free_port()
    with serving(command_of(engine, bundle, port), port) as server:
        asyncio.run(check_answers(port, requests, wanted))
        return loads(server.pid, port, requests, seconds)


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

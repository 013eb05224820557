"""A server under mixed load for an hour: is every answer right, is none lost, is memory flat?

    python -m benchmarks.soak runs/…/bundle/NAME.kdc --minutes 60

`kdc serve` with two workers is asked, at up to `--rate` requests a second, fewer where server and clients together
would use more than `--cores` of the machine: golden requests and new texts, many at once, rankings where
the bundle can, malformed and oversized bodies, and by clients that stop in the middle of a head or a body. Meanwhile
new bundles come in (a good one every 20 s, in turns with a damaged one, which must be refused), and every 45 s the
younger worker is killed; the older one lives through all. Each answer is compared with this process's own; one of the
same label whose numbers differ by what int8 may answer otherwise in a batch is counted as `rounded`. A request
whose connection breaks is sent again, at most twice, as clients do; after that it counts as lost. Memory of each
process is sampled every 7 s; `benchmarks/soak_memory.py` says what is flat. A line every half minute goes to stderr,
one JSON line to benchmarks/results/soak.jsonl. Exit code 5 where an answer was wrong or lost, the server did not end in
order, or memory was not flat.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, append, exit_codes, origin
from benchmarks.http_answers import TOLERANCE, body_of, same
from benchmarks.http_load import RESET, Connection, Pool, Reply, get, post
from benchmarks.processes import workers_of
from benchmarks.serving import PACKAGES, free_port, serving
from benchmarks.soak_memory import Sample, judge, sample
from benchmarks.soak_pace import Pace
from compress.bundle.verify import read_golden
from compress.errors import GateError
from compress.runtime.answers import PROBABILITY_TOLERANCE
from compress.runtime.archive import pack
from compress.runtime.bundle import MANIFEST, manifest_bytes, manifest_digest, open_bundle
from compress.runtime.predictor import Request

MAX_ROWS, MAX_BYTES, TIMEOUT = 64, 1 << 16, 5.0
RELOAD_SECONDS, KILL_SECONDS, MEMORY_SECONDS = 20.0, 45.0, 7.0
BATCH_TIMES = 4
"""Larger still where the server says that a batch changes more: so many times what it saw on the golden requests."""
ROUNDED = PROBABILITY_TOLERANCE
"""What int8 may answer otherwise in a batch, as `kdc verify` allows another machine: told apart, and not wrong."""
TRIES = 3
MALFORMED = (
    (b"{", 400),
    (b'{"text": NaN}', 400),
    (b'{"text": "\xff"}', 400),
    (b'{"text": "\\ud800"}', 400),
    (b"[]", 422),
    (b'{"text": 3}', 422),
    (b'{"txt": "shoe"}', 422),
    (b'{"requests": []}', 422),
)


@dataclass
class Seen:
    """What came of all requests."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    rounded: int = 0
    lost: int = 0
    again: int = 0
    killed: int = 0
    asked_reloads: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    tolerance: float = TOLERANCE
    start: float = field(default_factory=time.monotonic)

    def told(self) -> str:
        """All in a line."""
        memory = f"{self.samples[-1].total:.0f} MB" if self.samples else "memory not yet seen"
        return (
            f"{time.monotonic() - self.start:,.0f} s, {sum(self.statuses.values()):,} answers, "
            f"{len(self.wrong)} wrong, {self.rounded} rounded otherwise, {self.lost} lost, {self.again} sent again, "
            f"{self.killed} killed, reloads {dict(self.asked_reloads)}, {memory}"
        )

    def expect(self, kind: str, reply: Reply | None, status: int, fits: Callable[[Any], bool]) -> None:
        """Count a reply, and whether it is what it must be. Refusals under load (429, 504) are no wrong answers."""
        if reply is None:
            self.lost += 1
            return
        self.statuses[f"{kind} {reply.status}"] += 1
        if reply.status in (429, 504):
            return
        if reply.status != status or not fits(reply.json()):
            self.wrong.append(f"{kind} {reply.status} {reply.body[:200]!r}")


class Truth:
    """The golden requests and this process's own answers to them, each asked alone."""

    def __init__(self, bundle: Path) -> None:
        opened = open_bundle(bundle)
        predictor = opened.predictor()
        self.requests, _ = read_golden(opened)
        self.answers = [asdict(answer) for answer in predictor.answer(self.requests, batch_size=1)]
        self.bodies = [body_of(each) for each in self.requests]
        self.can_rank = predictor.spec.two_texts and predictor.spec.similarity is None
        self.predictor = predictor

    def answer(self, request: Request) -> dict[str, Any]:
        """This process's answer to another request."""
        return asdict(self.predictor.answer([request])[0])

    def scores(self, query: str, candidates: Sequence[str]) -> list[float]:
        """The score of each pair."""
        return [answer.score for answer in self.predictor.answer([Request(query, each) for each in candidates], 1)]


class Load:
    """The clients."""

    def __init__(self, port: int, truth: Truth, seen: Seen) -> None:
        self.port, self.truth, self.seen = port, truth, seen
        self.pool, self.random = Pool(port), random.Random(0)  # noqa: S311  # no secret

    async def ask(self, request: bytes) -> Reply | None:
        """A reply, or None for a request that is lost."""
        for tried in range(TRIES):
            try:
                return await self.pool.ask(request)
            except RESET:
                self.seen.again += 1
                await asyncio.sleep(0.05 * tried)
        return None

    async def learn_tolerance(self) -> None:
        """Ask the server how much texts that share a batch change each other."""
        reply = await self.pool.ask(get("/ready"))
        self.seen.tolerance = max(TOLERANCE, BATCH_TIMES * reply.json()["batch_difference"])

    def same(self, found: Any, wanted: Any) -> bool:
        """Equal within the tolerance, or the same label with numbers that differ as int8's do: these are counted."""
        if same(found, wanted, self.seen.tolerance):
            return True
        rounded = same(found, wanted, ROUNDED)
        self.seen.rounded += rounded
        return rounded

    async def one(self) -> None:
        """A single request."""
        number = self.random.randrange(len(self.truth.bodies))
        reply = await self.ask(post("/v1/predict", json.dumps(self.truth.bodies[number]).encode()))
        self.seen.expect("one", reply, 200, lambda found: self.same(found, self.truth.answers[number]))

    async def new(self) -> None:
        """A text that was not asked before: the words of a golden request in another order."""
        asked = self.random.choice(self.truth.requests)
        asked = replace(asked, text=" ".join(self.random.sample(words := asked.text.split(), len(words))))
        wanted = self.truth.answer(asked)
        reply = await self.ask(post("/v1/predict", json.dumps(body_of(asked)).encode()))
        self.seen.expect("new", reply, 200, lambda found: self.same(found, wanted))

    async def many(self) -> None:
        """Many at once."""
        numbers = self.random.choices(range(len(self.truth.bodies)), k=self.random.randint(1, MAX_ROWS))
        body = {"requests": [self.truth.bodies[number] for number in numbers]}
        wanted = {"answers": [self.truth.answers[number] for number in numbers]}
        reply = await self.ask(post("/v1/predict", json.dumps(body).encode()))
        self.seen.expect("many", reply, 200, lambda found: self.same(found, wanted))

    async def rank(self) -> None:
        """A query and the second texts of golden requests."""
        picked = self.random.sample(self.truth.requests, min(8, len(self.truth.requests)))
        texts = [str(each.text_pair) for each in picked]
        body = {"query": picked[0].text, "candidates": [{"text": text} for text in texts]}
        scores = self.truth.scores(picked[0].text, texts)
        reply = await self.ask(post("/v1/rank", json.dumps(body).encode()))

        def fits(found: Any) -> bool:
            given = [row["score"] for row in found["ranking"]]
            return given == sorted(given, reverse=True) and all(
                self.same(row["score"], scores[row["index"]]) for row in found["ranking"]
            )

        self.seen.expect("rank", reply, 200, fits)

    async def malformed(self) -> None:
        """What cannot be meant."""
        body, status = self.random.choice(MALFORMED)
        reply = await self.ask(post("/v1/predict", body))
        self.seen.expect("malformed", reply, status, lambda found: "error" in found)

    async def oversized(self) -> None:
        """More bytes than are allowed."""
        reply = await self.ask(post("/v1/predict", b'{"text": "' + b"a" * 2 * MAX_BYTES + b'"}'))
        self.seen.expect("oversized", reply, 413, lambda found: found["error"]["code"] == "too_large")

    async def slow(self) -> None:
        """A client that stops in the middle of its body (told 408), or of its head (closed); or goes on in time."""
        whole = post("/v1/predict", json.dumps(self.truth.bodies[0]).encode())
        cut = self.random.choice((20, len(whole) - 4))
        goes_on = self.random.random() < 0.5
        with suppress(*RESET):  # a killed worker takes its slow clients with it
            client = await Connection.open(self.port)
            try:
                client.writer.write(whole[:cut])
                await asyncio.sleep(1)
                if goes_on:
                    client.writer.write(whole[cut:])
                    self.seen.expect("slow", await client.reply(), 200, lambda f: self.same(f, self.truth.answers[0]))
                elif cut > 20:
                    self.seen.expect("stopped", await client.reply(), 408, lambda found: "error" in found)
                elif await client.reader.read(1) == b"":
                    self.seen.statuses["silent closed"] += 1
            finally:
                client.close()

    def kinds(self) -> tuple[list[Callable[[], Coroutine[Any, Any, None]]], list[float]]:
        """What a client may do, and how often."""
        rank = 2.0 if self.truth.can_rank else 0.0
        kinds = [self.one, self.new, self.many, self.rank, self.malformed, self.oversized, self.slow]
        return kinds, [6, 4, 1, rank, 1, 0.3, 0.3]


class Events:
    """What happens to the server meanwhile."""

    def __init__(self, process: subprocess.Popen[bytes], served: Path, good: Sequence[Path], seen: Seen) -> None:
        self.process, self.served, self.good, self.seen = process, served, good, seen

    async def reloads(self) -> None:
        """New bundles, in turns with a damaged one."""
        turn = 0
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            turn += 1
            content = self.good[turn // 2 % 2].read_bytes()
            content = content if turn % 2 else content[:-7]
            whole = self.served.with_suffix(".new")
            whole.write_bytes(content)
            whole.replace(self.served)
            self.process.send_signal(signal.SIGHUP)
            self.seen.asked_reloads["good" if turn % 2 else "damaged"] += 1

    async def kills(self) -> None:
        """The youngest worker dies."""
        while True:
            await asyncio.sleep(KILL_SECONDS)
            workers_of(self.process.pid)[-1].kill()
            self.seen.killed += 1

    async def memory(self) -> None:
        """A sample of all processes, now and then."""
        while True:
            await asyncio.sleep(MEMORY_SECONDS)
            self.seen.samples.append(sample(self.process.pid, time.monotonic() - self.seen.start))


def twin(bundle: Path, out: Path) -> Path:
    """The same model under another digest, so that a reload is one."""
    members = dict(open_bundle(bundle).members)
    manifest = json.loads(members[MANIFEST])
    manifest["notes"] = [*manifest["notes"], "A copy for benchmarks/soak.py."]
    manifest["digest"] = manifest_digest(manifest)
    out.write_bytes(pack({**members, MANIFEST: manifest_bytes(manifest)}))
    return out


async def load(port: int, truth: Truth, seen: Seen, events: Events, pace: Pace, seconds: float) -> Any:
    """Clients and events for so long; what /metrics says at the end."""
    clients, running = Load(port, truth, seen), set()
    await clients.learn_tolerance()
    kinds, weights = clients.kinds()
    seen.start = time.monotonic()
    tasks = (events.reloads, events.kills, events.memory, pace.keep, pace.tell)
    meanwhile = [asyncio.create_task(each()) for each in tasks]
    while time.monotonic() < seen.start + seconds:
        task = asyncio.create_task(clients.random.choices(kinds, weights)[0]())
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(clients.random.expovariate(pace.rate))
        for each in meanwhile:
            if each.done():
                each.result()
    await asyncio.gather(*running)
    for each in meanwhile:
        each.cancel()
    reply = await clients.ask(get("/metrics"))
    clients.pool.close()
    lines = reply.body.decode().splitlines() if reply is not None else []
    wanted = ("kdc_reloads_total", "kdc_workers", "kdc_cached_texts_total")
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith(wanted))


def soak(bundle: Path, minutes: float, most: float, cores: float, workers: int) -> dict[str, Any]:
    """Serve, load, and tell."""
    truth, seen = Truth(bundle), Seen()
    with tempfile.TemporaryDirectory() as folder:
        served = Path(shutil.copyfile(bundle, Path(folder, "served.kdc")))
        good = [bundle, twin(bundle, Path(folder, "twin.kdc"))]
        port = free_port()
        command = [sys.executable, "-m", "compress", "serve", str(served), "--port", str(port)]
        limits = {"workers": workers, "max-rows": MAX_ROWS, "max-bytes": MAX_BYTES, "timeout": TIMEOUT}
        command += [part for name, value in limits.items() for part in (f"--{name}", str(value))]
        with serving(command, port) as process:
            events, pace = Events(process, served, good, seen), Pace(process.pid, most, cores, seen)
            metrics = asyncio.run(load(port, truth, seen, events, pace, 60 * minutes))
            used = pace.used()
    return {
        "benchmark": "soak",
        "bundle": bundle.name,
        "minutes": minutes,
        "most_per_second": most,
        "workers": workers,
        "cores": round(used, 2),
        "requests": sum(seen.statuses.values()) + seen.lost,
        "statuses": dict(sorted(seen.statuses.items())),
        "tolerance": seen.tolerance,
        "wrong": len(seen.wrong),
        "wrong_examples": seen.wrong[:5],
        "rounded": seen.rounded,
        "lost": seen.lost,
        "sent_again": seen.again,
        "killed": seen.killed,
        "asked_reloads": dict(seen.asked_reloads),
        "metrics": metrics,
        "exit_code": process.returncode,
        "memory_mb": judge(seen.samples, minutes),
        "samples_mb": [each.row() for each in seen.samples],
        **origin(PACKAGES),
    }


def check(row: dict[str, Any]) -> None:
    """Raise GateError for what must not happen."""
    faults = [f"{row[name]} {name}" for name in ("wrong", "lost") if row[name]]
    faults += [f"exit code {row['exit_code']}"] if row["exit_code"] else []
    faults += [f"memory is not flat: {row['memory_mb']}"] if row["memory_mb"]["flat"] is False else []
    if faults:
        raise GateError(f"{row['bundle']}: {'; '.join(faults)}")


def main() -> None:
    """Parse, soak, append, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=300.0, help="Requests a second of all kinds, at the most.")
    parser.add_argument("--cores", type=float, default=0.7, help="What server and clients together may use.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "soak.jsonl")
    given = parser.parse_args()
    with exit_codes("soak"):
        row = soak(given.bundle, given.minutes, given.rate, given.cores, given.workers)
        append(given.out, [row])
        print(json.dumps(row, ensure_ascii=False))
        check(row)


if __name__ == "__main__":
    main()

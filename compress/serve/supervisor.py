"""The process that people start: holds the sockets, keeps workers alive, brings in new bundles, ends all in order."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, cast

from compress.errors import EnvironmentProblem, KdcError, RecipeError
from compress.extras import require
from compress.runtime.archive import pack
from compress.runtime.bundle import SUFFIX, Bundle, open_bundle
from compress.serve.logs import configure
from compress.serve.messages import Commit, Order, Prepare, Refuse, Stop, Told
from compress.serve.settings import METRICS_FOLDER, Settings
from compress.serve.succession import askable

if TYPE_CHECKING:
    from compress.serve.metrics import Metrics

logger = logging.getLogger("kdc.serve")

PACKAGES = ("starlette", "uvicorn", "httptools", "uvloop", "prometheus_client")
BACKLOG = 2048
PATIENCE_SECONDS = 120.0
"""For a worker to load a bundle and ask its golden requests."""
GRACE_SECONDS = 5.0
"""A stopping server waits for its last answers as long as two time limits and this; then it ends without them."""
SHORTEST_LIFE_SECONDS = 30.0
"""A worker that lived for less is replaced after a pause, which doubles each time, so that a fault is no fast loop."""
LONGEST_PAUSE_SECONDS = 30.0


def serve(source: Path, host: str, port: int, settings: Settings, *, quiet: bool = False) -> None:
    """Serve a bundle until SIGTERM or SIGINT, then answer what is there and return.

    SIGHUP brings in what then is at `source`, after its hashes and golden requests are checked in every worker.

    Args:
        source: a bundle, packed or not.
        host: address or name to listen on. port: 0..65535; 0 takes a free one, which the log names.

    Raises:
        RecipeError: nothing readable is at `source`.
        IntegrityError: the bundle is damaged, or this machine answers its golden requests otherwise.
        EnvironmentProblem: a package is missing, the port is in use, or workers cannot start.
    """
    configure(quiet=quiet)
    with tempfile.TemporaryDirectory(prefix="kdc-serve-") as folder:
        metrics = Path(folder, "metrics")
        metrics.mkdir()
        os.environ[METRICS_FOLDER] = str(metrics)
        for package in PACKAGES:
            require(package, extra="serve", why="kdc serve")
        first = Snapshot.of(open_bundle(source), Path(folder, f"0{SUFFIX}"), settings)
        with _listening(host, port, settings.workers) as listening:
            Supervisor(source, settings, listening, first, quiet=quiet).run()


@dataclass(frozen=True)
class Snapshot:
    """A checked bundle in a file of the server's own: whatever happens at its source, all workers have these bytes."""

    path: Path
    name: str
    task: str
    askable: frozenset[str]
    """Kinds of requests that it answers."""
    digest: str

    @classmethod
    def of(cls, bundle: Bundle, path: Path, settings: Settings) -> Snapshot:
        """Write one."""
        path.write_bytes(pack(bundle.members))
        manifest = bundle.manifest
        return cls(path, manifest.name, manifest.task, askable(manifest, settings.max_rows), manifest.digest)


@dataclass(eq=False)
class Worker:
    """A worker process and the supervisor's end of its pipe; place: its number among the workers."""

    process: SpawnProcess
    pipe: Connection
    place: int
    born: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        """Its number, once started."""
        return cast(int, self.process.pid)

    def order(self, order: Order) -> None:
        """Say something; a worker that is gone hears nothing, and is replaced in its turn."""
        with suppress(OSError):
            self.pipe.send(order)

    def hear(self, number: int, end: float) -> Told | None:
        """What it says of an order, or None where it ends or the time is over before."""
        while True:
            wait([self.pipe, self.process.sentinel], max(0.0, end - time.monotonic()))
            try:
                if not self.pipe.poll():
                    return None
                told: Told = self.pipe.recv()
            except (EOFError, OSError):
                return None
            if told.number == number:
                return told


class Supervisor:
    """See `serve`."""

    def __init__(
        self, source: Path, settings: Settings, listening: list[socket.socket], first: Snapshot, *, quiet: bool
    ) -> None:
        from compress.serve.metrics import Metrics

        self.source, self.settings, self.listening, self.quiet = source, settings, listening, quiet
        self.current = first
        self.refused: str | None = None
        self.workers: list[Worker] = []
        self.metrics: Metrics = Metrics()
        self._context = multiprocessing.get_context("spawn")
        self._signals: list[int] = []
        self._reloads = 0
        self._pause = 0.0
        self._next_start = 0.0

    def run(self) -> None:
        """Start, keep going, end."""
        with self._catching() as bell:
            try:
                self._start_all()
                self._keep_going(bell)
            finally:
                self._end()

    def _keep_going(self, bell: socket.socket) -> None:
        while True:
            sentinels = [worker.process.sentinel for worker in self.workers]
            missing = self.settings.workers - len(self.workers)
            wait([bell, *sentinels], max(0.0, self._next_start - time.monotonic()) if missing else None)
            with suppress(BlockingIOError):
                bell.recv(1024)
            while self._signals:
                if self._signals.pop(0) != signal.SIGHUP:
                    return
                self._reload()
            self._replace()

    def _start_all(self) -> None:
        self.workers = [self._spawn(place) for place in range(self.settings.workers)]
        end = time.monotonic() + PATIENCE_SECONDS
        said = [self._hear_start(worker, end) for worker in self.workers]
        host, port = self.listening[0].getsockname()[:2]
        logger.info(
            "serving %s (%s) at http://%s:%d with %d worker(s); docs at /docs",
            self.current.name,
            self.current.digest[:16],
            f"[{host}]" if ":" in host else host,
            port,
            len(self.workers),
        )
        difference = max(told.batch_difference for told in said)
        if difference > 0:
            logger.info(
                "texts that share a batch change each other's logits by up to %.1e on the golden requests; "
                "--max-batch 1 answers each alone",
                difference,
            )

    def _hear_start(self, worker: Worker, end: float) -> Told:
        """What a starting worker says; raises the error where it could not start."""
        told = worker.hear(0, end)
        if told is None:
            worker.process.join(1)
            raise EnvironmentProblem(
                f"a worker did not start (exit code {worker.process.exitcode}): the lines above say why, or it had "
                f"no memory or no {PATIENCE_SECONDS:.0f} s"
            )
        if told.error is not None:
            raise told.error
        return told

    def _spawn(self, place: int) -> Worker:
        from compress.serve.worker import Start, main

        ours, theirs = self._context.Pipe()
        start = Start(self.current.path, self.source, self.settings, self.refused, self.quiet)
        process = self._context.Process(target=main, args=(start, self.listening, place, theirs), daemon=True)
        process.start()
        theirs.close()
        return Worker(process, ours, place)

    def _replace(self) -> None:
        """Bury workers that ended, and start others, one at a time and not too fast."""
        from compress.serve.metrics import forget

        for worker in [each for each in self.workers if not each.process.is_alive()]:
            self.workers.remove(worker)
            worker.process.join()
            told = worker.hear(0, time.monotonic())
            worker.pipe.close()
            if told is not None and told.error is not None:
                logger.error("worker %d could not start: %s", worker.pid, told.error)
            forget(worker.pid)
            self.metrics.replaced.inc()
            lived = time.monotonic() - worker.born
            self._pause = 0.0 if lived > SHORTEST_LIFE_SECONDS else min(2 * self._pause + 0.5, LONGEST_PAUSE_SECONDS)
            self._next_start = time.monotonic() + self._pause
            logger.warning(
                "worker %d ended with exit code %s after %.0f s; another one starts in %.1f s",
                worker.pid,
                worker.process.exitcode,
                lived,
                self._pause,
            )
        while len(self.workers) < self.settings.workers and time.monotonic() >= self._next_start:
            free = set(range(self.settings.workers)) - {worker.place for worker in self.workers}
            self.workers.append(self._spawn(min(free)))

    def _reload(self) -> None:
        """Bring in what is at the source: every worker must have checked it before any serves it."""
        self._reloads += 1
        path = self.current.path.with_name(f"{self._reloads}{SUFFIX}")
        try:
            new = Snapshot.of(open_bundle(self.source), path, self.settings)
            self._prepare(new)
        except (KdcError, OSError) as error:
            path.unlink(missing_ok=True)
            self._refuse(str(error))
            return
        old, self.current, self.refused = self.current, new, None
        self._everywhere(Commit(self._reloads))
        old.path.unlink()
        self.metrics.reloads.labels("done").inc()
        logger.info("serving %s (%s), before it %s", new.name, new.digest[:16], old.digest[:16])
        if new.name != old.name:
            logger.warning("the new bundle is named %s, the one before it %s", new.name, old.name)

    def _prepare(self, new: Snapshot) -> None:
        if new.task != self.current.task:
            raise RecipeError(
                f"{self.source} is for {new.task}, and {self.current.task} is served, whose requests and answers "
                "clients know: start another server for it"
            )
        if lost := self.current.askable - new.askable:
            raise RecipeError(
                f"{self.source} does not answer what clients may ask of {self.current.name} now: "
                f"{'; '.join(sorted(lost))}: make it so that it does, or start another server for it"
            )
        answers = self._everywhere(Prepare(self._reloads, new.path))
        errors = [told.error for told in answers if told.error is not None]
        if errors:
            raise errors[0]
        if not answers:
            raise EnvironmentProblem(f"no worker could load {self.source} within {PATIENCE_SECONDS:.0f} s")

    def _everywhere(self, order: Prepare | Commit) -> Sequence[Told]:
        """Say it to all workers, and wait for what they say to it. One that does not answer is ended and replaced."""
        for worker in self.workers:
            worker.order(order)
        end = time.monotonic() + PATIENCE_SECONDS
        answers = []
        for worker in self.workers:
            told = worker.hear(order.number, end)
            if told is None:
                worker.process.kill()
            else:
                answers.append(told)
        return answers

    def _refuse(self, reason: str) -> None:
        self.refused = reason
        for worker in self.workers:
            worker.order(Refuse(reason))
        self.metrics.reloads.labels("refused").inc()
        logger.error("the new bundle is refused, %s goes on: %s", self.current.digest[:16], reason)

    def _end(self) -> None:
        """Workers answer what they have; who asks again, or waits too long, ends it at once."""
        for each in self.listening:
            each.close()
        for worker in self.workers:
            worker.order(Stop())
        end = time.monotonic() + 2 * self.settings.timeout + GRACE_SECONDS
        self._signals.clear()
        left = list(self.workers)
        while left and time.monotonic() < end and not self._signals:
            left = [worker for worker in left if worker.process.is_alive()]
            wait([worker.process.sentinel for worker in left], 0.1)
        for worker in left:
            worker.process.kill()
            logger.warning("worker %d did not end in time and was killed", worker.pid)
        for worker in self.workers:
            worker.process.join()

    @contextmanager
    def _catching(self) -> Iterator[socket.socket]:
        """Signals are kept for the loop, which a byte on the returned socket wakes."""
        bell, rope = socket.socketpair()
        for end in (bell, rope):
            end.setblocking(False)
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, lambda caught, _: self._signals.append(caught)) for number in numbers]
        fd = signal.set_wakeup_fd(rope.fileno(), warn_on_full_buffer=False)
        try:
            yield bell
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
            bell.close()
            rope.close()


@contextmanager
def _listening(host: str, port: int, workers: int) -> Iterator[list[socket.socket]]:
    """A listening socket for each worker, all at one port; the kernel shares connections out among them.

    At one socket for all, the worker that wakes first takes every connection of a burst, and a client that keeps its
    connections asks that worker alone. Only Linux shares out; elsewhere there is one socket.

    Raises:
        EnvironmentProblem: the address cannot be had.
    """
    with ExitStack() as stack:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            alone = stack.enter_context(socket.create_server(address[:2], family=family, backlog=BACKLOG))
            listening = [alone]
            if workers > 1 and sys.platform == "linux":
                # `alone` shows that the port is free: sockets that share it would share it with a stranger, too.
                place = (address[0], alone.getsockname()[1])
                alone.close()
                listening = [
                    stack.enter_context(socket.create_server(place, family=family, backlog=BACKLOG, reuse_port=True))
                    for _ in range(workers)
                ]
        except OSError as error:
            reason = "it is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
            raise EnvironmentProblem(
                f"cannot listen on {host} port {port} ({reason}): give another --host or --port, or stop what is there"
            ) from error
        yield listening

"""One worker: a process that answers on its socket, and takes orders from its supervisor."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import time
import weakref
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import uvicorn
import uvloop

from compress.errors import IntegrityError, KdcError
from compress.serve.app import Service, application
from compress.serve.logs import configure
from compress.serve.messages import Commit, Order, Prepare, Refuse, Stop, Told
from compress.serve.metrics import Metrics
from compress.serve.model import ServedModel, load_model
from compress.serve.protocol import BoundedProtocol
from compress.serve.settings import Settings

logger = logging.getLogger("kdc.serve")

KEEP_ALIVE_SECONDS = 75
"""An idle connection is closed after that: later than proxies close theirs, so that none sends into a closed one."""
LOOK_SECONDS = 0.2
"""Between two looks whether a model that was replaced is gone."""
HELP_SECONDS = 0.05
"""Between two looks whether connections wait at a worker that is gone; one that lives takes them in milliseconds."""
TOKENIZER_THREADS = "RAYON_NUM_THREADS"
"""Threads of the tokenizers package, which takes all cores otherwise; read when it starts them."""


@dataclass(frozen=True)
class Start:
    """All that a worker is given.

    bundle: the supervisor's own copy. source: the path that people know. refused: why the last new bundle was not
    taken, or None.
    """

    bundle: Path
    source: Path
    settings: Settings
    refused: str | None
    quiet: bool


def main(start: Start, listening: Sequence[socket.socket], place: int, orders: Connection) -> None:
    """Serve until told to stop, or until the supervisor is gone."""
    configure(quiet=start.quiet)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # these are the supervisor's
    os.environ[TOKENIZER_THREADS] = str(start.settings.threads)
    try:
        worker = _Worker(start, load_model(start.bundle, start.source, start.settings), orders)
    except KdcError as error:
        orders.send(Told(0, error))
        return
    _tidy()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(worker.serve(listening, place))


class _Worker:
    def __init__(self, start: Start, model: ServedModel, orders: Connection) -> None:
        self.start, self.orders = start, orders
        self.service = Service(model, start.settings, Metrics(), start.refused)
        self.prepared: ServedModel | None = None
        self.tidying: asyncio.Task[None] | None = None
        self.others: list[socket.socket] = []
        self.loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self.server = _Server(
            uvicorn.Config(
                application(self.service),
                http=BoundedProtocol,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )

    async def serve(self, listening: Sequence[socket.socket], place: int) -> None:
        loop = asyncio.get_running_loop()
        orders: asyncio.Queue[Order] = asyncio.Queue()
        loop.add_reader(self.orders.fileno(), self._receive, orders)
        own = listening[place % len(listening)]
        self.others = [each for each in listening if each is not own]
        for each in self.others:
            each.setblocking(False)
        tasks = [loop.create_task(each) for each in (self.service.batcher.run(), self._obey(orders), self._help())]
        for task in tasks:
            task.add_done_callback(self._ended)
        self.orders.send(Told(0, batch_difference=self.service.model.batch_difference))
        await self.server.serve(sockets=[own])
        loop.remove_reader(self.orders.fileno())
        for task in [*tasks, *([] if self.tidying is None else [self.tidying])]:
            task.cancel()
        self.service.batcher.close()
        self.loader.shutdown(wait=False)

    async def _help(self) -> None:
        """Take connections that wait from one look to the next at a worker which ended or hangs."""
        loop, waited = asyncio.get_running_loop(), set[int]()
        while True:
            await asyncio.sleep(HELP_SECONDS)
            wait = _waiting(self.others)
            for each in tuple(self.others):
                with suppress(BlockingIOError, ConnectionAbortedError):
                    while each.fileno() in wait & waited:
                        taken, _ = each.accept()
                        taken.setblocking(False)
                        await loop.connect_accepted_socket(self._protocol, taken)
            waited = wait

    def _protocol(self) -> BoundedProtocol:
        return BoundedProtocol(self.server.config, self.server.server_state, {})

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Without its queue or its orders a worker is of no use: it ends, and the supervisor makes another one."""
        if not task.cancelled():
            logger.error("a worker's task failed", exc_info=task.exception())
            self._stop()

    def _receive(self, orders: asyncio.Queue[Order]) -> None:
        try:
            order = self.orders.recv()
        except (EOFError, OSError):  # the supervisor was killed
            asyncio.get_running_loop().remove_reader(self.orders.fileno())
            order = Stop()
        if isinstance(order, Stop):
            self._stop()
        else:
            orders.put_nowait(order)

    def _stop(self) -> None:
        self.service.draining = self.server.should_exit = True
        while self.others:  # nobody shall wait at a socket that no worker listens at any more
            self.others.pop().close()

    async def _obey(self, orders: asyncio.Queue[Order]) -> None:
        while True:
            match await orders.get():
                case Prepare(number, path):
                    self.orders.send(Told(number, await self._prepare(path)))
                case Commit(number):
                    if self.prepared is not None:
                        old = weakref.ref(self.service.model)
                        self.service.take(self.prepared)
                        self.prepared = None
                        self.tidying = asyncio.create_task(self._tidy_after(old))
                    self.orders.send(Told(number))
                case Refuse(reason):
                    self.prepared, self.service.refused = None, reason
                    await asyncio.get_running_loop().run_in_executor(self.loader, _tidy)

    async def _tidy_after(self, old: weakref.ref[ServedModel]) -> None:
        """Clear up once the old model has given its last answer, which both time limits bound."""
        end = time.monotonic() + 2 * self.start.settings.timeout
        while old() is not None and time.monotonic() < end:
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.get_running_loop().run_in_executor(self.loader, _tidy)

    async def _prepare(self, path: Path) -> KdcError | None:
        """Load a bundle in a thread of its own, while the model that serves goes on."""
        try:
            self.prepared = await asyncio.get_running_loop().run_in_executor(
                self.loader, load_model, path, self.start.source, self.start.settings
            )
        except KdcError as error:
            return error
        except Exception as error:  # a bad new bundle must not end the worker that serves the old one
            logger.exception("the new bundle cannot be loaded")
            return IntegrityError(f"{self.start.source} cannot be loaded ({error!r}); make it anew")
        return None


def _tidy() -> None:
    """Clear up after a model was loaded.

    Python's collector walks all that lives, which takes 30 ms in which nobody is answered; what lives now stays, so it
    is set aside, after what an earlier model left in cycles is collected. Freed memory is handed back: glibc keeps
    the many pieces of a model that is gone, and takes new ones for the next.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _waiting(listening: Sequence[socket.socket]) -> set[int]:
    """File numbers of the sockets at which connections wait."""
    looking = select.poll()
    for each in listening:
        looking.register(each, select.POLLIN)
    return {number for number, _ in looking.poll(0)}


class _Server(uvicorn.Server):
    """uvicorn without handlers for signals: the supervisor has them."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield

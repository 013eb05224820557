"""Texts of several requests in one call of the model, outside the event loop; what waits is bounded."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from compress.runtime.predictor import Request
from compress.serve.model import Ask, ServedModel
from compress.serve.settings import Settings

FORGETTING = 0.1
"""Weight of the last call in the mean seconds that the model takes for a text."""


class Overloaded(Exception):
    """The queue has no room for a request; `seconds` until it should have."""

    def __init__(self, waiting: int, queue: int, seconds: int) -> None:
        super().__init__(
            f"{waiting:,} texts wait and {queue:,} may: the server is overloaded, try again in {seconds} s"
        )
        self.seconds = seconds


class TooLate(Exception):
    """An answer was not there in time."""


@dataclass(eq=False)
class Work:
    """At most `max_batch` texts of one request, with the model that will answer them, whatever is loaded meanwhile."""

    model: ServedModel
    what: Ask
    requests: Sequence[Request]
    done: asyncio.Future[Sequence[Any]]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """The queue of one worker, and the one thread in which its model runs.

    A batch is what waits when the model becomes free, first come first served, up to `max_batch` texts of one model;
    while the model is idle the first text waits for others at most `max_wait` seconds. The texts of a request are cut
    into pieces of `max_batch`, as `kdc predict` cuts a file, and a piece is never split: what is asked of an otherwise
    idle server is batched, and so answered, as there.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_batch: Callable[[ServedModel, int, float], None],
        on_waiting: Callable[[int], None],
    ) -> None:
        """`on_batch` is told the model, the texts and the seconds of each call, `on_waiting` how many texts wait."""
        self._settings, self._on_batch, self._on_waiting = settings, on_batch, on_waiting
        self._waiting: deque[Work] = deque()
        self._texts = 0
        self._came = asyncio.Event()
        self._seconds_per_text = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def ask(self, model: ServedModel, what: Ask, requests: Sequence[Request]) -> list[Any]:
        """What the model says to each request, in their order.

        Raises:
            Overloaded: the queue has no room for all of them.
            TooLate: not all were answered within the time limit.
        """
        self._admit(len(requests))
        size = self._settings.max_batch
        loop = asyncio.get_running_loop()
        works = [
            Work(model, what, requests[start : start + size], loop.create_future())
            for start in range(0, len(requests), size)
        ]
        self._waiting.extend(works)
        self._count(len(requests))
        self._came.set()
        try:
            async with asyncio.timeout(self._settings.timeout):
                answered = [await work.done for work in works]
        except TimeoutError as error:
            raise TooLate(f"no answer within {self._settings.timeout:g} s: the server is overloaded") from error
        finally:
            self._forget(works)
        return [each for answers in answered for each in answers]

    async def run(self) -> None:
        """Answer what comes, for ever."""
        while True:
            await self._first()
            await self._others()
            batch = self._take()
            if batch:
                await self._answer(batch)
            del batch  # it names a model, which an idle worker would keep after it was replaced

    def close(self) -> None:
        """End the model's thread when its last call is done."""
        self._thread.shutdown(wait=False)

    def _admit(self, count: int) -> None:
        if self._texts + count > self._settings.queue:
            seconds = max(1, math.ceil(self._texts * self._seconds_per_text))
            raise Overloaded(self._texts, self._settings.queue, seconds)

    def _count(self, change: int) -> None:
        self._texts += change
        self._on_waiting(self._texts)

    def _forget(self, works: Sequence[Work]) -> None:
        """Take out what nobody waits for any more: its request ran out of time, or one of its pieces failed."""
        for work in works:
            if work.done.done() and not work.done.cancelled():
                work.done.exception()  # of several pieces that failed, one is told
                continue
            work.done.cancel()
            if work in self._waiting:
                self._waiting.remove(work)
                self._count(-len(work.requests))

    async def _first(self) -> None:
        while not self._waiting:
            self._came.clear()
            await self._came.wait()

    async def _others(self) -> None:
        """Wait for a full batch, or until the first text has waited for long enough."""
        while self._waiting and self._texts < self._settings.max_batch:
            left = self._waiting[0].since + self._settings.max_wait - time.monotonic()
            if left <= 0:
                return
            self._came.clear()
            try:
                async with asyncio.timeout(left):
                    await self._came.wait()
            except TimeoutError:
                return

    def _take(self) -> list[Work]:
        batch: list[Work] = []
        texts = 0
        while self._waiting:
            head = self._waiting[0]
            fits = texts + len(head.requests) <= self._settings.max_batch
            if batch and not (fits and head.model is batch[0].model and head.what is batch[0].what):
                break
            batch.append(self._waiting.popleft())
            texts += len(head.requests)
        self._count(-texts)
        return batch

    async def _answer(self, batch: Sequence[Work]) -> None:
        try:
            answers = await self._call(batch)
        except Exception as error:  # whatever it is, each request is asked again alone, and gets its own
            await self._answer_apart(batch, error)
            return
        start = 0
        for work in batch:
            _give(work, answers[start : start + len(work.requests)])
            start += len(work.requests)

    async def _answer_apart(self, batch: Sequence[Work], error: Exception) -> None:
        """One request must not fail for what stands in another one: each is asked again, alone."""
        if len(batch) == 1:
            if not batch[0].done.done():
                batch[0].done.set_exception(error)
            return
        for work in batch:
            await self._answer([work])

    async def _call(self, batch: Sequence[Work]) -> Sequence[Any]:
        model, what = batch[0].model, batch[0].what
        requests = [request for work in batch for request in work.requests]
        start = time.perf_counter()
        answers = await asyncio.get_running_loop().run_in_executor(self._thread, model.ask, what, requests)
        seconds = time.perf_counter() - start
        self._seconds_per_text += FORGETTING * (seconds / len(requests) - self._seconds_per_text)
        self._on_batch(model, len(requests), seconds)
        return answers


def _give(work: Work, answers: Sequence[Any]) -> None:
    if not work.done.done():
        work.done.set_result(answers)

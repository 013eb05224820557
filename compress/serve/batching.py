"""Texts of several requests in one call of the model, outside the event loop; what waits is bounded."""

from __future__ import annotations

import asyncio
import math
import threading
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
    idle server is batched, and so answered, as there. Pieces share a call only of a model that is quicker so
    (`ServedModel.together`).

    The thread takes what waits by itself: were the event loop to hand over each batch, the model would stand still
    while the loop reads requests, which at a high rate is most of the time.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_batch: Callable[[ServedModel, int, float], None],
        on_waiting: Callable[[int], None],
    ) -> None:
        """`on_batch` is told the model, the texts and the seconds of each call, `on_waiting` how many texts wait.

        The event loop tells the former, whichever thread changes it the latter.
        """
        self._settings, self._on_batch, self._on_waiting = settings, on_batch, on_waiting
        self._waiting: deque[Work] = deque()
        self._texts = 0
        self._changed = threading.Condition()
        """Held to look at the queue or to change it; notified when texts come, or none will any more."""
        self._closed = False
        self._seconds_per_text = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def ask(self, model: ServedModel, what: Ask, requests: Sequence[Request]) -> list[Any]:
        """What the model says to each request, in their order.

        Raises:
            Overloaded: the queue has no room for all of them.
            TooLate: not all were answered within the time limit.
        """
        size = self._settings.max_batch
        loop = asyncio.get_running_loop()
        works = [
            Work(model, what, requests[start : start + size], loop.create_future())
            for start in range(0, len(requests), size)
        ]
        with self._changed:
            self._admit(len(requests))
            self._waiting.extend(works)
            self._count(len(requests))
            self._changed.notify()
        try:
            async with asyncio.timeout(self._settings.timeout):
                answered = [await work.done for work in works]
        except TimeoutError as error:
            raise TooLate(f"no answer within {self._settings.timeout:g} s: the server is overloaded") from error
        finally:
            self._forget(works)
        return [each for answers in answered for each in answers]

    async def run(self) -> None:
        """Answer what comes, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._answer_all, loop)
        finally:
            self.close()

    def close(self) -> None:
        """End the model's thread when its last call is done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
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
            with self._changed:
                if work in self._waiting:
                    self._waiting.remove(work)
                    self._count(-len(work.requests))

    def _answer_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Batch after batch, in the model's thread."""
        while batch := self._next():
            self._answer(loop, batch)
            del batch  # it names a model, which an idle worker would keep after it was replaced

    def _next(self) -> list[Work]:
        """What is answered next; nothing once the queue is closed."""
        with self._changed:
            while not self._closed:
                left = self._seconds_to_wait()
                if left is not None and left <= 0:
                    return self._take()
                self._changed.wait(left)
        return []

    def _seconds_to_wait(self) -> float | None:
        """How long what waits still waits for more; None while nothing does."""
        if not self._waiting:
            return None
        head = self._waiting[0]
        if not head.model.together or self._texts >= self._settings.max_batch:
            return 0.0
        return head.since + self._settings.max_wait - time.monotonic()

    def _take(self) -> list[Work]:
        batch = [self._waiting.popleft()]
        first, texts = batch[0], len(batch[0].requests)
        while first.model.together and self._waiting:
            head = self._waiting[0]
            fits = texts + len(head.requests) <= self._settings.max_batch
            if not (fits and head.model is first.model and head.what is first.what):
                break
            batch.append(self._waiting.popleft())
            texts += len(head.requests)
        self._count(-texts)
        return batch

    def _answer(self, loop: asyncio.AbstractEventLoop, batch: Sequence[Work]) -> None:
        requests = [request for work in batch for request in work.requests]
        start = time.perf_counter()
        try:
            answers = batch[0].model.ask(batch[0].what, requests)
        except Exception as error:  # one request must not fail for what stands in another one
            if len(batch) == 1:
                loop.call_soon_threadsafe(_fail, batch[0], error)
            else:
                for work in batch:
                    self._answer(loop, [work])
            return
        loop.call_soon_threadsafe(self._give, batch, answers, time.perf_counter() - start)

    def _give(self, batch: Sequence[Work], answers: Sequence[Any], seconds: float) -> None:
        """Each request its answers, in the event loop."""
        start = 0
        for work in batch:
            if not work.done.done():
                work.done.set_result(answers[start : start + len(work.requests)])
            start += len(work.requests)
        self._seconds_per_text += FORGETTING * (seconds / len(answers) - self._seconds_per_text)
        self._on_batch(batch[0].model, len(answers), seconds)


def _fail(work: Work, error: Exception) -> None:
    if not work.done.done():
        work.done.set_exception(error)

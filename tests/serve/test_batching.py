"""Which texts share a call of the model, what waits, and what becomes of a request that fails."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from compress.runtime.predictor import Request
from compress.serve.batching import Batcher, Overloaded, TooLate
from compress.serve.model import Ask, ServedModel
from compress.serve.settings import Settings


class Recorder:
    """A model that answers with the text itself, remembers its calls, and can be held."""

    def __init__(self) -> None:
        self.together = True
        self.calls: list[list[str]] = []
        self.go = threading.Event()
        self.go.set()

    def ask(self, what: Ask, requests: Sequence[Request]) -> list[str]:
        self.calls.append([request.text for request in requests])
        assert self.go.wait(60)
        if any(request.text == "broken" for request in requests):
            raise RuntimeError("the model fails")
        return [request.text for request in requests]


def asked(*texts: str) -> list[Request]:
    return [Request(text) for text in texts]


def run(
    settings: Settings, scenario: Callable[[Batcher, Recorder, Callable[..., asyncio.Task[Any]]], Awaitable[None]]
) -> None:
    """A scenario with a queue, a model, and a function that asks it."""

    async def main() -> None:
        waiting: list[int] = []
        batcher = Batcher(settings, on_batch=lambda model, texts, seconds: None, on_waiting=waiting.append)
        model = Recorder()

        def ask(*texts: str, of: Recorder = model) -> asyncio.Task[Any]:
            return asyncio.create_task(batcher.ask(cast(ServedModel, of), Ask.ANSWER, asked(*texts)))

        queue = asyncio.create_task(batcher.run())
        await scenario(batcher, model, ask)
        assert not waiting or waiting[-1] == 0
        queue.cancel()
        batcher.close()

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_what_comes_while_the_model_works_is_one_batch() -> None:
    async def scenario(batcher: Batcher, model: Recorder, ask: Any) -> None:
        model.go.clear()
        first = ask("a")
        await until(lambda: model.calls)
        others = [ask("b"), ask("c", "d")]
        await asyncio.sleep(0.01)
        model.go.set()
        assert await asyncio.gather(first, *others) == [["a"], ["b"], ["c", "d"]]
        assert model.calls == [["a"], ["b", "c", "d"]]

    run(Settings(), scenario)


def test_a_model_that_is_slower_together_is_asked_for_one_request_after_the_other() -> None:
    async def scenario(batcher: Batcher, model: Recorder, ask: Any) -> None:
        model.together = False
        assert await asyncio.gather(ask("a"), ask("b", "c"), ask("d")) == [["a"], ["b", "c"], ["d"]]
        assert model.calls == [["a"], ["b", "c"], ["d"]]

    run(Settings(max_wait=60.0), scenario)  # nobody waits for others whose company would not help


def test_a_request_is_cut_as_predict_cuts_it_and_its_pieces_are_not_split() -> None:
    async def scenario(batcher: Batcher, model: Recorder, ask: Any) -> None:
        model.go.clear()
        both = [ask("a", "b", "c", "d", "e"), ask("f", "g")]
        await until(lambda: model.calls)
        model.go.set()
        assert await asyncio.gather(*both) == [["a", "b", "c", "d", "e"], ["f", "g"]]
        assert model.calls == [["a", "b", "c"], ["d", "e"], ["f", "g"]]

    run(Settings(max_batch=3), scenario)


def test_an_idle_model_waits_for_others_but_not_for_a_full_batch() -> None:
    async def scenario(batcher: Batcher, model: Recorder, ask: Any) -> None:
        two = [ask("a"), ask("b")]
        await asyncio.gather(*two)
        assert model.calls == [["a", "b"]]
        await asyncio.wait_for(ask("c", "d", "e"), 5)

    run(Settings(max_batch=3, max_wait=0.2), scenario)
    with pytest.raises(TimeoutError):  # where a batch is not full, the time is waited for
        run(Settings(max_batch=4, max_wait=60.0), lambda b, m, ask: asyncio.wait_for(ask("c", "d", "e"), 0.2))


def test_a_request_that_fails_alone_fails_alone() -> None:
    async def scenario(batcher: Batcher, model: Recorder, ask: Any) -> None:
        model.go.clear()
        first = ask("a")
        await until(lambda: model.calls)
        good, bad, also_good = ask("b"), ask("broken"), ask("c")
        await asyncio.sleep(0.01)
        model.go.set()
        assert await asyncio.gather(first, good, also_good) == [["a"], ["b"], ["c"]]
        with pytest.raises(RuntimeError, match="the model fails"):
            await bad

    run(Settings(), scenario)


def test_a_full_queue_refuses_and_what_is_late_leaves_it() -> None:
    async def scenario(batcher: Batcher, model: Recorder, ask: Any) -> None:
        model.go.clear()
        first = ask("a")
        await until(lambda: model.calls)
        waiting = ask("b", "c", "d")
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="3 texts wait and 4 may"):
            await ask("e", "f")
        with pytest.raises(TooLate):
            await waiting
        with pytest.raises(TooLate):
            await first
        room = ask("g", "h", "i", "j")
        await asyncio.sleep(0)
        model.go.set()
        assert await room == ["g", "h", "i", "j"]
        assert model.calls == [["a"], ["g", "h", "i", "j"]]

    run(Settings(queue=4, max_rows=4, timeout=0.1), scenario)


def test_an_idle_queue_keeps_no_model() -> None:
    async def scenario(batcher: Batcher, model: Recorder, ask: Any) -> None:
        other = Recorder()
        gone = weakref.ref(other)
        assert await ask("a", of=other) == ["a"]
        del other
        await asyncio.wait_for(until(lambda: gone() is None), 5)

    run(Settings(), scenario)


def test_what_waits_keeps_the_model_that_it_was_asked_of() -> None:
    async def scenario(batcher: Batcher, old: Recorder, ask: Any) -> None:
        new = Recorder()
        old.go.clear()
        first = ask("a")
        await until(lambda: old.calls)
        others = [ask("b"), ask("c", of=new), ask("d", of=new)]
        await asyncio.sleep(0.01)
        old.go.set()
        await asyncio.gather(first, *others)
        assert (old.calls, new.calls) == ([["a"], ["b"]], [["c", "d"]])

    run(Settings(), scenario)

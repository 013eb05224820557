"""Locks: one holder, a waiter who is told of whom, and nobody who guards what is not there any more."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from compress.errors import EnvironmentProblem
from compress.locks import hold, holder


def test_a_second_holder_is_refused_or_told_for_whom_it_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "x.lock"
    assert holder(lock) is None
    entered: list[int] = []

    def second() -> None:
        with hold(lock, "the thing"):
            entered.append(2)

    waiting = threading.Thread(target=second)
    with hold(lock, "the thing"):
        assert holder(lock) == str(os.getpid())
        with pytest.raises(EnvironmentProblem, match=f"the thing is in use by process {os.getpid()}; wait until"):
            hold(lock, "the thing", wait=False).__enter__()
        waiting.start()
        waiting.join(0.2)
        assert entered == []
    waiting.join(10)
    assert entered == [2]
    assert holder(lock) is None


def test_who_waited_for_a_deleted_lock_takes_the_one_that_others_meet(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    inside, leave = threading.Event(), threading.Event()

    def second() -> None:
        with hold(lock, "the thing"):
            inside.set()
            leave.wait(10)

    waiting = threading.Thread(target=second)
    with hold(lock, "the thing"):
        waiting.start()
        waiting.join(0.2)
        lock.unlink()
    assert inside.wait(10)
    with pytest.raises(EnvironmentProblem):
        hold(lock, "the thing", wait=False).__enter__()
    leave.set()
    waiting.join(10)

"""Locks on files: one process at a time holds one, the next says for whom it waits. A killed process holds nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from compress.errors import EnvironmentProblem
from compress.progress import reporter

LOCK = ".lock"


@contextmanager
def hold(lock: Path, what: str, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, which is made if need be; `what` it guards is named to who must wait.

    Whoever holds a lock may delete its file together with what it guards.

    Raises:
        EnvironmentProblem: another process holds it, and `wait` is false.
    """
    while True:
        with lock.open("a+") as stream:
            _seize(stream, what, wait)
            if not _is_at(stream, lock):
                continue  # deleted by the process before: nobody else would meet this lock
            stream.seek(0)
            stream.truncate()
            stream.write(str(os.getpid()))
            stream.flush()
            yield
            return


def holder(lock: Path) -> str | None:
    """Number of the process that holds a lock file; None where nobody does."""
    import fcntl

    try:
        stream = lock.open()
    except FileNotFoundError:
        return None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _named(stream)
    return None


def _seize(stream: IO[str], what: str, wait: bool) -> None:
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        said = f"{what} is in use by process {_named(stream)}"
        if not wait:
            raise EnvironmentProblem(f"{said}; wait until it ends, or stop it, and try again") from error
        reporter.warn(f"{said}; waiting until it ends")
        fcntl.flock(stream, fcntl.LOCK_EX)


def _named(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read().strip() or "unknown"


def _is_at(stream: IO[str], lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), lock.stat())
    except FileNotFoundError:
        return False

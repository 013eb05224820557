"""`kdc` in processes of its own that can be killed; they start from a server that has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 900.0
"""For what always happens: a busy machine is slow."""
HEAVY = ("compress.pipeline", "compress.commands.runs", "compress.steps.learning", "compress.steps.shipping")
HEAVY += ("transformers", "datasets", "sklearn.svm", "optimum.exporters.onnx", "tests.processes")


@dataclass(frozen=True)
class Accident:
    """Die by SIGKILL at the publish of this number, counted from 1, just before or just after its rename."""

    publish: int
    after: bool


def _child(arguments: Sequence[str], log: str, answer: str, accident: Accident | None) -> None:
    """Run one command as a process does, with checkpoints and shards many times as often."""
    for path, number in ((log, 2), (answer, 1)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    import torch

    from compress.bench import measure
    from compress.cli import main
    from compress.distill import trainer
    from compress.teachers import outputs

    torch.set_num_threads(1)
    measure.WARM_SECONDS = 0.1
    trainer.CHECKPOINT_SECONDS = 0.05
    outputs.SHARD_ROWS = 48
    if accident is not None:
        os.replace = _deadly(os.replace, accident)
    sys.argv = ["kdc", *arguments]
    main()


def _deadly(replace: Callable[..., None], accident: Accident) -> Any:
    done = 0

    def replace_and_die(source: Any, target: Any, **options: Any) -> None:
        nonlocal done
        done += 1
        if done == accident.publish and not accident.after:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target, **options)
        if done == accident.publish:
            os.kill(os.getpid(), signal.SIGKILL)

    return replace_and_die


@dataclass
class Process:
    """A running command; stderr is in `log`, stdout in `answer`."""

    process: ForkServerProcess
    log: Path
    answer: Path

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int | None:
        """Exit code, or None when it still runs after so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory ends."""
        self.process.kill()
        self.process.join()

    def said(self) -> str:
        """Its stderr up to now."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that it does."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.process.is_alive(), self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.01)


def start(arguments: Sequence[object], folder: Path, name: str, accident: Accident | None = None) -> Process:
    """Start a command; its log and its answer stand in `folder`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(HEAVY))
    log, answer = folder / f"{name}.log", folder / f"{name}.json"
    given = [str(argument) for argument in arguments]
    process = context.Process(target=_child, args=(given, str(log), str(answer), accident), daemon=True)
    process.start()
    return Process(process, log, answer)

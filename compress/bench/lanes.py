"""Who is timed: contenders, each on one target a lane; what opens them, and what measuring needs from the outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from compress.artifacts import IR, ONNX
from compress.bench import energy, loadgen, memory
from compress.bench.affinity import affinity_text
from compress.bench.pace import Pace
from compress.bench.results import BenchResult, Scenario
from compress.bench.targets import ONNXRUNTIME, deployed_bytes, model_files, open_model, why_not
from compress.errors import DataError, EnvironmentProblem
from compress.progress import reporter

if TYPE_CHECKING:
    from compress.recipe import Bench
    from compress.runtime.predictor import Request


Opened = TypeVar("Opened")


class Answering(Protocol):
    """What is timed: the part of compress.runtime.predictor.Predictor that the bench needs."""

    def encode(self, requests: Sequence[Request]) -> Any:
        """Text to the model's inputs."""
        ...

    def answer(self, requests: Sequence[Request], batch_size: int = 32) -> Any:
        """Text to answers."""
        ...


@dataclass(frozen=True)
class Contender:
    """A name, and the deployable folder behind it.

    requests: what it is asked in place of the requests of all: the same ones in their order, with more text in them.
    targets: what it is timed on, of the bench's; None for all.
    """

    name: str
    folder: Path
    requests: Sequence[Request] | None = field(default=None, compare=False)
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Lane:
    """A contender on one target."""

    contender: Contender
    target: str = ONNXRUNTIME

    @property
    def name(self) -> str:
        """The contender's."""
        return self.contender.name

    @property
    def folder(self) -> Path:
        """The contender's."""
        return self.contender.folder

    def asked(self, requests: Sequence[Request]) -> Sequence[Request]:
        """What the contender is asked where all are asked `requests`."""
        return requests if self.contender.requests is None else self.contender.requests

    def not_run(self, reason: object, scenario: Scenario, threads: int, bench: Bench) -> BenchResult:
        """Its row where it cannot be timed."""
        batch = bench.batch(scenario)
        row = BenchResult.not_run(
            self.name, scenario, threads=threads, batch=batch, reason=str(reason), target=self.target
        )
        return row.model_copy(update={"processes": bench.processes, "affinity": affinity_text(bench.affinity)})


@dataclass(frozen=True)
class Instruments:
    """What measuring needs from the outside; tests put their own in."""

    open: Callable[[Path, int, str], Answering] = open_model
    clock_ns: Callable[[], int] = time.perf_counter_ns
    cpu_ns: Callable[[], int] = time.process_time_ns
    memory: Callable[..., memory.Memory] = memory.taken
    energy_uj: Callable[[], list[int] | None] = energy.read_uj
    pace: Pace = field(default_factory=Pace)


def lanes_of(contenders: Sequence[Contender], bench: Bench) -> list[Lane]:
    """Each contender on each of the bench's targets that it is timed on, target by target."""
    return [Lane(c, target) for target in bench.targets for c in contenders if c.targets is None or target in c.targets]


def open_lane(lane: Lane, threads: int, tools: Instruments) -> Answering:
    """What a lane times, in this process; raises what `opened` does."""
    return opened(lane, threads, tools.open)


def opened(lane: Lane, threads: int, opener: Callable[[Path, int, str], Opened]) -> Opened:
    """What `opener` makes of a lane's folder, threads and target.

    Raises:
        DataError: the target does not run the model; says why.
        IntegrityError: a file of it is damaged.
        EnvironmentProblem: a GPU was asked for and not got.
    """
    reason = why_not(lane.folder, lane.target)
    if reason is not None:
        raise DataError(reason)
    try:
        return opener(lane.folder, threads, lane.target)
    except DataError as error:  # an operator that OpenVINO does not read, for example
        reason = str(error)
        for file in (ONNX, IR):  # in a folder that the user may not know
            reason = reason.replace(str(lane.folder / file), "the model")
        raise DataError(reason) from error


def memory_of(
    lane: Lane, requests: Sequence[Request], tools: Instruments, *, threads: int, batch: int = 1
) -> memory.Memory | None:
    """What a lane takes in a process of its own; None, and a warning that says why, where it cannot be measured."""
    asked = lane.asked(requests)
    try:
        return tools.memory(lane.folder, asked, threads=threads, batch=batch, target=lane.target)
    except EnvironmentProblem as error:
        reporter.warn(f"memory of {lane.name}: not measured: {error}")
        return None


def footprint(lane: Lane, taken: memory.Memory | None) -> dict[str, Any]:
    """Fields of a row that tell memory and size."""
    return {
        "peak_mb": taken.peak if taken else None,
        "mapped_mb": taken.mapped if taken else None,
        "gpu_mb": taken.gpu if taken else None,
        "gpu_by": taken.gpu_by if taken else None,
        "model_bytes": sum(path.stat().st_size for path in model_files(lane.folder)),
        "size_bytes": deployed_bytes(lane.folder),
    }


def ask_by_loadgen(
    runner: Answering, asked: Sequence[Request], load: loadgen.Load, cpu_ns: Callable[[], int]
) -> tuple[loadgen.Driven, int]:
    """One run of LoadGen, and the processor time of all answers: LoadGen's own thread works between them."""
    cpu = 0

    def answer(numbers: Sequence[int]) -> None:
        nonlocal cpu
        before = cpu_ns()
        runner.answer([asked[number] for number in numbers], batch_size=load.batch)
        cpu += cpu_ns() - before

    return loadgen.drive(load, answer), cpu

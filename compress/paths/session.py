"""One `kdc bench` of artifacts: measured cell by cell, each row completed and kept as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from compress.artifacts import read_spec
from compress.bench import memory, start_up
from compress.bench.bare import SEQUENCE
from compress.bench.files import append_results, origin
from compress.bench.lanes import Contender, Instruments
from compress.bench.machine import describe, gpu, throttle_notes, throttled
from compress.bench.measure import bench_cells
from compress.bench.pace import pace_notes
from compress.bench.results import BenchResult
from compress.bench.results_report import write_results_report
from compress.bench.search import search_cells
from compress.bench.targets import any_on_gpu, open_model
from compress.errors import EnvironmentProblem
from compress.paths.entries import Entry
from compress.paths.judging import LabelledRequests, quality_of
from compress.progress import reporter
from compress.recipe import Bench
from compress.runtime.predictor import Predictor, Request

GENERATED = f"timed on generated inputs (free axes are {SEQUENCE} long), without a tokenizer: not end to end from text"
Row = dict[str, Any]


@dataclass(frozen=True)
class BenchOptions:
    """What `kdc bench` can be asked beyond targets, scenarios, threads and requests.

    qps: of server, each a measurement. loadgen: LoadGen asks in every scenario. queries: requests timed for a row.
    p99_ms: in place of scenarios, the highest rate whose p99 is within so many milliseconds. data: labelled requests,
    asked and measured. metric: of them, None for the first of the model's task.
    length: tokens of every request. price: of a core for an hour. processes: that are asked at once. affinity: cores of
    each of them. results: a file that rows are appended to.
    report: an HTML file that is drawn of the rows. seen: is given the rows as they come.
    """

    qps: tuple[float, ...] = ()
    loadgen: bool = False
    queries: int | None = None
    p99_ms: float | None = None
    data: Path | None = None
    metric: str | None = None
    length: int | None = None
    price: float | None = None
    processes: int = 1
    affinity: Sequence[Sequence[int]] | None = None
    results: Path | None = None
    report: Path | None = None
    seen: Callable[[list[Row]], object] = list


@dataclass
class Session:
    """One command: models by name, what each is asked and on which targets, and the rows so far.

    hashes: of what is deployed, by the models' names. labelled: requests with labels, where quality is wanted.
    """

    entries: Mapping[str, Entry]
    contenders: Mapping[str, Contender]
    bench: Bench
    more: BenchOptions
    hashes: Mapping[str, str]
    labelled: LabelledRequests | None = None
    device: Row = field(default_factory=describe)

    def __post_init__(self) -> None:
        self.rows: list[Row] = []
        self.kept: list[Row] = []
        self.judged: dict[tuple[str, str, int, bool], Row] = {}
        self.starts: dict[tuple[str, str, int], float | None] = {}
        if any_on_gpu(self.bench.targets):
            self.device = self.device | {"gpu": gpu()}
        self.origin = origin(self.device)
        self.throttled = throttled()

    def run(self, asked: Sequence[Request]) -> list[Row]:
        """Measure all; `asked` is what contenders without requests of their own are asked.

        Raises:
            KeyboardInterrupt: after the rows of what was measured were kept.
        """
        for results in self._measured(asked):
            notes = self._slowed_down()
            try:
                rows = [self._row(result, asked, notes) for result in results]
            except KeyboardInterrupt:
                self._keep([self._timed(result, notes) | _interrupted(result) for result in results])
                raise
            self._keep(rows)
        for name, entry in self.entries.items():
            if not entry.from_text and any(row["artifact"] == name and GENERATED in row["notes"] for row in self.rows):
                reporter.warn(f"{name} was {GENERATED}")
        return self.rows

    def _measured(self, asked: Sequence[Request]) -> Iterator[list[BenchResult]]:
        tools, contenders = Instruments(memory=memory.taken), list(self.contenders.values())
        if self.more.p99_ms is None:
            further = [
                self.bench.model_copy(update={"scenarios": ("server",), "qps": rate}) for rate in self.more.qps[1:]
            ]
            return chain.from_iterable(
                bench_cells(contenders, asked, bench, instruments=tools) for bench in (self.bench, *further)
            )
        return search_cells(contenders, asked, self.bench, self.more.p99_ms, instruments=tools)

    def _keep(self, rows: list[Row]) -> None:
        self.rows += rows
        self.more.seen(rows)
        kept = [row | self._certificate(row["artifact"]) for row in rows]
        self.kept += [self.origin | row for row in kept]
        if self.more.results is not None:
            append_results(self.more.results, kept, self.origin)
        if self.more.report is not None:
            write_results_report(self.kept, self.more.report)

    def _certificate(self, artifact: str) -> Row:
        """What a run has certified of the model, in the first of its rows alone: it is longer than all other fields."""
        found = self.entries[artifact].certificate
        if found is None or any(row["artifact"] == artifact for row in self.kept):
            return {}
        return {"certificate": found}

    def _slowed_down(self) -> list[str]:
        """What slowed the processor down since the last look."""
        before, self.throttled = self.throttled, throttled()
        notes = throttle_notes(before, self.throttled)
        for note in notes:
            reporter.warn(note)
        return notes

    def _row(self, result: BenchResult, asked: Sequence[Request], notes: list[str]) -> Row:
        row = self._timed(result, notes)
        if result.reason is not None:
            return row
        return row | {"startup_ms": self._startup_ms(result, asked)} | self._quality(result)

    def _timed(self, result: BenchResult, notes: list[str]) -> Row:
        """The row, but for what has to be measured yet."""
        entry, row = self.entries[result.artifact], result.model_dump() | {"length": self.more.length}
        if result.reason is not None:
            return row | {"notes": []}
        apart = sum(file.stat().st_size for file in entry.weights)
        row |= {name: getattr(result, name) + apart for name in ("size_bytes", "model_bytes")}
        row["sha256"] = self.hashes[result.artifact]
        if self.more.price is not None and result.qps:
            row["cost_per_million"] = self.more.price * result.threads * result.processes / result.qps / 3600 * 1e6
        notes = [*notes, *pace_notes(result.disturbed_rounds or 0, result.rounds)]
        if entry.from_text:
            return row | {"notes": notes}
        return row | {"tokenizer_ms": None, "notes": [GENERATED, *notes]}

    def _startup_ms(self, result: BenchResult, asked: Sequence[Request]) -> float | None:
        key = result.artifact, result.target, result.threads
        if key not in self.starts and not result.partial:
            contender = self.contenders[result.artifact]
            first = (contender.requests or asked)[0]
            try:
                self.starts[key] = start_up.startup_ms(
                    contender.folder, first, threads=result.threads, target=result.target
                )
            except EnvironmentProblem as error:
                reporter.warn(f"start-up of {result.artifact}: not measured: {error}")
                self.starts[key] = None
        return self.starts.get(key)

    def _quality(self, result: BenchResult) -> Row:
        """Fields of quality: of equal bytes asked in batches of one size on one target, whatever the scenario."""
        by_loadgen = result.load is not None
        key = result.artifact, result.target, result.batch, by_loadgen
        folder = self.entries[result.artifact].folder
        if self.labelled is None or result.partial:
            return {}
        if key not in self.judged:
            model = open_model(folder, result.threads, result.target)
            if not isinstance(model, Predictor):  # generated inputs have no answers
                return {}
            self.judged[key] = quality_of(
                read_spec(folder),
                lambda requests: model.answer(requests, batch_size=result.batch),
                self.labelled,
                metric=self.more.metric,
                batch=result.batch,
                by_loadgen=by_loadgen,
            )
        return self.judged[key]


def _interrupted(result: BenchResult) -> Row:
    """What marks the row of something that was timed, but not completed."""
    return {"partial": True} if result.reason is None else {}

"""`kdc bench` on artifacts: each is opened as it would be deployed, all take turns on the same requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from compress.artifacts import ONNX, read_spec
from compress.bench import memory
from compress.bench.bare import SEQUENCE, answers_text, open_model
from compress.bench.files import append_results, check_appendable, origin
from compress.bench.machine import describe, thread_warnings
from compress.bench.measure import Contender, Instruments, bench_cells, deployed_sha256
from compress.bench.results import BenchResult
from compress.bench.search import RateSearch
from compress.bundle.verify import read_golden
from compress.bundle.write import STOCK_GOLDEN
from compress.errors import DataError, RecipeError
from compress.extras import require
from compress.paths.locate import (
    RUN_MODELS,
    Kind,
    external_weights,
    kind_of,
    model_folder,
    speaking_of,
)
from compress.progress import reporter
from compress.recipe import Bench
from compress.runtime.bundle import SUFFIX, open_bundle
from compress.runtime.fields import Fields
from compress.runtime.predictor import Request
from compress.runtime.requests import RENAME, read_requests

GENERATED = f"timed on generated inputs ({SEQUENCE} tokens a row), without a tokenizer: not end to end from text"
OPTION_OF = {
    "targets": "--target",
    "scenarios": "--scenario",
    "threads": "--threads",
    "qps": "--qps",
    "requests": "--queries",
}


Row = dict[str, Any]


@dataclass(frozen=True)
class BenchOptions:
    """What `kdc bench` can be asked beyond targets, scenarios, threads and requests.

    qps: of server. loadgen: LoadGen asks in every scenario. queries: requests timed for a row. p99_ms: in place of
    scenarios, the highest rate whose p99 is within so many milliseconds. data: labelled requests, asked and measured.
    length: tokens of every request. price: of a core for an hour. results: a file that rows are appended to.
    seen: is given the rows as they come.
    """

    qps: float | None = None
    loadgen: bool = False
    queries: int | None = None
    p99_ms: float | None = None
    data: Path | None = None
    length: int | None = None
    price: float | None = None
    results: Path | None = None
    seen: Callable[[list[Row]], object] = list


@dataclass(frozen=True)
class Entry:
    """One model to time.

    where: parts of a name, of which the last is given, and as many before it as tell it apart. folder: holds
    `model.onnx`. refused: why it cannot be timed, or None. more_bytes: of weights under other names.
    """

    where: tuple[str, ...]
    folder: Path
    refused: str | None = None
    more_bytes: int = 0

    @property
    def from_text(self) -> bool:
        """Whether it is timed end to end from text."""
        return answers_text(self.folder)


def bench_paths(
    artifacts: Sequence[Path],
    *,
    targets: Sequence[str],
    scenarios: Sequence[str],
    threads: Sequence[int],
    requests: Path | None,
    more: BenchOptions = BenchOptions(),
) -> list[Row]:
    """Time artifacts side by side.

    Args:
        artifacts: exported models, runs (all their models), bundles, .onnx files. One without tokenizer.json
            and model.json beside it is timed on generated inputs, which its row's `notes` say.
        targets: names of runtimes. scenarios: as in the recipe. threads: one measurement each.
        requests: texts to ask; without them a bundle's golden requests, or stock ones.
        more: the other options.

    Returns:
        A row (see BenchResult) for each of threads, scenario and model, with `notes` added: sentences.

    Raises:
        RecipeError: a path that is no artifact, or an unknown target or scenario.
        DataError: the requests or the data cannot be used, or the results file holds something else.
        EnvironmentProblem: LoadGen is needed, and not installed.
        IntegrityError: an artifact is damaged.
        KeyboardInterrupt: after the rows of what was measured went to `more.seen` and the results file.
    """
    bench = _section(targets, scenarios, threads, more)
    if bench.asks_loadgen or more.p99_ms is not None:
        require("mlperf_loadgen", extra="bench", why="load by MLPerf LoadGen")
    if more.results is not None:
        check_appendable(more.results)
    with TemporaryDirectory(prefix="kdc-bench-") as temporary:
        entries = [
            entry for number, path in enumerate(artifacts) for entry in _entries(path, Path(temporary) / str(number))
        ]
        named = dict(zip(distinct([entry.where for entry in entries]), entries, strict=True))
        session = _Session(named, bench, more, describe())
        for warning in [*session.device["warnings"], *thread_warnings(bench.threads)]:
            reporter.warn(warning)
        return session.run(_requests(requests, artifacts, named))


def _section(targets: Sequence[str], scenarios: Sequence[str], threads: Sequence[int], more: BenchOptions) -> Bench:
    raw: dict[str, Any] = {"targets": list(targets), "scenarios": list(scenarios), "threads": list(threads)}
    raw |= {"qps": more.qps, "loadgen": more.loadgen}
    if more.queries is not None:
        raw["requests"] = more.queries
    try:
        return Bench.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise RecipeError(
                "--scenario server and --qps belong together: requests arrive so many a second"
            ) from error
        raise RecipeError(
            f"{OPTION_OF[str(first['loc'][0])]} is {first['input']!r}: {first['msg'].replace('Input', 'it')}"
        ) from error


def _entries(path: Path, temporary: Path) -> list[Entry]:
    kind = kind_of(path)
    parts = path.resolve().parts
    if kind is Kind.run:
        models = {name: path / folder for name, folder in RUN_MODELS.items()}
    elif kind is Kind.stage:
        models = {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir()}
    else:
        with speaking_of(path, temporary):
            entry = _entry(parts, model_folder(path, temporary))
        if kind is not Kind.onnx or path.name == ONNX:
            return [entry]
        return [replace(entry, more_bytes=sum(file.stat().st_size for file in external_weights(path)))]
    found = [
        _entry((*parts, name), model_folder(folder, temporary / name))
        for name, folder in models.items()
        if (folder / ONNX).is_file()
    ]
    if not found:
        raise RecipeError(f"the {kind} {path} holds no exported model; run `kdc quantize RECIPE` first")
    return found


def _entry(where: tuple[str, ...], folder: Path) -> Entry:
    """Open a model once, so that what is damaged is told before the long work."""
    try:
        open_model(folder, threads=1)
    except DataError as error:
        return Entry(where, folder, str(error).replace(str(folder / ONNX), "the model"))
    return Entry(where, folder)


def distinct(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The shortest ends of paths that tell them apart; the same path twice gets a number."""
    names = []
    for number, path in enumerate(paths):
        others = {other for other in paths if other != path}
        depth = 1
        while depth < len(path) and any(other[-depth:] == path[-depth:] for other in others):
            depth += 1
        before = list(paths[:number]).count(path)
        names.append("/".join(path[-depth:]) + (f" ({before + 1})" if before else ""))
    return names


def _requests(path: Path | None, artifacts: Sequence[Path], entries: Mapping[str, Entry]) -> list[Request]:
    """The given requests; else the first golden ones that every model can answer, else stock ones."""
    pairs = any(entry.from_text and read_spec(entry.folder).two_texts for entry in entries.values())
    if path is not None:
        return list(read_requests(path, fields=Fields(pairs=pairs, remedy=RENAME)))
    for artifact in artifacts:
        bundles = [artifact] if kind_of(artifact) is Kind.bundle else sorted(artifact.glob(f"bundle/*{SUFFIX}"))
        for bundle in bundles:
            golden, _ = read_golden(open_bundle(bundle))
            if not pairs or all(request.text_pair is not None for request in golden):
                reporter.say(f"  asking the {len(golden)} golden requests of {bundle}")
                return golden
    reporter.say(f"  asking {len(STOCK_GOLDEN)} stock requests; --requests FILE times your own")
    return list(STOCK_GOLDEN)


@dataclass
class _Session:
    """One command: models by name, what is asked of them, the machine, and the rows so far."""

    entries: dict[str, Entry]
    bench: Bench
    more: BenchOptions
    device: dict[str, Any]

    def __post_init__(self) -> None:
        self.rows: list[Row] = []
        self.origin = origin(self.device)
        self.hashes = {name: deployed_sha256(entry.folder) for name, entry in self.entries.items()}
        self.tools = Instruments(open=open_model, peak_mb=memory.peak_mb)

    def run(self, asked: Sequence[Request]) -> list[Row]:
        for results in self._measured(asked):
            self._keep([self._row(result) for result in results])
        if self.more.p99_ms is None:
            self._keep(list(self._refused()))
        for name, entry in self.entries.items():
            if entry.refused is None and not entry.from_text:
                reporter.warn(f"{name} was {GENERATED}")
        return self.rows

    def _measured(self, asked: Sequence[Request]) -> Iterator[list[BenchResult]]:
        able = [Contender(name, entry.folder) for name, entry in self.entries.items() if entry.refused is None]
        if self.more.p99_ms is None:
            yield from bench_cells(able, asked, self.bench, instruments=self.tools)
            return
        for threads, contender in product(self.bench.threads, able):
            yield [RateSearch(contender, asked, self.more.p99_ms, threads, self.tools).find()]

    def _refused(self) -> Iterator[Row]:
        for (name, entry), threads, scenario in product(self.entries.items(), self.bench.threads, self.bench.scenarios):
            if entry.refused is not None:
                batch = self.bench.batch(scenario)
                yield BenchResult.not_run(
                    name, scenario, threads=threads, batch=batch, reason=entry.refused
                ).model_dump() | {"notes": []}

    def _keep(self, rows: list[Row]) -> None:
        self.rows += rows
        self.more.seen(rows)
        if self.more.results is not None:
            append_results(self.more.results, rows, self.origin)

    def _row(self, result: BenchResult) -> Row:
        entry = self.entries[result.artifact]
        row = result.model_dump()
        if result.size_bytes is not None:
            row["size_bytes"] = result.size_bytes + entry.more_bytes
            row["sha256"] = self.hashes[result.artifact]
        if entry.from_text:
            return row | {"notes": []}
        return row | {"tokenizer_ms": None, "notes": [GENERATED]}

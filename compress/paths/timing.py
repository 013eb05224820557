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
from compress.bench import memory, start_up
from compress.bench.bare import SEQUENCE, answers_text, open_model
from compress.bench.files import append_results, check_appendable, origin
from compress.bench.machine import describe, lasting_warnings, throttle_notes, throttled
from compress.bench.measure import Contender, Instruments, bench_cells, deployed_sha256
from compress.bench.results import BenchResult
from compress.bench.search import RateSearch
from compress.bundle.verify import read_golden
from compress.bundle.write import STOCK_GOLDEN
from compress.errors import DataError, EnvironmentProblem, RecipeError
from compress.extras import require
from compress.paths.judging import LabelledRequests, check_labels, quality_of, read_labelled
from compress.paths.lengths import cut_to, lengthened
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
    `model.onnx`. refused: why it cannot be timed, or None. weights: files of weights under other names.
    """

    where: tuple[str, ...]
    folder: Path
    refused: str | None = None
    weights: tuple[Path, ...] = ()

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
        requests: texts to ask; without them and without `more.data` a bundle's golden requests, or stock ones.
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
    if more.data is not None:
        require("scipy", extra="train", why="measuring quality on --data")
    if more.results is not None:
        check_appendable(more.results)
    if more.data is not None and requests is not None:
        raise RecipeError("--data and --requests both say what is asked; give one of them")
    with TemporaryDirectory(prefix="kdc-bench-") as temporary:
        entries = [
            entry for number, path in enumerate(artifacts) for entry in _entries(path, Path(temporary) / str(number))
        ]
        named = dict(zip(distinct([entry.where for entry in entries]), entries, strict=True))
        pairs = any(entry.from_text and read_spec(entry.folder).two_texts for entry in entries)
        rows = None if more.data is None else _labelled(more.data, entries, pairs=pairs)
        asked = rows.requests if rows is not None else _requests(requests, artifacts, pairs=pairs)
        hashes = {name: deployed_sha256(entry.folder, entry.weights) for name, entry in named.items()}
        if more.length is not None:
            named = _cut(named, more.length, Path(temporary) / "cut")
        session = _Session(named, bench, more, describe(), hashes, rows)
        for warning in [*session.device["warnings"], *lasting_warnings(bench.threads)]:
            reporter.warn(warning)
        return session.run(asked)


def _labelled(path: Path, entries: Sequence[Entry], *, pairs: bool) -> LabelledRequests:
    """The labelled rows, which must be of the task of every model that answers text."""
    rows = read_labelled(path, pairs=pairs)
    for entry in entries:
        if entry.refused is None and entry.from_text:
            check_labels(read_spec(entry.folder), rows)
    return rows


def _cut(entries: Mapping[str, Entry], length: int, temporary: Path) -> dict[str, Entry]:
    """The models, each reading so many tokens at the most."""
    bare = [name for name, entry in entries.items() if entry.refused is None and not entry.from_text]
    if bare:
        raise RecipeError(f"--length needs texts, but {bare[0]} is timed on generated inputs; leave one of the two out")
    return {
        name: entry
        if entry.refused
        else replace(entry, folder=cut_to(entry.folder, name, length, temporary / str(place)))
        for place, (name, entry) in enumerate(entries.items())
    }


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
        return [replace(entry, weights=tuple(sorted(external_weights(path))))]
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


def _requests(path: Path | None, artifacts: Sequence[Path], *, pairs: bool) -> list[Request]:
    """The given requests; else the first golden ones that every model can answer, else stock ones."""
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
    hashes: dict[str, str]
    labelled: LabelledRequests | None = None

    def __post_init__(self) -> None:
        self.judged: dict[tuple[str, int, bool], Row] = {}
        self.rows: list[Row] = []
        self.origin = origin(self.device)
        self.throttled = throttled()
        self.starts: dict[tuple[str, int], float | None] = {}
        self.tools = Instruments(open=open_model, peak_mb=memory.peak_mb)

    def run(self, asked: Sequence[Request]) -> list[Row]:
        for results in self._measured(asked):
            notes = self._slowed_down()
            try:
                rows = [self._row(result, asked, notes) for result in results]
            except KeyboardInterrupt:
                self._keep([result.model_dump() | {"partial": True, "notes": notes} for result in results])
                raise
            self._keep(rows)
        if self.more.p99_ms is None:
            self._keep(list(self._refused()))
        for name, entry in self.entries.items():
            if entry.refused is None and not entry.from_text:
                reporter.warn(f"{name} was {GENERATED}")
        return self.rows

    def _measured(self, asked: Sequence[Request]) -> Iterator[list[BenchResult]]:
        able = [
            Contender(
                name,
                entry.folder,
                None if self.more.length is None else lengthened(entry.folder, asked, self.more.length),
            )
            for name, entry in self.entries.items()
            if entry.refused is None
        ]
        if self.more.p99_ms is None:
            yield from bench_cells(able, asked, self.bench, instruments=self.tools)
            return
        for threads, contender in product(self.bench.threads, able):
            yield [RateSearch(contender, contender.requests or asked, self.more.p99_ms, threads, self.tools).find()]

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

    def _slowed_down(self) -> list[str]:
        """What slowed the processor down since the last look."""
        before, self.throttled = self.throttled, throttled()
        notes = throttle_notes(before, self.throttled)
        for note in notes:
            reporter.warn(note)
        return notes

    def _startup_ms(self, result: BenchResult, asked: Sequence[Request]) -> float | None:
        key = result.artifact, result.threads
        if key not in self.starts and not result.partial:
            try:
                folder = self.entries[result.artifact].folder
                self.starts[key] = start_up.startup_ms(folder, asked[0], threads=result.threads)
            except EnvironmentProblem as error:
                reporter.warn(f"start-up of {result.artifact}: not measured: {error}")
                self.starts[key] = None
        return self.starts.get(key)

    def _quality(self, result: BenchResult) -> Row:
        """Fields of quality: of equal bytes asked in batches of one size, whatever the scenario."""
        entry, by_loadgen = self.entries[result.artifact], result.load is not None
        key = result.artifact, result.batch, by_loadgen
        if self.labelled is None or result.partial or not entry.from_text:
            return {}
        if key not in self.judged:
            spec, model = read_spec(entry.folder), open_model(entry.folder, result.threads)
            self.judged[key] = quality_of(
                spec,
                lambda requests: model.answer(requests, batch_size=result.batch),
                self.labelled,
                batch=result.batch,
                by_loadgen=by_loadgen,
            )
        return self.judged[key]

    def _row(self, result: BenchResult, asked: Sequence[Request], notes: list[str]) -> Row:
        entry = self.entries[result.artifact]
        row = result.model_dump() | {"startup_ms": self._startup_ms(result, asked)} | self._quality(result)
        row["length"] = self.more.length
        if self.more.price is not None and result.qps:
            row["cost_per_million"] = self.more.price * result.threads / result.qps / 3600 * 1e6
        if result.size_bytes is not None:
            row["size_bytes"] = result.size_bytes + sum(file.stat().st_size for file in entry.weights)
            row["sha256"] = self.hashes[result.artifact]
        if entry.from_text:
            return row | {"notes": notes}
        return row | {"tokenizer_ms": None, "notes": [GENERATED, *notes]}

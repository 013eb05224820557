"""A recipe's table as checked columns: texts, label, id, group, weight, privileged texts and slices of every row.

Rows are checked once, where file and line are known, and kept by HF `datasets` as a memory-mapped Arrow file
named after the content of what was read, so a file changed in place is read again. Texts stay in that file; of each row
the numbers of its file and line are in memory until the splits are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.artifacts import is_disk_full
from compress.batch import Floats, Ints
from compress.data.arrow import Mapped, read_hub
from compress.data.readers import Layout, read_file
from compress.data.rows import Role, RowMaker, slice_wants
from compress.data.sources import DataFile, digest_content, find_files, format_of
from compress.errors import EnvironmentProblem, KdcError
from compress.progress import reporter
from compress.recipe import Column, TableSource, Task, digest
from compress.texts import Picked, row_numbers

READER_VERSION = 1
"""Raised when rows come out differently from the same files; part of the cache's key."""


@dataclass(frozen=True)
class Table:
    """Rows of one source; all sequences have the same length.

    labels as text. weights float32, above 0. files: position in `origins`; lines: line or row number, from 1. slices: a
    JSON list of the texts in `data.slices`.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: Sequence[str] | None
    groups: Sequence[str] | None
    weights: Floats | None
    files: Ints
    lines: Ints
    origins: tuple[str, ...]
    privileged: Sequence[str] | None = None
    privileged_pairs: Sequence[str] | None = None
    slices: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, row: int) -> str:
        """Place of a row for messages, such as `train.csv:12`."""
        return f"{self.origins[self.files[row]]}{self.lines[row]}"

    def take(self, rows: Ints) -> Table:
        """The given rows, in the given order."""

        picked = row_numbers(rows, len(self))

        def pick(column: Sequence[str] | None) -> Sequence[str] | None:
            return None if column is None else Picked(column, picked)

        return Table(
            ids=Picked(self.ids, picked),
            texts=Picked(self.texts, picked),
            pairs=pick(self.pairs),
            labels=pick(self.labels),
            groups=pick(self.groups),
            weights=None if self.weights is None else self.weights[rows],
            files=self.files[rows],
            lines=self.lines[rows],
            origins=self.origins,
            privileged=pick(self.privileged),
            privileged_pairs=pick(self.privileged_pairs),
            slices=pick(self.slices),
        )


def read_table(
    source: TableSource,
    train: TableSource,
    role: Role,
    *,
    root: Path,
    cache_dir: Path,
    task: Task,
    key: str,
    first: int = 0,
    slices: Sequence[Column] = (),
) -> Table:
    """Read and check one source of the recipe.

    Args:
        source: what to read.
        train: the training source, whose format, header, quoting and columns hold where `source` gives none.
        role: what the rows are for; unlabeled rows need texts only, and only training rows have weights.
        root: folder that relative paths start from.
        cache_dir: where Arrow files are kept.
        task: what the rows must have: a second text, groups.
        key: the source's place in the recipe, such as `data.train`.
        first: number of the first row in ids of the form `role-number`, which rows without an id get.
        slices: further columns to keep, of `data.slices`.

    Raises:
        DataError: a file, column or row that cannot be used, with its place.
        RecipeError: columns that the recipe does not name, or that the files cannot have.
        EnvironmentProblem: the hub cannot be reached, or the disk is full.
    """
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    maker = replace(RowMaker.for_source(source, train, role, task, key), slices=slice_wants(slices))
    if source.hub is not None:
        reporter.say(f"loading the data set {source.hub} ({key}.hub)")
        origins = [f"{source.hub}, row "]
        rows = maker.records([(origins[0], read_hub(source, maker.wants, cache_dir, key))], source.limit)
        return _table(_written(rows, cache_dir), role, origins, first)
    files = find_files(source, root, key)
    layouts = _layouts(files, source, train, root, key)
    origins = [f.name + (":" if layout.by_line else ", row ") for f, layout in zip(files, layouts, strict=True)]

    def generate() -> Iterator[dict[str, Any]]:
        readers = (read_file(file, layout, maker.wants) for file, layout in zip(files, layouts, strict=True))
        return maker.records(zip(origins, readers, strict=True), source.limit)

    fingerprint = digest([READER_VERSION, digest_content(files), repr(layouts), repr(maker), source.limit])
    return _table(_cached(generate, fingerprint, cache_dir), role, origins, first)


def _layouts(files: Sequence[DataFile], source: TableSource, train: TableSource, root: Path, key: str) -> list[Layout]:
    endings = {file.ending for file in find_files(train, root, "data.train")} if train.format and train.path else set()
    header = next((given for given in (source.header, train.header) if given is not None), True)
    quoting = source.quoting or train.quoting or "csv"
    delimiter = source.delimiter or train.delimiter or ","
    return [Layout(format_of(file, source, train, endings, key), header, quoting, key, delimiter) for file in files]


def _features() -> Any:
    from datasets import Features, Value

    names = ("id", "text", "pair", "label", "group", "privileged", "privileged_pair", "slices")
    texts = {name: Value("string") for name in names}
    return Features({**texts, "weight": Value("float32"), "file": Value("int64"), "line": Value("int64")})


def _written(rows: Iterator[dict[str, Any]], cache_dir: Path) -> Mapped:
    """The rows over a file that lasts as long as they do."""
    try:
        return Mapped.written(rows, _features().arrow_schema, cache_dir)
    except OSError as error:
        raise _known_cause(error, cache_dir) or error from error


def _cached(generate: Callable[[], Iterator[dict[str, Any]]], fingerprint: str, cache_dir: Path) -> Mapped:
    """The rows over the files of this fingerprint, made if need be."""
    import datasets

    try:
        rows = datasets.Dataset.from_generator(
            generate, features=_features(), cache_dir=str(cache_dir), fingerprint=fingerprint[:32]
        )
    except Exception as error:
        known = _known_cause(error, cache_dir)
        if known is None:
            raise
        raise known from known.__cause__
    with ExitStack() as files:
        return Mapped([files.enter_context(Path(file["filename"]).open("rb")) for file in rows.cache_files])


def _known_cause(error: BaseException, cache_dir: Path) -> KdcError | None:
    """What really happened behind the wrapper that `datasets` puts around errors of a generator."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, KdcError):
            return found
        # datasets looks for room before it writes, and gives its error no number
        if is_disk_full(found) or (isinstance(found, OSError) and str(found).startswith("Not enough disk space")):
            return EnvironmentProblem(f"the disk of {cache_dir} is full: free some space and run the command again")
        found = found.__cause__ or found.__context__
    return None


def _table(rows: Mapped, role: Role, origins: Sequence[str], first: int) -> Table:
    return Table(
        ids=rows.names("id", f"{role}-", first),
        texts=rows.texts("text") or [],
        pairs=rows.texts("pair"),
        labels=rows.texts("label"),
        groups=rows.texts("group"),
        weights=rows.numbers("weight", np.float32),
        files=_known(rows.numbers("file", np.int64)),
        lines=_known(rows.numbers("line", np.int64)),
        origins=tuple(origins),
        privileged=rows.texts("privileged"),
        privileged_pairs=rows.texts("privileged_pair"),
        slices=rows.texts("slices"),
    )


def _known(numbers: Ints | None) -> Ints:
    """Every row has one: it is where the row comes from."""
    if numbers is None:
        raise ValueError("a row without a place")
    return numbers

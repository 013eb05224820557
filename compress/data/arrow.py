"""Rows of Arrow batches: of parquet files and hub data sets, and kept in mapped files."""

from __future__ import annotations

import gzip
import io
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from compress.data.columns import Row, Want, positions
from compress.errors import DataError, EnvironmentProblem
from compress.recipe import TableSource
from compress.texts import Numbered, Rows, Texts, read_parts

BATCH_ROWS = 4096


def read_parquet(stream: IO[bytes], name: str, wants: Sequence[Want]) -> Iterator[Row]:
    """The wanted cells of each row of a parquet file.

    Raises:
        DataError: not a parquet file, a missing column, no rows.
    """
    import pyarrow
    from datasets import Features
    from pyarrow.parquet import ParquetFile

    try:
        # gzip streams seek slowly, and parquet seeks
        table = ParquetFile(io.BytesIO(stream.read()) if isinstance(stream, gzip.GzipFile) else stream)
        features = Features.from_arrow_schema(table.schema_arrow)
        names = _names(wants, table.schema_arrow.names, name)
        yield from _batched(table.iter_batches(BATCH_ROWS, columns=_distinct(names)), features, names)
    except pyarrow.ArrowException as error:
        raise DataError(f"{name} is not a readable parquet file: {error}") from error
    if table.metadata.num_rows == 0:
        raise DataError(f"{name} has columns but no rows: it needs at least one row")


def read_hub(source: TableSource, wants: Sequence[Want], cache_dir: Path, key: str) -> Iterator[Row]:
    """The wanted cells of each row of a hub data set (or a folder that `datasets` understands).

    Raises:
        EnvironmentProblem: the hub cannot be reached and the data set is not in the cache.
        DataError: no such data set, configuration or split; a missing column; no rows.
    """
    import datasets

    name = source.hub or ""
    try:
        table = datasets.load_dataset(name, source.name, split=source.split, cache_dir=str(cache_dir))
    except ConnectionError as error:
        raise EnvironmentProblem(
            f"the data set {name!r} ({key}.hub) is not in {cache_dir} and its hub cannot be reached: "
            "connect this machine, or give the data as files with `path`"
        ) from error
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"the data set {name!r} ({key}.hub) cannot be loaded: {error}") from error
    if len(table) == 0:
        raise DataError(f"split {source.split!r} of {name!r} ({key}.hub) has no rows: it needs at least one row")
    names = _names(wants, table.column_names, name)
    batches = table.select_columns(_distinct(names)).with_format("arrow").iter(BATCH_ROWS)
    yield from _batched(batches, table.features, names)


def _names(wants: Sequence[Want], known: Sequence[str], name: str) -> list[str | None]:
    return [None if at is None else known[at] for at in positions(wants, known, len(known), name)]


def _distinct(names: Sequence[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name is not None))


def _batched(batches: Iterable[Any], features: Mapping[str, Any], names: Sequence[str | None]) -> Iterator[Row]:
    """Rows of arrow batches, numbered from 1; class indices become class names."""
    from datasets import ClassLabel

    number = 0
    for batch in batches:
        columns = []
        for name in names:
            cells = [None] * batch.num_rows if name is None else batch.column(name).to_pylist()
            kind = None if name is None else features[name]
            columns.append([_class(kind, cell) for cell in cells] if isinstance(kind, ClassLabel) else cells)
        for row in zip(*columns, strict=True):
            number += 1
            yield number, row


class Mapped:
    """Rows of Arrow streams in files that are mapped, not read: what is asked for is in memory, and let go again."""

    def __init__(self, files: Iterable[IO[bytes]]) -> None:
        import pyarrow

        self._maps = [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in files]
        streams = [pyarrow.ipc.open_stream(pyarrow.py_buffer(held)) for held in self._maps]
        batches = []
        for batch in chain.from_iterable(streams):
            batches.append(batch)
            self.let_go()
        self._table = pyarrow.Table.from_batches(batches)

    @classmethod
    def written(cls, records: Iterator[dict[str, Any]], schema: Any, folder: Path) -> Mapped:
        """Rows in a new file without a name, which is gone when nobody has it open."""
        import pyarrow

        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            with pyarrow.ipc.new_stream(file, schema) as writer:
                while batch := list(islice(records, BATCH_ROWS)):
                    writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))
            file.flush()
            return cls([cast(IO[bytes], file)])

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def let_go(self) -> None:
        """Keep no page of the files in this process's memory; where systems cannot be told so, they do as they like."""
        with suppress(AttributeError):
            for held in self._maps:
                held.madvise(mmap.MADV_DONTNEED)

    def texts(self, name: str) -> Texts | None:
        """A column of texts, or None where a row has none."""
        column = self._table.column(name)
        return None if column.null_count else _Column(self, column.chunks)

    def names(self, name: str, prefix: str, first: int) -> Texts:
        """A column of names; a row without one is called by prefix and number, from `first` on."""
        column, numbered = self._table.column(name), Numbered(prefix, len(self), first)
        if column.null_count == len(self):
            return numbered
        return _Named(_Column(self, column.chunks), numbered) if column.null_count else _Column(self, column.chunks)

    def numbers(self, name: str, kind: type[np.generic]) -> npt.NDArray[Any] | None:
        """A column of numbers in memory, or None where a row has none."""
        column = self._table.column(name)
        if column.null_count:
            return None
        found = np.empty(len(self), kind)
        start = 0
        for batch in column.chunks:
            found[start : start + len(batch)] = batch.to_numpy()
            start += len(batch)
            self.let_go()
        return found


class _Column(Texts):
    """Texts of the batches of a mapped file; None where a row has none."""

    def __init__(self, mapped: Mapped, batches: Sequence[Any]) -> None:
        self.mapped, self.batches = mapped, batches
        self.starts = np.cumsum([0, *(len(batch) for batch in batches)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, rows: Rows) -> list[str]:
        found = read_parts(self.starts, rows, self._of_batch)
        self.mapped.let_go()
        return found

    def _of_batch(self, number: int, rows: Rows) -> list[str]:
        import pyarrow

        found: list[str] = self.batches[number].take(pyarrow.array(rows)).to_pylist()
        return found


class _Named(Texts):
    """Names, and others for the rows that have none."""

    def __init__(self, given: Texts, others: Texts) -> None:
        self.given, self.others = given, others

    def __len__(self) -> int:
        return len(self.given)

    def read(self, rows: Rows) -> list[str]:
        both = zip(self.given.read(rows), self.others.read(rows), strict=True)
        return [other if name is None else name for name, other in both]


def _class(kind: Any, cell: int | None) -> str | None:
    return None if cell is None or cell < 0 else kind.int2str(cell)

"""Parquet files and hub data sets: rows of Arrow batches."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from compress.data.columns import Row, Want, positions
from compress.errors import DataError, EnvironmentProblem
from compress.recipe import TableSource

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


def _class(kind: Any, cell: int | None) -> str | None:
    return None if cell is None or cell < 0 else kind.int2str(cell)

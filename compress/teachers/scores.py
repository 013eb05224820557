"""A teacher that is a file of scores: read, its scale detected, turned into logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compress.artifacts import Standard
from compress.errors import DataError
from compress.progress import reporter
from compress.recipe import ScoresTeacher

if TYPE_CHECKING:
    import pandas

Scores = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
SMALLEST_PROBABILITY = 1e-6
SUM_TOLERANCE = 1e-2
ROUNDING = 5e-3
"""What rounding to two decimals may add to a probability."""
FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}
FIRST_LINE = {"csv": 2, "tsv": 2, "jsonl": 1}
"""Line of the first row, for formats that have lines."""


def read_scores(
    section: ScoresTeacher,
    folder: Path,
    labels: Sequence[str],
    positive: str | None,
    standard: Standard | None = None,
) -> tuple[dict[str, int], Scores, str]:
    """Read a file of scores.

    With one label, the scores are numbers: taken as they are, and standardised where there is a standard.

    Returns: row of each id, logits float32 [N, C] in the order of `labels`, and the scale that was found.

    Raises:
        DataError: missing file or columns, repeated ids, numbers that are not finite.
    """
    path = folder / section.path
    table = _read_table(section, path)
    if "id" not in table.columns:
        names = ", ".join(map(str, table.columns))
        raise DataError(f"{path}: no column 'id'; there are {names}: rename the one that names the rows to id")
    ids = [_identity(value) for value in table["id"]]
    rows = {row_id: i for i, row_id in enumerate(ids)}
    if len(rows) != len(ids):
        raise DataError(f"{path}: {len(ids) - len(rows)} ids stand there more than once; one row for each id")
    columns = _score_columns(path, [str(name) for name in table.columns], labels, positive)
    values = _numbers(path, table, columns, FIRST_LINE.get(_format(section, path) or ""))
    try:
        if len(labels) == 1:
            logits, scale = _numbers_to_logits(values, standard), "numbers"
        else:
            index = None if positive is None else list(labels).index(positive)
            logits, scale = to_logits(values.astype(np.float32), section.scale, index)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    reporter.say(f"  teacher scores: {len(ids):,} rows in {path.name}, read as {scale}")
    return rows, logits, scale


def _format(section: ScoresTeacher, path: Path) -> str | None:
    name = path.with_suffix("") if path.suffix == ".gz" else path
    return section.format or FORMATS.get(name.suffix)


def _identity(value: Any) -> str:
    """An id as text, as the data's own readers have it: stripped, and 7.0 is "7"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _read_table(section: ScoresTeacher, path: Path) -> pandas.DataFrame:
    import pandas

    kind = _format(section, path)
    if kind is None:
        raise DataError(f"teacher.path: the format of {path.name} is not told by its ending; set teacher.format")
    if not path.is_file():
        raise DataError(f"teacher.path: there is no file {path}")
    try:
        if kind == "parquet":
            return pandas.read_parquet(path)
        if kind == "jsonl":
            return pandas.read_json(path, lines=True, dtype=False)
        # as text, because pandas would read the ids NA and null as nothing, and 007 as 7
        return pandas.read_csv(path, sep="\t" if kind == "tsv" else ",", dtype=str, keep_default_na=False)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}{_undecodable_line(path)} is not valid UTF-8: save the file as UTF-8") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path} could not be read as {kind}: {str(error).splitlines()[0]}") from error


def _undecodable_line(path: Path) -> str:
    """`:line` of the first line that is not UTF-8; nothing for a packed file, whose bytes have no lines."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            return f":{number}" if path.suffix != ".gz" else ""
    return ""


def _score_columns(path: Path, present: list[str], labels: Sequence[str], positive: str | None) -> list[str]:
    if all(label in present for label in labels):
        return list(labels)
    if "score" in present and len(labels) == 2 and positive is not None:
        return ["score"]
    missing = [label for label in labels if label not in present]
    wanted = "one column for each label, or `score` for two labels" if len(labels) > 1 else "the column `score`"
    raise DataError(
        f"{path}: no score column for {', '.join(missing[:5])}; there are {', '.join(present[:10])}; give {wanted}"
    )


def _numbers(path: Path, table: pandas.DataFrame, columns: list[str], first_line: int | None) -> Doubles:
    import pandas

    numbers = table[columns].apply(pandas.to_numeric, errors="coerce")
    values: Doubles = numbers.to_numpy(dtype=np.float64)
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(small).all(1))
    if len(bad):
        row = int(bad[0])
        where = f"{path}, row {row + 1}" if first_line is None else f"{path}:{row + first_line}"
        raise DataError(
            f"{where}: score {table[columns].iloc[row].tolist()} of id {table['id'].iloc[row]!r} is not a finite "
            f"number ({len(bad)} such rows); compute it again or leave the row out"
        )
    return values


def _numbers_to_logits(values: Doubles, standard: Standard | None) -> Scores:
    if standard is not None:
        values = (values - standard.mean) / standard.std
    return values.astype(np.float32)


def detect_scale(values: Scores) -> str:
    """Logits, probabilities or margins, told from the numbers' range: values [N, C] or [N, 1].

    Raises:
        ValueError: the numbers could be either, so the recipe has to say.
    """
    inside = bool(((values >= 0) & (values <= 1)).all())
    if values.shape[1] == 1:
        return "probabilities" if inside else "margins"
    sums = values.sum(1)
    if inside:
        if _near(sums, 1.0, values.shape[1]):
            return "probabilities"
        raise ValueError(
            f"all scores lie in 0..1, but the rows sum to {sums.min():.3g} up to {sums.max():.3g}, so they may be "
            "probabilities or logits: set teacher.scale to one of them"
        )
    if bool((values >= 0).all()) and _near(sums / 100, 1.0, values.shape[1]):
        raise ValueError("the scores look like percentages (each row sums to 100): divide them by 100")
    return "logits"


def _near(sums: Scores, total: float, classes: int) -> bool:
    """Whether all rows sum to a total, as far as numbers of two decimals can."""
    return bool((abs(sums - total) <= max(SUM_TOLERANCE, ROUNDING * classes) + 1e-6).all())


def _fits(values: Scores, scale: str) -> None:
    """Compare what the recipe says with the numbers.

    Raises:
        ValueError: they cannot be on that scale.
    """
    if scale == "margins" and values.shape[1] != 1:
        raise ValueError(
            f"teacher.scale is margins, which are one column (score), but there are {values.shape[1]}: set it to logits"
        )
    wrong = ((values < 0) | (values > 1)).any(1)
    if values.shape[1] > 1:
        wrong |= values.sum(1) <= 0
    outside = np.flatnonzero(wrong)
    if scale == "probabilities" and len(outside):
        raise ValueError(
            f"teacher.scale is probabilities, but row {outside[0] + 1} is {values[outside[0]].tolist()} "
            f"({len(outside)} such rows): they lie in 0..1 and are not all 0; set it to logits or margins"
        )


def to_logits(values: Scores, scale: str, positive_index: int | None) -> tuple[Scores, str]:
    """Scores to logits float32 [N, C], and the scale they had.

    Log-probabilities are logits; a margin is the positive logit minus the other.

    Raises:
        ValueError: the numbers are not on the scale, or may be on two.
    """
    found = detect_scale(values) if scale == "detect" else scale
    _fits(values, found)
    if values.shape[1] == 1:
        column = values[:, 0]
        if found == "probabilities":
            clipped = np.clip(column, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
            column = np.log(clipped) - np.log1p(-clipped)
        other = np.zeros_like(column)
        pair = (column, other) if positive_index == 0 else (other, column)
        return np.stack(pair, 1).astype(np.float32), found
    if found == "probabilities":
        return np.log(np.clip(values, SMALLEST_PROBABILITY, 1.0)).astype(np.float32), found
    return values, found


def rows_for(ids: Sequence[str], rows: dict[str, int], logits: Scores, split: str) -> Scores:
    """Logits of a split's rows, in its order.

    Raises:
        DataError: an id has no scores.
    """
    missing = [row_id for row_id in ids if row_id not in rows]
    if missing:
        raise DataError(
            f"teacher.path: no scores for {len(missing)} of {len(ids)} rows of {split}, first id "
            f"{missing[0]!r}; the column data.train.columns.id must name the ids that the score file uses"
        )
    name, count = Counter(ids).most_common(1)[0]
    if count > 1:
        raise DataError(
            f"teacher.path: the id {name!r} stands in {count} rows of {split}, which would all get one score; "
            "the column data.train.columns.id must give each row a name of its own"
        )
    return logits[[rows[row_id] for row_id in ids]]

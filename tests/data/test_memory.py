"""Data larger than memory: of each row a few numbers are in memory, whatever the length of its text."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from compress.batch import Examples, Splits
from compress.data.encode import encode_examples
from compress.recipe import PairsTask
from compress.runtime.text import TextEncoder
from compress.students import baseline
from compress.texts import ROWS_A_PIECE
from tests.data.conftest import Load
from tests.tiny_models import CORPUS, examples, wordpiece_json

FEW, MANY = 9_000, 18_000
MOST_BYTES = 64
"""Of a further row, while it is loaded and encoded. Both sizes fill whole pieces of each table."""


@pytest.mark.parametrize("pairs", [False, True])
def test_tokens_from_the_file_are_those_of_the_encoder(pairs: bool, tmp_path: Path) -> None:
    """Ids, type ids, lengths and what was cut; in any order, and twice; the folder stays empty."""
    encoder = TextEncoder(wordpiece_json(), max_length=14)
    rows = examples(ROWS_A_PIECE + 50, pairs=pairs)
    ids, type_ids, truncated = encoder.encode(list(rows.texts), None if rows.pairs is None else list(rows.pairs))
    encoded = encode_examples(encoder, rows, tmp_path / "work")
    assert (len(encoded), encoded.truncated) == (len(ids), truncated)
    assert encoded.lengths.tolist() == [len(row) for row in ids]
    for row in [*range(len(ids) - 1, -1, -37), 0, 0, -1]:
        np.testing.assert_array_equal(encoded.ids[row], ids[row])
        np.testing.assert_array_equal(encoded.type_ids[row], type_ids[row])
    assert [row.tolist() for row in encoded.ids[4:9]] == [row.tolist() for row in ids[4:9]]
    assert list((tmp_path / "work").iterdir()) == []
    assert len(encode_examples(encoder, Examples(ids=[], texts=[]), tmp_path)) == 0


def write(path: Path, rows: int, prefix: str) -> None:
    """Long texts with a few labels."""
    lines = (f"{CORPUS[n % len(CORPUS)]} {prefix} {n} {'and more ' * 20},{'ab'[n % 2]}\n" for n in range(rows))
    with path.open("w") as stream:
        stream.write("text,label\n")
        stream.writelines(lines)


def peak(folder: Path, load: Load, rows: int) -> int:
    """Bytes that loading and encoding take at the most, beyond what was there before."""
    for split, count in (("train", rows // 2), ("unlabeled", rows // 2), ("validation", 50), ("test", 50)):
        write(folder / f"{split}.csv", count, f"{split} {rows}")
    data = {split: {"path": f"{split}.csv"} for split in ("train", "unlabeled", "validation", "test")}
    encoder = TextEncoder(wordpiece_json(), max_length=64)
    tracemalloc.start()
    try:
        splits = load(data | {"overlap": "drop"})
        encoded = encode_examples(encoder, splits.transfer, folder)
        assert len(encoded) == rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_a_row_takes_a_few_numbers(tmp_path: Path, load: Load) -> None:
    """Its text alone has over 200 characters. The first loading imports what later ones find."""
    peak(tmp_path, load, 50)
    few, many = (peak(tmp_path, load, rows) for rows in (FEW, MANY))
    assert (many - few) / (MANY - FEW) < MOST_BYTES


def test_the_baseline_of_many_rows_is_fitted_on_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said with both numbers, the same each time; all rows of the other splits are measured."""
    train, rest = examples(300, pairs=True), examples(ROWS_A_PIECE + 9, pairs=True, seed=1)
    splits = Splits(train, rest, rest, None, ("0", "1"), "tiny")
    whole = baseline.fit_baseline(splits, PairsTask(kind="pairs"), 0, tmp_path)
    assert "training rows" not in whole["description"]
    monkeypatch.setitem(baseline.MOST_ROWS, "pairs", 120)
    first, second = (baseline.fit_baseline(splits, PairsTask(kind="pairs"), 0, tmp_path) for _ in range(2))
    assert first["description"].endswith("features, on 120 of 300 training rows")
    assert first["test"] == second["test"]

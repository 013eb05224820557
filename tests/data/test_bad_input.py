"""Bad input is answered with one sentence that says where it is."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.batch import Splits
from compress.errors import DataError

Load = Callable[..., Splits]
OTHERS = {"validation": {"path": "validation.csv"}, "test": {"path": "test.csv"}}
GOOD = b"text,label\na shoe,shoe\na lamp,lamp\n"
WEIGHED = {"columns": {"text": "text", "label": "label", "weight": "w"}}

CASES: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("t.csv", b"", {}, r"t\.csv is empty \(0 bytes\)"),
    ("t.csv", b"\n\n", {}, r"t\.csv is empty \(blank lines only\)"),
    ("t.csv", b"text,label\n", {}, r"t\.csv has a header but no rows"),
    ("t.jsonl", b"\n", {}, r"t\.jsonl is empty"),
    ("t.csv", GOOD + b"caf\xe9,shoe\n", {}, r"t\.csv:4 is not valid UTF-8 \(0xe9 at byte 4\)"),
    ("t.csv", GOOD.decode().encode("utf-16"), {}, r"t\.csv:1 is not valid UTF-8"),
    ("t.csv.gz", gzip.compress(GOOD + b"\xff,shoe\n", mtime=0), {}, r"t\.csv\.gz:4 is not valid UTF-8"),
    ("t.csv.gz", gzip.compress(GOOD, mtime=0)[:-9], {}, r"t\.csv\.gz is damaged"),
    ("t.csv.gz", GOOD, {}, r"t\.csv\.gz is damaged"),
    ("t.csv", GOOD + b"too,many,cells\n", {}, r"t\.csv:4 has 3 fields, but the header has 2"),
    ("t.tsv", GOOD.replace(b",", b"\t") + b"\nfew\n", {}, r"t\.tsv:5 has 1 fields, but the header has 2"),
    (
        "t.csv",
        b"a,shoe\nb\n",
        {"header": False, "columns": {"text": 0, "label": 1}},
        r"t\.csv:2 .*first row, line 1",
    ),
    (
        "t.csv",
        GOOD + b" ,shoe\n",
        {},
        r"t\.csv:4 has an empty text \(column 'text', data\.train\.columns\.text\)",
    ),
    ("t.csv", GOOD + b"bag,\n", {}, r"t\.csv:4 has no label \(column 'label', data\.train\.columns\.label\)"),
    (
        "t.csv",
        b"text,kind\na,b\n",
        {},
        r"no column 'label' \(data\.train\.columns\.label\); it has 'text', 'kind'",
    ),
    ("t.csv", b"Text,label\na,b\n", {}, r"no column 'text' .*did you mean 'Text'\?"),
    ("t.csv", b"text,text,label\na,b,c\n", {}, r"2 columns named 'text'"),
    ("t.csv", GOOD, {"columns": {"text": 0, "label": 2}}, r"no column 2 .*2 columns count from 0 to 1"),
    ("t.csv", GOOD + b'"open,shoe\nx,lamp\n', {}, r"t\.csv:4 cannot be read as quoted text"),
    ("t.jsonl", b'{"text": "a", "label": 1}\n{"text": \n', {}, r"t\.jsonl:2 is not valid JSON"),
    ("t.jsonl", b'[{"text": "a", "label": 1}]\n', {}, r"t\.jsonl:1 is .*one object a line"),
    ("t.jsonl", b'[\n{"text": "a"}]\n', {}, r"t\.jsonl:1 is not valid JSON .*not an array"),
    ("t.jsonl", b'{"text": null, "label": 1}\n', {}, r"t\.jsonl:1 has an empty text"),
    ("t.jsonl", b'{"text": "a", "label": NaN}\n', {}, r"t\.jsonl:1 has no label"),
    ("t.jsonl", b'{"text": ["a"], "label": 1}\n', {}, r"t\.jsonl:1 has a list in column 'text'"),
    ("t.jsonl", b'{"text": "\\ud83d", "label": 1}\n', {}, r"t\.jsonl:1 has half a surrogate pair"),
    ("t.jsonl", b'\n{"titel": "a", "text": "x"}\n', {}, r"t\.jsonl:2 has no column 'label'.*'titel', 'text'"),
    (
        "t.jsonl",
        b'{"title": "a", "label": 1}\n',
        {"columns": {"text": ["brnd", "title"]}},
        r"t\.jsonl has no column 'brnd'",
    ),
    ("t.csv", b"text,label,w\na,b,x\n", WEIGHED, r"t\.csv:2 has the weight 'x'"),
    ("t.csv", b"text,label,w\na,b,nan\n", WEIGHED, r"t\.csv:2 has the weight 'nan'"),
    ("t.csv", b"text,label,w\na,b,1\nc,d,0\n", WEIGHED, r"t\.csv:3 has the weight '0'.*above 0"),
    ("t.csv", b"text,label,w\na,b,1\nc,d,1e39\n", WEIGHED, r"t\.csv:3 has the weight '1e39'"),
    ("t.csv", b"text,label,w\na,b,\n", WEIGHED, r"t\.csv:2 has the weight ''"),
    ("t.parquet", b"not parquet", {}, r"t\.parquet is not a readable parquet file"),
    ("t.txt", GOOD, {}, r"ending '\.txt'.*data\.train\.format"),
    ("t.zip", b"PK", {}, r"t\.zip is not a readable zip archive"),
    ("t.csv", b"text,label\na,b\nc,b\n", {}, r"all 2 training rows have the label 'b'"),
]


@pytest.mark.parametrize(("name", "content", "source", "message"), CASES)
def test_bad_files(load: Load, shop: Path, name: str, content: bytes, source: dict[str, Any], message: str) -> None:
    (shop / name).write_bytes(content)
    for _ in range(2):  # a failure leaves no half-read cache behind
        with pytest.raises(DataError, match=message) as raised:
            load({"train": {"path": name, **source}, **OTHERS})
        assert raised.value.exit_code == 3
        assert "\n" not in str(raised.value)


def test_bad_parquet_row_is_found_by_number(load: Load, shop: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a", None], "label": ["x", "y"]}), shop / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet, row 2 has an empty text"):
        load({"train": {"path": "t.parquet"}, **OTHERS})
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), shop / "t.parquet"
    )
    with pytest.raises(DataError, match=r"t\.parquet has columns but no rows"):
        load({"train": {"path": "t.parquet"}, **OTHERS})


def test_missing_files_and_members(load: Load, shop: Path) -> None:
    with zipfile.ZipFile(shop / "a.zip", "w") as archive:
        archive.writestr("train.csv", GOOD + b"\xff,x\n")
    cases = {
        "trian.csv": r"trian\.csv does not exist \(data\.train\.path\); did you mean 'train\.csv'\?",
        "*.tsv": r"no file matches the glob .*\*\.tsv \(data\.train\.path\)",
        "zip://tran.csv::a.zip": r"no member 'tran\.csv' .*it holds 'train\.csv'; did you mean",
        "zip://train.csv::b.zip": r"b\.zip does not exist",
        "zip://train.csv::a.zip": r"a\.zip::train\.csv:4 is not valid UTF-8",
        "a.zip": r"a\.zip is an archive .*zip://member::a\.zip; it holds 'train\.csv'",
        "cache": r"cache is a folder",
    }
    (shop / "cache").mkdir()
    for path, message in cases.items():
        with pytest.raises(DataError, match=message):
            load({"train": {"path": path}, **OTHERS})


def test_other_splits_are_named(load: Load, shop: Path) -> None:
    (shop / "test.csv").write_text("text,label\nx,\n")
    with pytest.raises(DataError, match=r"test\.csv:2 has no label"):
        load({"train": {"path": "train.csv"}, **OTHERS})
    (shop / "test.csv").write_text("text,kind\nx,shoe\n")
    with pytest.raises(DataError, match=r"test\.csv has no column 'label' \(data\.train\.columns\.label\)"):
        load({"train": {"path": "train.csv"}, **OTHERS})
    with pytest.raises(DataError, match=r"gone\.csv does not exist \(data\.unlabeled\.path\)"):
        load({"train": {"path": "train.csv"}, "unlabeled": {"path": "gone.csv"}})


def test_nothing_is_printed_but_warnings(load: Load, shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load({"train": {"path": "train.csv"}, **OTHERS})
    captured = capfd.readouterr()
    assert captured.out == ""
    assert not re.search("Generating|it/s|examples", captured.err)

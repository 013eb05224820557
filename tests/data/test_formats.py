"""Every format and every way to name a file gives the same rows."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.batch import Splits
from compress.errors import DataError, EnvironmentProblem, RecipeError

Load = Callable[..., Splits]
ROWS = [("red shoe", "shoe"), ("NA", "lamp"), ("null lamp", "lamp"), ("2020-01-01", "shoe")]
OTHERS = {"validation": {"path": "validation.csv"}, "test": {"path": "test.csv"}}
PLAIN = {"text": "text", "label": "label"}


def csv_text(delimiter: str = ",") -> str:
    return "\n".join(delimiter.join(row) for row in [("text", "label"), *ROWS]) + "\n"


def json_text() -> str:
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)


def write_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts, labels = zip(*ROWS, strict=True)
    pq.write_table(pa.table({"text": texts, "label": labels}), path)


def test_formats_agree(load: Load, shop: Path) -> None:
    (shop / "a.csv").write_text(csv_text())
    (shop / "bom.csv").write_bytes(b"\xef\xbb\xbf" + csv_text().replace("\n", "\r\n").encode())
    (shop / "a.tsv").write_text(csv_text("\t"))
    (shop / "a.jsonl").write_text(json_text())
    (shop / "a.json").write_text("\n" + json_text() + "\n\n")
    (shop / "a.csv.gz").write_bytes(gzip.compress(csv_text().encode()))
    write_parquet(shop / "a.parquet")
    with zipfile.ZipFile(shop / "a.zip", "w") as archive:
        archive.writestr("deep/inner.ndjson", json_text())
        archive.writestr("inner.csv.gz", gzip.compress(csv_text().encode()))
        archive.write(shop / "a.parquet", "inner.parquet")
    names = ["a.csv", "bom.csv", "a.tsv", "a.jsonl", "a.json", "a.csv.gz", "a.parquet"]
    members = [f"zip://{name}::a.zip" for name in ("deep/inner.ndjson", "inner.csv.gz", "inner.parquet")]
    prints = set()
    for path in [*names, *members]:
        splits = load({"train": {"path": path, "columns": PLAIN}, **OTHERS})
        assert list(splits.train.texts) == [text for text, _ in ROWS], path
        assert [splits.labels[i] for i in splits.train.labels] == [label for _, label in ROWS], path
        assert list(splits.train.ids) == ["train-0", "train-1", "train-2", "train-3"]
        prints.add(splits.fingerprint)
    assert len(prints) == 1, "the fingerprint is of the content, not of paths or formats"


def test_quotes_are_characters(load: Load, shop: Path) -> None:
    lines = ['19 " lcd, "x\tstand\t1', '"open\tcase\t0', "a\tb\t0", "c\td\t1"]
    (shop / "train.txt").write_text("\n".join(lines) + "\n")
    source = {
        "path": "train.txt",
        "format": "tsv",
        "header": False,
        "quoting": "none",
        "columns": {"text": 0, "text_pair": 1, "label": 2},
    }
    (shop / "test.txt").write_text('"x\ty"\t1\nz\ty\t0\n')
    data = {"train": source, "validation": {"path": "test.txt"}, "test": {"path": "test.txt"}}
    splits = load(data, {"kind": "pairs"})
    assert splits.train.texts[:2] == ['19 " lcd, "x', '"open']
    assert list(splits.train.pairs or []) == ["stand", "case", "b", "d"]
    assert list(splits.test.texts) == ['"x', "z"], "format, header, quoting and columns are as for train"
    assert splits.labels == ("0", "1")
    with pytest.raises(DataError, match=r"train.txt:2 .*quoting: none"):
        load({**data, "train": {**source, "quoting": "csv"}}, {"kind": "pairs"})


def test_quoted_lines_keep_their_numbers(load: Load, shop: Path) -> None:
    (shop / "train.csv").write_text('text,label\n"two\nlines, one ""cell""",a\n\nx,b\n  ,b\n')
    with pytest.raises(DataError, match=r"train\.csv:6 has an empty text"):
        load({"train": {"path": "train.csv"}, **OTHERS})
    (shop / "train.csv").write_text('text,label\n"two\nlines, one ""cell""",shoe\nx,lamp\n')
    assert load({"train": {"path": "train.csv"}, **OTHERS}).train.texts[0] == 'two\nlines, one "cell"'


def test_columns_join_weigh_group_and_name(load: Load, shop: Path) -> None:
    rows = [
        {"brand": " Acme ", "title": "shoe ", "kind": 1.0, "sku": 7, "cluster": "g1", "w": 2},
        {"title": "lamp", "kind": 0, "sku": "8", "cluster": "g2", "w": 0.5},
    ]
    (shop / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"text": ["brand", "title"], "label": "kind", "id": "sku", "group": "cluster", "weight": "w"}
    (shop / "test.jsonl").write_text('{"brand": null, "title": "bag", "kind": true}\n{"brand": "b", "kind": 1}\n')
    data = {"train": {"path": "train.jsonl", "columns": columns}}
    tests = {"path": "test.jsonl"}
    with pytest.raises(DataError, match=r"'true' \(1 row, first at .*test\.jsonl:1\)"):
        load({**data, "validation": tests, "test": tests})
    splits = load({**data, "validation": tests, "test": tests}, {"unseen_labels": "wrong"})
    assert splits.labels == ("0", "1")
    assert (list(splits.train.texts), list(splits.train.ids)) == (["Acme shoe", "lamp"], ["7", "8"])
    assert list(splits.train.groups or []) == ["g1", "g2"]
    assert splits.train.weights is not None
    assert splits.train.weights.tolist() == [2.0, 0.5]
    assert splits.test.labels is not None
    assert splits.test.labels.tolist() == [-1, 1]
    assert list(splits.test.ids) == ["test-0", "test-1"], "an inherited id column may be absent"
    assert splits.test.weights is None


def test_integer_labels_sort_as_numbers(load: Load, shop: Path) -> None:
    text = "text,label\n" + "".join(f"row {n},{n}\n" for n in (10, 9, 2, -1))
    for name in ("train", "validation", "test"):
        (shop / f"{name}.csv").write_text(text)
    assert load({"train": {"path": "train.csv"}, **OTHERS}).labels == ("-1", "2", "9", "10")


def test_globs_lists_limits_and_transfer_sets(load: Load, shop: Path) -> None:
    for n in range(3):
        (shop / f"part-{n}.csv").write_text(f"text,label\nfirst {n},shoe\nsecond {n},lamp\n")
    (shop / "more.txt").write_text("only text\nanother\n")
    extra = {"path": "more.txt", "format": "csv", "header": False, "columns": {"text": 0}}
    data = {
        "train": {"path": ["part-*.csv", "train.csv"], "limit": 7},
        **OTHERS,
        "unlabeled": [{"path": "test.csv"}, extra],
    }
    splits = load(data)
    assert list(splits.train.texts[::2]) == ["first 0", "first 1", "first 2", "shoe number 0"]
    assert splits.unlabeled is not None
    assert list(splits.unlabeled.texts) == ["test shoe", "test lamp", "only text", "another"]
    assert list(splits.unlabeled.ids) == [f"unlabeled-{n}" for n in range(4)]
    assert len(splits.transfer) == 11


def test_changed_in_place_is_read_again(load: Load, shop: Path) -> None:
    import os

    path = shop / "train.csv"
    before = load({"train": {"path": "train.csv"}, **OTHERS})
    stamp = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace("shoe number 0", "shoe number 9"))
    os.utime(path, ns=(stamp, stamp))
    after = load({"train": {"path": "train.csv"}, **OTHERS})
    assert after.train.texts[0] == "shoe number 9"
    assert after.fingerprint != before.fingerprint


def test_root_moves_relative_paths(load: Load, shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("train.csv", "test.csv", "validation.csv"):
        (shop / name).rename(folder / name)
    assert len(load({"root": "elsewhere", "train": {"path": "train.csv"}, **OTHERS}).train) == 12
    with pytest.raises(DataError, match=r"there is no folder .*nowhere either: check data\.root"):
        load({"root": "nowhere", "train": {"path": "train.csv"}, **OTHERS})


def test_hub_data_set(load: Load, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    folder = shop / "hubset"
    folder.mkdir()
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["lamp", "shoe"])}
    )
    rows: dict[str, Any] = {"text": ["a", "b", "c"], "label": [1, 0, 1]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(folder / "train.parquet"))
    splits = load({"train": {"hub": str(folder)}, **OTHERS})
    assert splits.labels == ("lamp", "shoe")
    assert [splits.labels[i] for i in splits.train.labels] == ["shoe", "lamp", "shoe"]
    with pytest.raises(DataError, match=r"no column 'titel' \(data\.train\.columns\.text\); it has 'text', 'label'"):
        load({"train": {"hub": str(folder), "columns": {"text": "titel"}}, **OTHERS})
    with pytest.raises(DataError, match=r"data\.train\.hub\) cannot be loaded: Unknown split \"nope\""):
        load({"train": {"hub": str(folder), "split": "nope"}, **OTHERS})
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentProblem, match=r"'someone/something' \(data\.train\.hub\).*cannot be reached"):
        load({"train": {"hub": "someone/something"}, **OTHERS})


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"header": False}, r"data\.train\.columns\.text is the name 'text', but header is false"),
        ({"columns": {"text": "text", "label": None}}, r"data\.train\.columns\.label is null"),
        (
            {"columns": {"text": "text", "text_pair": "label"}},
            r"text_pair is given, but task.kind is classification",
        ),
        ({"path": "zip://train.csv"}, r"zip://member::file\.zip"),
        ({"path": []}, r"data\.train\.path is an empty list"),
        ({"columns": {"text": []}}, r"data\.train\.columns\.text is an empty list"),
    ],
)
def test_recipe_errors(load: Load, shop: Path, train: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load({"train": {"path": "train.csv", **train}, **OTHERS})

"""Columns that the teacher alone reads: how they are read, kept beside the texts, and joined for the teacher."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compress.batch import Examples, Splits
from compress.data.load import fingerprint
from compress.data.transfer import make_transfer
from compress.errors import DataError, RecipeError
from compress.recipe import Transfer

Load = Callable[..., Splits]
ROWS = [("red shoe", "clicked twice", "shoe"), ("old lamp", "", "lamp"), ("blue shoe", "in a cart", "shoe")]
SECRET = {"text": "title", "label": "kind", "privileged": "clicks"}


def write(path: Path, rows: Sequence[Sequence[str]], names: Sequence[str] = ("title", "clicks", "kind")) -> None:
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    for name in ("train", "validation", "test"):
        write(tmp_path / f"{name}.jsonl", [(f"{title} {name}", clicks, kind) for title, clicks, kind in ROWS])
    given: dict[str, Any] = {name: {"path": f"{name}.jsonl"} for name in ("train", "validation", "test")}
    given["train"]["columns"] = SECRET
    return given


def test_the_teacher_reads_them_after_the_text_and_nobody_else(load: Load, data: dict[str, Any]) -> None:
    splits = load(data)
    assert list(splits.train.texts) == ["red shoe train", "old lamp train", "blue shoe train"]
    assert list(splits.train.privileged or ()) == ["clicked twice", "", "in a cart"]
    read = splits.for_teacher
    assert list(read.train.texts) == ["red shoe train clicked twice", "old lamp train", "blue shoe train in a cart"]
    assert read.test.texts[0] == "red shoe test clicked twice"
    assert read.train.privileged is None
    assert (read.train.ids, read.labels, read.fingerprint) == (splits.train.ids, splits.labels, splits.fingerprint)
    assert splits.notes == (
        "the teacher reads privileged columns, which the student never sees: 'clicks' after the text; the teacher's "
        "quality and latency are measured with them",
        "the privileged columns hold nothing in 1 of 3 train rows, 1 of 3 validation rows, 1 of 3 test rows: there the "
        "teacher reads the text alone",
    )


def test_several_columns_on_both_sides_of_a_pair(load: Load, tmp_path: Path) -> None:
    names = ("query", "history", "title", "price", "stock", "match")
    rows = [("q1", "h1", "t1", "9", "", "1"), ("q2", "", "t2", "", "", "0"), ("q3", "h3", "t3", "7", "yes", "0")]
    columns = {"text": "query", "text_pair": "title", "label": "match"}
    columns |= {"privileged": "history", "privileged_pair": ["price", "stock"]}
    given: dict[str, Any] = {}
    for name in ("train", "validation", "test"):
        write(tmp_path / f"{name}.jsonl", [(row[0] + name, *row[1:]) for row in rows], names)
        given[name] = {"path": f"{name}.jsonl"}
    given["train"]["columns"] = columns
    read = load(given, {"kind": "pairs"}).train.for_teacher
    assert list(read.texts) == ["q1train h1", "q2train", "q3train h3"]
    assert list(read.pairs or ()) == ["t1 9", "t2", "t3 7 yes"]


def test_they_follow_their_rows_into_splits(load: Load, data: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [(f"title {n}", f"clicks {n}", "ab"[n % 2]) for n in range(40)])
    splits = load({"train": data["train"], "validation": {"fraction": 0.2}, "test": {"fraction": 0.2}})
    for rows in (splits.train, splits.validation, splits.test):
        assert [text.replace("title", "clicks") for text in rows.texts] == list(rows.privileged or ())


def test_without_them_all_is_as_it_was(load: Load, data: dict[str, Any]) -> None:
    data["train"]["columns"] = {"text": "title", "label": "kind"}
    splits = load(data)
    assert splits.train.privileged is None
    assert splits.train.for_teacher is splits.train
    assert not splits.notes
    # as before there were privileged columns: keys of finished artifacts hold it
    known = "89f2ec30aa56aef75ab73ddd1c30bc356d95d4495ac1f316d8b0b408934cdac6"
    assert fingerprint(("a",), [Examples(["1"], ["x"])]) == known


def test_fingerprints_see_them(load: Load, data: dict[str, Any], tmp_path: Path) -> None:
    prints = {load(data).fingerprint}
    write(tmp_path / "test.jsonl", [(f"{title} test", clicks + "!", kind) for title, clicks, kind in ROWS])
    prints.add(load(data).fingerprint)
    data["train"]["columns"] = {"text": "title", "label": "kind"}
    prints.add(load(data).fingerprint)
    assert len(prints) == 3
    rows = Examples(["1"], ["x"], privileged=["y"])
    sides = [rows, replace(rows, privileged=None), replace(rows, privileged=None, privileged_pairs=["y"])]
    assert len({fingerprint((), [side]) for side in sides}) == 3
    # what the teacher is asked is what it reads, wherever a word stood
    assert fingerprint((), [rows.for_teacher]) == fingerprint((), [Examples(["1"], ["x y"])])


def test_overlap_compares_what_the_student_reads(load: Load, data: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", [("red shoe train", "other clicks", "shoe"), ("lamp", "", "lamp")])
    assert any(note.startswith("1 of 3 training rows have texts") for note in load(data).notes)


def test_unlabeled_rows_may_lack_the_column_that_they_inherit(load: Load, data: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "more.jsonl", [("one",), ("two",)], ["title"])
    write(tmp_path / "own.jsonl", [("three", "seen")], ["name", "views"])
    own = {"path": "own.jsonl", "columns": {"text": "name", "label": None}}
    named = {**own, "columns": own["columns"] | {"privileged": "views"}}
    splits = load({**data, "unlabeled": [{"path": "more.jsonl"}, {"path": "train.jsonl"}, own, named]})
    assert splits.unlabeled is not None
    assert list(splits.unlabeled.privileged or ()) == ["", "", "clicked twice", "", "in a cart", "", "seen"]
    assert list(splits.transfer.for_teacher.texts)[-2:] == ["three", "three seen"]
    assert "4 of 7 unlabeled rows" in splits.notes[-1]
    gone = {**own, "columns": own["columns"] | {"privileged": "clicks"}}
    with pytest.raises(DataError, match=r"own\.jsonl has no column 'clicks' \(data\.unlabeled\.columns\.privileged\)"):
        load({**data, "unlabeled": gone})


def test_measured_rows_need_the_column_that_they_inherit(load: Load, data: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", [("one", "shoe"), ("two", "lamp")], ["title", "kind"])
    with pytest.raises(DataError, match=r"test\.jsonl has no column 'clicks' .*; it has 'title', 'kind'"):
        load(data)


def test_a_list_is_no_text_there_either(load: Load, data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"title": "a", "clicks": [1], "kind": "shoe"}\n')
    with pytest.raises(DataError, match=r"train\.jsonl:1 has a list in column 'clicks'"):
        load(data)


def test_a_second_text_that_only_some_rows_have(load: Load, data: dict[str, Any]) -> None:
    data["train"]["columns"] = SECRET | {"privileged_pair": "clicks"}
    with pytest.raises(RecipeError, match=r"privileged_pair comes after a second text, but rows have one text"):
        load(data)


# ---------------------------------------------------------------- rows made from the training rows


def made_of(train: Examples, section: Transfer, *, grouped: bool = False) -> Examples:
    empty = train.take([])
    splits = Splits(train, empty, empty, None, ("0", "1"), "")
    return make_transfer(section, splits, 7, grouped=grouped)[0]


def test_made_texts_keep_the_privileged_text_of_their_row() -> None:
    train = Examples(["0", "1"], ["shoe " * 5 + "red", "lamp " * 5 + "old"], privileged=["of shoes", "of lamps"])
    made = made_of(train, Transfer(variants=20))
    assert len(made) == 20
    assert list(made_of(replace(train, privileged=None), Transfer(variants=20)).texts) == list(made.texts)
    for text, clicks in zip(made.texts, made.privileged or (), strict=True):
        words = text.split()
        assert clicks == ("of shoes" if words.count("shoe") > words.count("lamp") else "of lamps")


def test_made_pairs_keep_the_privileged_text_of_each_side() -> None:
    queries, titles = [f"query {n} word{n % 3}" for n in range(12)], [f"title {n} word{n % 3}" for n in range(12)]
    train = Examples(
        ids=list(map(str, range(12))),
        texts=queries,
        pairs=titles,
        privileged=[f"about {text}" for text in queries],
        privileged_pairs=[f"about {text}" for text in titles],
        groups=queries,
    )
    made = made_of(train, Transfer(random_pairs=10, hard_pairs=10))
    assert len(made) == 20
    assert list(made.privileged or ()) == [f"about {text}" for text in made.texts]
    assert made.pairs is not None
    assert list(made.privileged_pairs or ()) == [f"about {text}" for text in made.pairs]
    varied = made_of(train, Transfer(variants=10), grouped=True)
    assert list(varied.privileged or ()) == [f"about {text}" for text in varied.texts]
    assert varied.privileged_pairs is not None
    assert set(varied.privileged_pairs) <= set(train.privileged_pairs or ())

"""Labels, overlap between splits, fingerprint and notes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.batch import Splits
from compress.errors import DataError, RecipeError

Load = Callable[..., Splits]
OTHERS = {"validation": {"path": "validation.csv"}, "test": {"path": "test.csv"}}
PAIRS = {"kind": "pairs"}


def test_unseen_labels(load: Load, shop: Path) -> None:
    with (shop / "test.csv").open("a") as stream:
        stream.write("a hat,hat\nanother hat,hat\na bag,bag\n")
    data = {"train": {"path": "train.csv"}, **OTHERS}
    with pytest.raises(DataError, match=r"3 test rows have 2 labels") as raised:
        load(data)
    for part in ("'hat' (2 rows, first at ", "test.csv:4)", "'bag' (1 row, ", "task.unseen_labels: wrong"):
        assert part in str(raised.value)
    splits = load(data, {"unseen_labels": "wrong"})
    assert splits.labels == ("lamp", "shoe")
    assert splits.test.labels is not None
    assert splits.test.labels.tolist() == [1, 0, -1, -1, -1]
    assert any("3 of 5 test rows" in note and "wrongly" in note for note in splits.notes)


def pair_rows(path: Path, rows: list[tuple[str, str, str]]) -> None:
    path.write_text("".join(json.dumps({"q": q, "t": t, "y": y}) + "\n" for q, t, y in rows))


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, Any]:
    """A pairs data section in which two training rows and one validation row leak from test."""
    pair_rows(tmp_path / "test.jsonl", [("a", "b", "1"), ("a", "c", "0")])
    pair_rows(tmp_path / "valid.jsonl", [("a", "c", "0"), ("v", "v", "1"), ("v", "w", "0")])
    train = [
        ("a", "b", "1"),
        ("a", "b", "1"),
        ("b", "a", "0"),
        ("v", "v", "1"),
        ("x", "b", "1"),
        ("y", "c", "0"),
    ]
    pair_rows(tmp_path / "train.jsonl", train)
    columns = {"text": "q", "text_pair": "t", "label": "y"}
    return {
        "train": {"path": "train.jsonl", "columns": columns},
        "validation": {"path": "valid.jsonl"},
        "test": {"path": "test.jsonl"},
    }


def test_overlap_is_counted(load: Load, pairs: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    splits = load(pairs, PAIRS)
    assert len(splits.train) == 6
    assert splits.notes[0].startswith("2 of 6 training rows have texts that also stand in the test split")
    assert splits.notes[1].startswith("1 of 3 validation rows")
    assert "2 of 6 training rows" in " ".join(capfd.readouterr().err.split())


def test_a_transfer_set_that_holds_the_test_rows(load: Load, pairs: dict[str, Any]) -> None:
    """Counted or dropped like labelled rows: the student would imitate the teacher on what it is measured on."""
    data = {**pairs, "unlabeled": [{"path": "test.jsonl"}, {"path": "valid.jsonl"}, {"path": "train.jsonl"}]}
    notes = " ".join(load(data, PAIRS).notes)
    # the second test row also stands in validation, and the training file repeats rows of both
    assert "5 of 11 unlabeled rows have texts that also stand in the test split" in notes
    assert "5 of 11 unlabeled rows have texts that also stand in the validation split" in notes
    dropped = load({**data, "overlap": "drop"}, PAIRS)
    assert dropped.unlabeled is not None
    held = {*zip(dropped.test.texts, dropped.test.pairs or [], strict=True)}
    held |= {*zip(dropped.validation.texts, dropped.validation.pairs or [], strict=True)}
    assert not held & {*zip(dropped.unlabeled.texts, dropped.unlabeled.pairs or [], strict=True)}


def test_training_rows_in_validation_are_counted(load: Load, pairs: dict[str, Any]) -> None:
    assert "1 of 6 training rows have texts that also stand in the validation split" in " ".join(
        load(pairs, PAIRS).notes
    )


def test_overlap_is_dropped(load: Load, pairs: dict[str, Any]) -> None:
    splits = load({**pairs, "overlap": "drop"}, PAIRS)
    assert list(splits.train.texts) == ["b", "x", "y"]
    assert list(splits.validation.texts) == ["v", "v"]
    assert len(splits.test) == 2
    assert [note.split(" were")[0] for note in splits.notes] == [
        "2 training rows",
        "1 validation rows",
        "1 training rows",
    ]


def test_dropping_everything_is_an_error(load: Load, shop: Path) -> None:
    same = {"path": "train.csv"}
    for validation in ({"path": "validation.csv"}, {"fraction": 0.1}):
        with pytest.raises(DataError, match=r"drop leaves no row .*data\.train"):
            load({"train": same, "validation": validation, "test": same, "overlap": "drop"})
    with pytest.raises(DataError, match=r"drop leaves no row .*data\.validation"):
        load(
            {
                "train": same,
                "validation": {"path": "test.csv"},
                "test": {"path": "test.csv"},
                "overlap": "drop",
            }
        )


def test_pairs_need_their_columns_and_positive(load: Load, pairs: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.train\.columns\.text_pair is not given"):
        load({**pairs, "train": {"path": "train.jsonl", "columns": {"text": "q", "label": "y"}}}, PAIRS)
    with pytest.raises(RecipeError, match=r"data\.unlabeled\.columns\.text_pair is not given"):
        load({**pairs, "unlabeled": {"path": "test.jsonl", "columns": {"text": "q"}}}, PAIRS)
    with pytest.raises(RecipeError, match=r"task\.positive is 'yes', but the labels are '0', '1'"):
        load(pairs, {**PAIRS, "positive": "yes"})
    splits = load({**pairs, "unlabeled": {"path": "test.jsonl"}}, PAIRS)
    assert splits.unlabeled is not None
    assert list(splits.unlabeled.pairs or []) == ["b", "c"]
    assert splits.unlabeled.labels is None


def _labelled(tmp_path: Path, pairs: dict[str, Any], name: str, labels: str) -> dict[str, Any]:
    pair_rows(tmp_path / "one.jsonl", [(f"q{n}", f"t{n}", label) for n, label in enumerate(labels)])
    return {**pairs, name: {"path": "one.jsonl"}}


@pytest.mark.parametrize(
    ("name", "labels", "metric", "message"),
    [
        ("validation", "000", None, "none of the 3 validation rows have the label '1', .* f1 cannot be measured"),
        ("test", "000", None, r"none of the 3 test rows have the label '1', .* give data\.test rows of both labels"),
        ("validation", "11", None, "all of the 2 validation rows have the label '1', .* no threshold can be chosen"),
        ("test", "111", "auc", "all of the 3 test rows have the label '1', .* auc cannot be measured"),
        ("validation", "000", "auc", "none of the 3 validation rows have the label '1', .* auc cannot be measured"),
    ],
)
def test_rows_of_one_side_that_cannot_measure_are_refused(
    load: Load, tmp_path: Path, pairs: dict[str, Any], name: str, labels: str, metric: str | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(_labelled(tmp_path, pairs, name, labels), PAIRS | {"metric": metric})


@pytest.mark.parametrize(
    ("name", "labels", "metric"),
    [("test", "111", None), ("validation", "000", "accuracy"), ("test", "000", "macro_f1"), ("test", "1", None)],
)
def test_rows_of_one_side_that_can_measure_something_are_noted(
    load: Load, tmp_path: Path, pairs: dict[str, Any], name: str, labels: str, metric: str | None
) -> None:
    splits = load(_labelled(tmp_path, pairs, name, labels), PAIRS | {"metric": metric})
    said = [note for note in splits.notes if "say nothing" in note]
    rows = f"{'all' if '1' in labels else 'none'} of the {len(labels)} {name} rows"
    assert said == [f"{rows} have the label '1': figures on them say nothing of how well labels are told apart"]


def test_a_class_alone_is_noted(load: Load, shop: Path) -> None:
    """Several labels have no threshold, and every measure is defined."""
    (shop / "test.csv").write_text("text,label\none,shoe\ntwo,shoe\n")
    paths = {name: {"path": f"{name}.csv"} for name in ("train", "validation", "test")}
    assert load(paths).notes == (
        "all 2 test rows have the label 'shoe': figures on them say nothing of how well labels are told apart",
    )
    (shop / "train.csv").write_text("text,label\na,shoe\nb,shoe\n")
    with pytest.raises(DataError, match=r"all 2 training rows have the label 'shoe' .*needs two labels"):
        load(paths)


def test_fingerprint_sees_every_column(load: Load, shop: Path) -> None:
    columns = {"text": "text", "label": "label", "weight": "w", "group": "g"}
    data = {"train": {"path": "t.csv", "columns": columns}, **OTHERS, "unlabeled": {"path": "u.csv"}}
    (shop / "u.csv").write_text("text\nfree\n")
    base = "text,label,w,g\na,shoe,1,1\nb,lamp,1,2\n"
    seen = set()
    for text in (
        base,
        base.replace("a,", "A,"),
        base.replace("lamp,1", "lamp,2"),
        base.replace("1,2", "1,3"),
    ):
        (shop / "t.csv").write_text(text)
        seen.add(load(data).fingerprint)
    (shop / "u.csv").write_text("text\nfreed\n")
    seen.add(load(data).fingerprint)
    assert len(seen) == 5


# ---------------------------------------------------------------- real data

MATCHING = {
    "path": "train.txt",
    "format": "tsv",
    "header": False,
    "quoting": "none",
    "columns": {"text": 0, "text_pair": 1, "label": 2},
}


@pytest.mark.parametrize(
    ("name", "sizes", "shared_keys"),
    [("abt_buy", (5743, 1916, 1916), 19), ("amazon_google", (6874, 2293, 2293), 110)],
)
def test_matching_files(
    load: Load, shared_data: Path, name: str, sizes: tuple[int, int, int], shared_keys: int
) -> None:
    data = {"train": MATCHING, "validation": {"path": "valid.txt"}, "test": {"path": "test.txt"}}
    splits = load({"root": str(shared_data / name), **data}, PAIRS)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == sizes
    train, test = (set(zip(part.texts, part.pairs or [], strict=True)) for part in (splits.train, splits.test))
    assert len(train & test) == shared_keys
    leaked = sum(key in test for key in zip(splits.train.texts, splits.train.pairs or [], strict=True))
    assert splits.notes[0].startswith(f"{leaked} of {sizes[0]:,} training rows")


def test_mwpd_members(load: Load, shared_data: Path) -> None:
    folder = shared_data / "mwpd2020_classification"
    data = {
        "root": str(folder),
        "train": {
            "path": "zip://train.json::task2_train_val_with_labels.zip",
            "columns": {"id": "ID", "text": ["Name", "Description"], "label": "lvl3"},
        },
        "validation": {"path": "zip://validation.json::task2_train_val_with_labels.zip"},
        "test": {"path": "zip://task2_testset_with_labels.json::task2_testset_with_labels.zip"},
    }
    with pytest.raises(DataError, match=r"3 test rows have 2 labels that training never shows"):
        load(data)
    splits = load(data, {"unseen_labels": "wrong"})
    assert (len(splits.train), len(splits.validation), len(splits.test), len(splits.labels)) == (
        10012,
        3000,
        3107,
        281,
    )
    with zipfile.ZipFile(folder / "task2_train_val_with_labels.zip") as archive:
        first = json.loads(archive.read("train.json").splitlines()[0])
    assert splits.train.ids[0] == str(first["ID"])
    assert splits.train.texts[0].startswith(first["Name"].strip())


def test_qbqtc_leak(load: Load, shared_data: Path) -> None:
    columns = {"id": "id", "text": "query", "text_pair": "title", "label": "label"}
    data = {"train": {"path": "dev.json", "columns": columns}, "test": {"path": "test_public.json"}}
    splits = load({"root": str(shared_data / "qbqtc"), **data, "overlap": "drop"}, PAIRS)
    assert splits.notes[0].startswith("1,161 training rows were dropped")
    repeated = int(splits.notes[1].split()[0])
    assert len(splits.train) + len(splits.validation) + repeated == 18839
    assert (len(splits.validation), len(splits.test), splits.labels) == (1884, 5000, ("0", "1", "2"))


def test_pricerunner_clusters(load: Load, shared_data: Path) -> None:
    columns = {"id": "product_id", "text": "product_title", "label": "category_label", "group": "cluster_id"}
    source = {"path": "pricerunner_aggregate.csv", "columns": columns}
    splits = load({"root": str(shared_data / "pricerunner"), "train": source})
    sizes = [len(part) for part in (splits.train, splits.validation, splits.test)]
    assert sum(sizes) == 35311
    assert sizes[1:] == pytest.approx([3531, 3531], abs=5)
    assert len(splits.labels) == 10
    assert splits.train.groups is not None
    assert splits.test.groups is not None
    assert not set(splits.train.groups) & set(splits.test.groups)

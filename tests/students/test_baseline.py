"""The classic model learns what it can, repeats itself, and reads scripts without spaces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compress.batch import Examples, Splits
from compress.errors import DataError
from compress.recipe import ClassificationTask, PairsTask, RankingTask, RegressionTask
from compress.students.baseline import FILE, fit_baseline
from compress.students.text_features import PairFeatures, is_cjk, tokens

CLASSES = {
    "shoes": ["sneaker", "boot", "sole"],
    "phones": ["sim", "screen", "android"],
    "books": ["novel", "page"],
}


def examples(rows: list[tuple[str, ...]], names: tuple[str, ...]) -> Examples:
    """Rows of text, maybe a second text, and a label."""
    return Examples(
        ids=[str(number) for number in range(len(rows))],
        texts=[row[0] for row in rows],
        pairs=[row[1] for row in rows] if len(rows[0]) == 3 else None,
        labels=np.array([names.index(row[-1]) for row in rows]),
    )


def titles(count: int, seed: int) -> list[tuple[str, ...]]:
    """Titles that a linear model can tell apart."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = str(draw.choice(list(CLASSES)))
        rows.append((f"item {draw.integers(99)} {draw.choice(CLASSES[label])} new", label))
    return rows


def offers(count: int, seed: int) -> list[tuple[str, ...]]:
    """Pairs that match exactly when the model numbers do."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        number, match = int(draw.integers(100, 999)), bool(draw.integers(2))
        other = number if match else number + 1
        rows.append((f"acme drill {number} blue", f"drill x{draw.integers(9)} {other} by acme", str(int(match))))
    return rows


def splits(make: object, names: tuple[str, ...]) -> Splits:
    """Three splits of one kind of rows."""
    train, validation, test = (examples(make(n, seed), names) for seed, n in enumerate((400, 100, 100)))  # type: ignore[operator]
    return Splits(train, validation, test, None, names, "f" * 64)


def test_classification_learns_and_writes_what_it_returns(tmp_path: Path) -> None:
    task = ClassificationTask(kind="classification")
    found = fit_baseline(splits(titles, tuple(CLASSES)), task, 7, tmp_path)
    assert found["test"]["macro_f1"] > 0.95
    assert found["threshold"] is None
    assert "word 1-2 grams" in found["description"]
    assert json.loads((tmp_path / FILE).read_text()) == found


def test_pairs_learn_that_the_number_decides_and_repeat_themselves(tmp_path: Path) -> None:
    data, task = splits(offers, ("0", "1")), PairsTask(kind="pairs")
    first, second = (fit_baseline(data, task, 7, tmp_path) for _ in range(2))
    assert first["test"]["f1"] > 0.95
    assert 0 < first["threshold"] < 1
    assert first["test"] == second["test"]


def test_pairs_of_three_grades_have_no_threshold(tmp_path: Path) -> None:
    graded = [(f"query {n}", f"title {n + n % 3}", str(n % 3)) for n in range(90)]
    rows = examples(graded, ("0", "1", "2"))
    found = fit_baseline(Splits(rows, rows, rows, None, ("0", "1", "2"), "f"), PairsTask(kind="pairs"), 7, tmp_path)
    assert found["threshold"] is None
    assert set(found["test"]) == {"accuracy", "macro_f1", "weighted_f1"}


def test_unseen_test_labels_count_as_wrong(tmp_path: Path) -> None:
    names = tuple(CLASSES)
    data = splits(titles, names)
    assert data.test.labels is not None
    data.test.labels[:50] = -1
    found = fit_baseline(data, ClassificationTask(kind="classification"), 7, tmp_path)
    assert found["test"]["accuracy"] <= 0.5


def test_chinese_is_read_by_characters(tmp_path: Path) -> None:
    assert is_cjk(["红色手机壳", "蓝牙耳机 5.0"])
    assert not is_cjk(["red phone case", "écouteurs bluetooth"])
    assert tokens("红色 iPhone15壳 5.0") == ["红", "色", "iphone15", "壳", "5", "0"]
    rows = examples([("手机屏幕" + "好" * (n % 4), "a") for n in range(20)] + [("新鲜水果", "b")] * 20, ("a", "b"))
    data = Splits(rows, rows, rows, None, ("a", "b"), "f")
    found = fit_baseline(data, ClassificationTask(kind="classification"), 7, tmp_path)
    assert "character" in found["description"]
    assert found["test"]["accuracy"] == 1


def test_features_are_finite_for_empty_texts() -> None:
    features = PairFeatures.fit(["red shoe 42", "blue shoe"])
    found = features.table(["", "red shoe 42", "!!!"], ["blue shoe", "", "???"])
    assert found.shape == (3, 18)
    assert np.isfinite(found).all()


def test_rows_without_labels_are_refused(tmp_path: Path) -> None:
    data = splits(titles, tuple(CLASSES))
    bare = Examples(ids=["0"], texts=["item"])
    with pytest.raises(DataError, match=r"test rows have no labels.*data\.test"):
        fit_baseline(
            Splits(data.train, data.validation, bare, None, data.labels, "f"),
            ClassificationTask(kind="classification"),
            7,
            tmp_path,
        )


@pytest.mark.long
def test_amazon_google_reaches_the_published_floor(shared_data: Path, tmp_path: Path) -> None:
    parts = []
    for name in ("train", "valid", "test"):
        lines = (shared_data / "amazon_google" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        parts.append(examples([tuple(line.split("\t")) for line in lines], ("0", "1")))
    found = fit_baseline(Splits(*parts, None, ("0", "1"), "f"), PairsTask(kind="pairs"), 7, tmp_path)
    assert found["test"]["f1"] > 0.60


# ---------------------------------------------------------------- numbers


def graded(count: int, seed: int) -> Examples:
    """Groups of four offers; the grade says whether number and colour are those of the query."""
    draw = np.random.default_rng(seed)
    texts, pairs, grades, groups = [], [], [], []
    for group in range(count):
        number = int(draw.integers(100, 999))
        for grade, other in enumerate((f"{number + 1} red", f"{number + 1} blue", f"{number} red", f"{number} blue")):
            texts.append(f"acme drill {number} blue")
            pairs.append(f"drill x{draw.integers(9)} {other} by acme")
            grades.append(float(grade))
            groups.append(f"{seed}-{group}")
    ids = [f"{seed}-{i}" for i in draw.permutation(len(texts))]
    return Examples(ids, texts, pairs, np.array(grades), groups)


def test_ranking_boosts_overlap_features_against_the_grades(tmp_path: Path) -> None:
    data = Splits(*(graded(n, seed) for seed, n in enumerate((80, 20, 20))), None, ("score",), "f")
    found = fit_baseline(data, RankingTask(kind="ranking", metric="ndcg@3"), 7, tmp_path)
    assert found["description"] == "gradient boosting on 18 overlap features, against the grades"
    assert found["test"].keys() == {"ndcg@3", "mrr@3", "map", "recall@3"}
    assert found["test"]["ndcg@3"] > 0.95
    assert found["threshold"] is None


@pytest.mark.parametrize("two", [False, True])
def test_regression_adds_up_words(tmp_path: Path, two: bool) -> None:
    """The price is in the first text, a surcharge in the second, which counts only where it is read."""
    draw = np.random.default_rng(1)
    worth = {"kettle": 20.0, "drill": 50.0, "sofa": 90.0}
    extra = {"gift box": 10.0, "plain": 0.0}

    def rows(count: int) -> Examples:
        things, boxes = draw.choice(list(worth), count), draw.choice(list(extra), count)
        labels = np.array([worth[t] + extra[b] for t, b in zip(things, boxes, strict=True)])
        texts = [f"{thing} number {draw.integers(9)}" for thing in things]
        return Examples([str(i) for i in range(count)], texts, list(boxes) if two else None, labels)

    data = Splits(rows(300), rows(50), rows(50), None, ("score",), "f")
    found = fit_baseline(data, RegressionTask(kind="regression"), 7, tmp_path)
    assert found["description"] == "TF-IDF of word 1-2 grams and ridge regression"
    assert found["test"].keys() == {"rmse", "mae", "spearman"}
    assert (found["test"]["rmse"] < 3) == two
    assert found["test"]["rmse"] < 7

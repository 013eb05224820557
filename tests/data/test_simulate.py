"""The simulated shop: repeatable, exactly labelled, without leaks, harder than counting words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compress.batch import Examples, Splits
from compress.data import shop_words
from compress.data.shop import Product, Query, Speech, grade, misspell, stream
from compress.data.simulate import simulate
from compress.errors import DataError, RecipeError
from compress.recipe import ClassificationTask, PairsTask, RankingTask, RegressionTask, SimulatedShop
from compress.students.baseline import fit_baseline

PAIRS = PairsTask(kind="pairs")
CLASSES = ClassificationTask(kind="classification")
RANKING = RankingTask(kind="ranking")
SOFA = Product("sofa", "Hemsta", "Nova", "A1", 1.0, "red", "velvet", "200", None)


def shop(**sizes: int) -> SimulatedShop:
    """A small shop."""
    wanted = {"products": 1000, "train": 800, "validation": 200, "test": 200, "unlabeled": 100} | sizes
    return SimulatedShop(kind="simulated-shop", **wanted)  # type: ignore[arg-type]


def parts(splits: Splits) -> list[Examples]:
    """All splits."""
    assert splits.unlabeled is not None
    return [splits.train, splits.validation, splits.test, splits.unlabeled]


def test_same_seed_same_shop_also_in_another_process() -> None:
    code = (
        "from compress.data.simulate import simulate; from compress.recipe import *; "
        "print(simulate(SimulatedShop(kind='simulated-shop', products=1000, train=800, validation=200, test=200, "
        "unlabeled=100), PairsTask(kind='pairs'), 3).fingerprint)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = simulate(shop(), PAIRS, 3)
    assert run.stdout.strip() == here.fingerprint
    assert simulate(shop(), PAIRS, 4).fingerprint != here.fingerprint
    assert simulate(shop(), CLASSES, 3).fingerprint != here.fingerprint


def test_pairs_have_the_sizes_asked_for_and_a_realistic_balance() -> None:
    made = simulate(shop(), PAIRS, 7)
    assert [len(rows) for rows in parts(made)] == [800, 200, 200, 100]
    assert made.labels == ("0", "1")
    assert made.unlabeled is not None
    assert made.unlabeled.labels is None
    for rows in parts(made)[:3]:
        assert rows.labels is not None
        assert 0.25 < rows.labels.mean() < 0.45


def test_no_query_and_no_title_stands_in_two_splits_and_no_pair_twice() -> None:
    rows = parts(simulate(shop(), PAIRS, 7))
    for column in ("texts", "pairs"):
        sets = [set(getattr(split, column)) for split in rows]
        assert sum(map(len, sets)) == len(set().union(*sets))
    both = [pair for split in rows for pair in zip(split.texts, split.pairs or (), strict=True)]
    assert len(both) == len(set(both))


def test_classification_shows_every_class_in_training_and_no_title_twice() -> None:
    made = simulate(shop(train=50, validation=20, test=20), CLASSES, 7)
    assert made.train.labels is not None
    assert set(made.train.labels.tolist()) == set(range(len(made.labels)))
    assert made.train.pairs is None
    texts = [text for rows in parts(made) for text in rows.texts]
    assert len(texts) == len(set(texts))


def test_queries_to_rank_have_graded_titles() -> None:
    made = simulate(shop(), RANKING, 7)
    assert made.labels == ("score",)
    assert [len(rows) for rows in parts(made)] == [800, 200, 200, 100]
    for rows in parts(made):
        assert list(rows.groups or ()) == list(rows.texts)
        assert rows.group_codes is not None
        assert np.bincount(rows.group_codes).min() >= 7
    for rows in parts(made)[:3]:
        assert rows.labels is not None
        assert set(rows.labels.tolist()) == {0.0, 1.0, 2.0, 3.0}
        best = [rows.labels[rows.group_codes == group].max() for group in np.unique(rows.group_codes)]
        assert min(best) == 3.0
    queries = [set(rows.texts) for rows in parts(made)]
    assert sum(map(len, queries)) == len(set().union(*queries))
    titles = [set(rows.pairs or ()) for rows in parts(made)]
    assert sum(map(len, titles)) == len(set().union(*titles))


def test_the_shop_has_no_numbers() -> None:
    with pytest.raises(
        RecipeError, match=r"no labels for task\.kind regression; it has classification, pairs, ranking"
    ):
        simulate(shop(), RegressionTask(kind="regression"), 7)


def test_the_smallest_shop_works() -> None:
    for task in (PAIRS, CLASSES, RANKING):
        made = simulate(shop(products=50, train=50, validation=20, test=20, unlabeled=0), task, 0)
        assert made.unlabeled is None
        assert len(made.test) == 20


def test_a_note_says_that_the_data_are_simulated() -> None:
    assert "simulated" in simulate(shop(), PAIRS, 7).notes[0]


def test_grades_follow_category_and_attributes() -> None:
    red_sofa = Query("crimson couch", frozenset({"sofa"}), {"colour": "red"})
    chair = Product("office chair", "Hemsta", "Nova", "A2", 1.0, "red", "mesh", None, None)
    kettle = Product("kettle", "Zenko", "Nova", "A3", 1.0, "red", "steel", "1", None)
    blue = Product("sofa", "Hemsta", "Nova", "A1", 1.0, "blue", "velvet", "200", None)
    assert [grade(red_sofa, product) for product in (SOFA, blue, chair, kettle)] == [3, 2, 1, 0]
    assert grade(Query("furniture", frozenset({"sofa", "office chair"})), chair) == 3


def test_some_wordings_occur_only_in_validation_or_only_in_test() -> None:
    nouns = next(category.nouns for category in shop_words.CATEGORIES if category.name == "sofa")
    rng = stream(1, "test")
    said = {
        split: {Speech(split, 7).say(nouns, rng) for _ in range(300)}
        for split in ("train", "validation", "test", "unlabeled")
    }
    assert said["unlabeled"] == set(nouns)
    assert "sofa" in said["train"]
    new = {split: said[split] - said["train"] for split in ("validation", "test")}
    assert all(new.values())
    assert not new["validation"] & new["test"]


def test_a_misspelt_word_is_still_nearly_the_same() -> None:
    rng = stream(1, "test")
    for _ in range(50):
        slip = misspell("couch 42", rng)
        assert slip.endswith(" 42")
        assert 4 <= len(slip.split()[0]) <= 6
    assert misspell("tv 42", rng) == "tv 42"


def test_tables_name_only_what_exists() -> None:
    names = {category.name for category in shop_words.CATEGORIES}
    assert len(names) == len(shop_words.CATEGORIES)
    for category in shop_words.CATEGORIES:
        assert set(category.near) <= names - {category.name}
        assert category.sizes is None or category.sizes in shop_words.SIZES
        assert set(category.materials) <= set(shop_words.MATERIALS)
        assert category.department in shop_words.BRANDS
    assert {name for members in shop_words.GROUPS.values() for name in members} <= names
    for table in (shop_words.COLOURS, shop_words.MATERIALS, shop_words.PEOPLE):
        wordings = [wording for values in table.values() for wording in values]
        assert len(wordings) == len(set(wordings))


def test_more_rows_than_there_are_texts_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.data.simulate.write_title", lambda *_, **__: "always the same")
    with pytest.raises(DataError, match=r"no more than 1 different rows for train.*data\.train"):
        simulate(shop(), CLASSES, 7)


@pytest.mark.long
def test_counting_words_is_not_enough(tmp_path: Path) -> None:
    made = simulate(shop(products=2000, train=4000, validation=1000, test=1000), PAIRS, 7)
    found = fit_baseline(made, PAIRS, 7, tmp_path)
    assert made.test.labels is not None
    always_yes = 2 * made.test.labels.mean() / (1 + made.test.labels.mean())
    assert np.round(always_yes, 2) < found["test"]["f1"] < 0.75

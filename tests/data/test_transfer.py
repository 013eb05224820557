"""Transfer sets made from the training rows: new, repeatable, and of the kind that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from compress.batch import Examples, Splits
from compress.data.transfer import make_transfer
from compress.recipe import Recipe, Transfer

Load = Callable[..., Splits]
NOUNS = ("shoe", "lamp", "chair", "knife", "radio", "glove")
QUERIES = [f"{colour} {noun}" for noun in NOUNS for colour in ("red", "blue")]
TITLES = [f"{noun} by maker {n} colour {colour}" for n, noun in enumerate(NOUNS) for colour in ("red", "blue")]


def rows(texts: list[str], pairs: list[str] | None = None) -> Examples:
    return Examples(
        ids=[str(n) for n in range(len(texts))], texts=texts, pairs=pairs, labels=np.zeros(len(texts), np.int64)
    )


def splits(train: Examples, test: Examples | None = None) -> Splits:
    empty = rows([], None if train.pairs is None else [])
    return Splits(train=train, validation=empty, test=test or empty, unlabeled=None, labels=("0", "1"), fingerprint="")


def test_variants_change_words_and_invent_none() -> None:
    made, notes = make_transfer(Transfer(variants=60), splits(rows(TITLES)), 7)
    assert notes == []
    assert made.pairs is None
    assert made.labels is None
    assert len(made) == len(set(made.texts)) == 60
    assert not set(made.texts) & set(TITLES)
    known = {word for title in TITLES for word in title.split()}
    assert {word for text in made.texts for word in text.split()} <= known


def test_a_pair_changes_on_one_side_or_both() -> None:
    made, _ = make_transfer(Transfer(variants=100), splits(rows(QUERIES, TITLES)), 7)
    changed = {(text in QUERIES, pair in TITLES) for text, pair in zip(made.texts, made.pairs or [], strict=True)}
    assert changed >= {(True, False), (False, True), (False, False)}


def test_text_without_spaces_is_varied_by_characters() -> None:
    made, _ = make_transfer(Transfer(variants=20), splits(rows(["红色连衣裙夏季新款", "蓝色运动鞋男士跑步"])), 7)
    assert all(" " not in text for text in made.texts)
    assert {len(text) for text in made.texts} != {9}


def test_pairings_are_new_and_hard_ones_share_words() -> None:
    data = splits(rows(QUERIES, TITLES))
    made, _ = make_transfer(Transfer(random_pairs=40, hard_pairs=40), data, 7)
    pairings = list(zip(made.texts, made.pairs or [], strict=True))
    assert len(set(pairings)) == 80
    assert not set(pairings) & set(zip(QUERIES, TITLES, strict=True))

    def shared(chosen: list[tuple[str, str]]) -> float:
        return float(np.mean([len(set(one.split()) & set(two.split())) for one, two in chosen]))

    assert shared(pairings[40:]) > shared(pairings[:40])


def test_hard_pairs_stop_where_the_neighbours_do() -> None:
    made, notes = make_transfer(Transfer(hard_pairs=500), splits(rows(QUERIES[:3], TITLES[:3])), 7)
    assert len(made) == 4  # seven pairings share a word, and three of them stand in training
    assert notes == ["data.transfer.hard_pairs asks for 500 rows, but the training rows give only 4"]


def test_rows_of_the_test_split_never_come() -> None:
    every = [(query, title) for query in QUERIES for title in TITLES]
    held = [pair for pair in every if pair[0] != QUERIES[0]]
    data = splits(rows(QUERIES, TITLES), rows([one for one, _ in held], [two for _, two in held]))
    made, _ = make_transfer(Transfer(random_pairs=50), data, 7)
    assert set(made.texts) == {QUERIES[0]}
    assert len(made) == len(TITLES) - 1


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), min_size=1, max_size=8))
def test_any_text_gives_repeatable_rows_that_are_not_empty(texts: list[str]) -> None:
    data = splits(rows(texts, texts[::-1]))
    section = Transfer(variants=5, random_pairs=3, hard_pairs=3)
    first, second = (make_transfer(section, data, 3)[0] for _ in range(2))
    assert (first.ids, first.texts, first.pairs) == (second.ids, second.texts, second.pairs)
    assert all(first.texts)
    assert first.pairs is not None
    assert all(first.pairs)


def test_they_follow_the_unlabeled_rows_and_change_the_fingerprint(load: Load, shop: Path) -> None:
    data: dict[str, Any] = {
        "train": {"path": "train.csv"},
        "validation": {"path": "validation.csv"},
        "test": {"path": "test.csv"},
        "unlabeled": {"path": "test.csv", "columns": {"label": None}},
    }
    plain = load(data)
    made = load({**data, "transfer": {"variants": 4}})
    assert plain.unlabeled is not None
    assert made.unlabeled is not None
    assert list(made.unlabeled.texts[:2]) == list(plain.unlabeled.texts)
    assert list(made.unlabeled.ids[2:]) == [f"variants-{n}" for n in range(4)]
    assert len(made.transfer) == len(made.train) + 6
    assert made.fingerprint != plain.fingerprint
    assert load({**data, "transfer": {"variants": 4}}, seed=8).unlabeled != made.unlabeled


def test_the_simulated_shop_takes_them_too(load: Load) -> None:
    data = {"kind": "simulated-shop", "products": 100, "train": 60, "validation": 20, "test": 20}
    made = load({**data, "transfer": {"hard_pairs": 30}}, {"kind": "pairs"})
    assert made.unlabeled is not None
    assert len(made.unlabeled) == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"kind": "simulated-shop", "transfer": {"hard_pairs": 1}}}, "need two texts"),
        ({"teacher": {"kind": "scores", "path": "s.csv"}}, "cannot answer new rows"),
    ],
)
def test_recipes_that_cannot_have_them(change: dict[str, Any], message: str) -> None:
    recipe = {
        "name": "test",
        "task": {"kind": "classification"},
        "data": {"kind": "simulated-shop", "transfer": {"variants": 1}},
        "teacher": {"model": "none"},
        "student": {"kind": "mobile", "init": "random", "vocabulary": {"train": 1000}},
    }
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate({**recipe, **change})


def test_rows_to_rank_stay_with_their_query() -> None:
    """Variants leave the query as it is, and every made row is of the group of its query."""
    train = rows(QUERIES, TITLES)
    queries = Examples(train.ids, train.texts, train.pairs, train.labels, groups=[f"id of {q}" for q in QUERIES])
    section = Transfer(variants=30, random_pairs=30, hard_pairs=10)
    made, _ = make_transfer(section, splits(queries), 7, grouped=True)
    assert len(made) == 70
    assert set(made.texts) <= set(QUERIES)
    assert list(made.groups or ()) == [f"id of {query}" for query in made.texts]
    changed = made.take(range(30))
    assert changed.pairs is not None
    assert not set(changed.pairs) & set(TITLES)

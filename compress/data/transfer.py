"""A transfer set made from the training rows: new texts and pairings of which only the teacher's opinion is used.

Variants of texts after Tang et al. 2019 (https://arxiv.org/abs/1903.12136): words dropped or replaced, and stretches
of words. Pairings give two texts of different rows to the teacher: drawn at random, or alike in their words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator, Mapping, Sequence

import numpy as np

from compress.batch import Examples, Splits
from compress.data.overlap import Known
from compress.data.shop import stream
from compress.recipe import Transfer
from compress.texts import Joined, Picked

STRETCH, DROP, REPLACE = 0.25, 0.1, 0.1
"""Chances: that only a stretch of the words is kept; for each word, to be dropped, and to be replaced."""
TRIES = 20
"""Draws for each row asked for, before there are held to be no more."""
NEIGHBOURS = 10
"""Second texts that are most like a first text, of which one is taken."""
CHUNK = 64

Key = tuple[str, str | None]
"""A row's first text, and its second text if it has one."""
Origins = tuple[int, int]
"""The training rows that a new row's first and second text were made from."""
Made = tuple[Key, int, int]
"""A new row, and its origins."""


def make_transfer(section: Transfer, splits: Splits, seed: int, *, grouped: bool = False) -> tuple[Examples, list[str]]:
    """Rows without labels, none of which stands in a split already; the same seed gives the same rows.

    grouped: first texts are queries, which variants leave as they are; each row is of the group of its query.

    Returns:
        the rows, and a note for each kind of which fewer than asked for could be made.
    """
    makers: list[tuple[str, int, Callable[[Examples, random.Random], Iterator[Made]]]] = [
        ("variants", section.variants, _document_variants if grouped else _variants),
        ("random_pairs", section.random_pairs, _random_pairs),
        ("hard_pairs", section.hard_pairs, _hard_pairs),
    ]
    given = [splits.train, splits.validation, splits.test, *([splits.unlabeled] if splits.unlabeled else [])]
    taken = Known(*given)
    made: dict[Key, Origins] = {}
    ids: list[str] = []
    notes: list[str] = []
    for kind, wanted, maker in makers:
        if not wanted:
            continue
        found = _fresh(maker(splits.train, stream(seed, f"transfer {kind}")), wanted, taken, made)
        if len(found) < wanted:
            notes.append(
                f"data.transfer.{kind} asks for {wanted:,} rows, but the training rows give only {len(found):,}"
            )
        made |= found
        ids += [f"{kind}-{number}" for number in range(len(found))]
    return _examples(splits.train, made, ids, grouped=grouped), notes


def _examples(train: Examples, made: Mapping[Key, Origins], ids: Sequence[str], *, grouped: bool) -> Examples:
    """New rows, with the privileged texts of the rows that they were made from."""
    texts = [text for text, _ in made]
    origins = np.array(list(made.values()), np.int64).reshape(-1, 2)
    return Examples(
        ids=ids,
        texts=texts,
        pairs=None if train.pairs is None else [str(pair) for _, pair in made],
        groups=_groups_of(train, texts) if grouped else None,
        privileged=None if train.privileged is None else Picked(train.privileged, origins[:, 0]),
        privileged_pairs=None if train.privileged_pairs is None else Picked(train.privileged_pairs, origins[:, 1]),
    )


def _groups_of(rows: Examples, queries: Sequence[str]) -> list[str]:
    group_of = dict(zip(rows.texts, rows.groups or [], strict=True))
    return [group_of[query] for query in queries]


def _fresh(drawn: Iterator[Made], wanted: int, taken: Known, made: Container[Key]) -> dict[Key, Origins]:
    """The first `wanted` different rows that are neither taken nor made yet."""
    found: dict[Key, Origins] = {}
    for tries, (key, first, second) in enumerate(drawn):
        if len(found) == wanted or tries == TRIES * wanted:
            break
        if key not in found and key not in made and key not in taken:
            found[key] = (first, second)
    return found


# ---------------------------------------------------------------- variants


def _variants(rows: Examples, rng: random.Random) -> Iterator[Made]:
    """Training rows with changed words; of two texts, one or both are changed."""
    texts = rows.texts if rows.pairs is None else Joined(rows.texts, rows.pairs)
    while True:
        row = rng.randrange(len(rows))
        first = rows.texts[row]
        if rows.pairs is None:
            yield (_vary(first, texts, rng), None), row, row
            continue
        second, which = rows.pairs[row], rng.randrange(3)
        varied = (
            first if which == 0 else _vary(first, texts, rng),
            second if which == 1 else _vary(second, texts, rng),
        )
        yield varied, row, row


def _document_variants(rows: Examples, rng: random.Random) -> Iterator[Made]:
    """Training rows with changed words in the second text: a changed query would have no other documents."""
    while True:
        row = rng.randrange(len(rows))
        yield (rows.texts[row], _vary((rows.pairs or [])[row], rows.pairs or [], rng)), row, row


def _vary(text: str, texts: Sequence[str], rng: random.Random) -> str:
    parts, glue = _parts(text)
    if len(parts) > 2 and rng.random() < STRETCH:
        size = rng.randrange(2, len(parts))
        start = rng.randrange(len(parts) - size + 1)
        parts = parts[start : start + size]
    kept = []
    for part in parts:
        chance = rng.random()
        if chance < DROP:
            continue
        kept.append(rng.choice(_parts(rng.choice(texts))[0]) if chance < DROP + REPLACE else part)
    return glue.join(kept) or text


def _parts(text: str) -> tuple[list[str], str]:
    """Words, or characters where nothing is spaced; and what joins them again."""
    words = text.split()
    return (words, " ") if len(words) > 1 else (list(text.strip()), "")


# ---------------------------------------------------------------- pairings


def _random_pairs(rows: Examples, rng: random.Random) -> Iterator[Made]:
    """A first text with the second text of any row."""
    pairs = rows.pairs or []
    while True:
        first, second = rng.randrange(len(rows)), rng.randrange(len(rows))
        yield (rows.texts[first], pairs[second]), first, second


def _hard_pairs(rows: Examples, rng: random.Random) -> Iterator[Made]:
    """A first text with one of the second texts that share most of its rare words (cosine of TF-IDF)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    row_of = [{text: row for row, text in enumerate(texts)} for texts in (rows.texts, rows.pairs or [])]
    firsts, seconds = (sorted(rows_of_text) for rows_of_text in row_of)
    vectorizer = TfidfVectorizer(tokenizer=lambda text: _parts(text)[0], token_pattern=None, sublinear_tf=True)
    right = vectorizer.fit(firsts + seconds).transform(seconds).T.tocsr()
    for _ in range(NEIGHBOURS * TRIES):  # a first text has no more neighbours than that
        rng.shuffle(firsts)
        for start in range(0, len(firsts), CHUNK):
            chunk = firsts[start : start + CHUNK]
            alike = (vectorizer.transform(chunk) @ right).tocsr()  # most share no word: sparse, however many there are
            for number, first in enumerate(chunk):
                row = alike[number]
                if row.nnz:
                    nearest = row.indices[np.lexsort((row.indices, -row.data))[:NEIGHBOURS]]
                    second = seconds[int(rng.choice(nearest.tolist()))]
                    yield (first, second), row_of[0][first], row_of[1][second]

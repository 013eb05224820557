"""Simulated shop data: seeded, free of downloads, exactly labelled; not real, and said to be so."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from compress.batch import Examples, Labels, Splits
from compress.data.shop import (
    BY_NAME,
    Product,
    Query,
    Speech,
    grade,
    make_product,
    other_value,
    stream,
    variant,
    write_query,
    write_title,
)
from compress.errors import DataError, RecipeError
from compress.recipe import SimulatedShop, Task

NOTE = (
    "The data are simulated: products, titles and queries come from kdc's built-in shop, not from a real one, so the "
    "figures say how the method works and nothing about a real catalogue."
)
MOST_CATEGORIES = 50
PRODUCTS_PER_CATEGORY = 10
POSITIVE_SHARE = 0.35
NOUN_IN_TITLE, NOUN_IN_CLASSIFIED_TITLE = 0.75, 0.3
TRIES = 200

GROUP_ROWS = 8
"""Documents of a query, about."""
EXACT_SHARE = 0.2
"""Share of a query's documents, besides the first, that are exactly what was asked for."""

Row = tuple[str, str | None, int]
"""First text, second text, class index or grade."""


@dataclass(frozen=True)
class Shelf:
    """The products of one split, and how it speaks."""

    speech: Speech
    categories: tuple[str, ...]
    products: dict[str, list[Product]]
    rng: random.Random

    def draw(self, category: str | None = None) -> Product:
        """A product by popularity, of one category or of any."""
        name = category or self.rng.choices(self.categories, [1 / (r + 12) for r in range(len(self.categories))])[0]
        pool = self.products[name]
        return self.rng.choices(pool, [product.popularity for product in pool])[0]


def simulate(data: SimulatedShop, task: Task, seed: int) -> Splits:
    """Make the splits of a simulated shop; equal arguments give equal splits on every machine.

    Pairs: query and product title, label `1` where the product is exactly what was asked for, else `0`.
    Ranking: the same, about GROUP_ROWS titles to a query, with grades 3 (exact), 2 (an attribute differs), 1 (an
    accessory or a neighbour) and 0. Classification: title and category; titles often do not name it. No product, no
    query and no text of one split stands in another, and half of the wordings in validation and test never occur in
    training.

    Raises:
        DataError: more rows are asked for than the products give different texts.
        RecipeError: the shop has no labels of this kind of task.
    """
    if task.kind not in MAKERS:
        raise RecipeError(f"the simulated shop has no labels for task.kind {task.kind}; it has {', '.join(MAKERS)}")
    sizes = {"train": data.train, "validation": data.validation, "test": data.test, "unlabeled": data.unlabeled}
    wanted = {split: count for split, count in sizes.items() if count}
    shelves = _stock(data.products, wanted, seed)
    labels = LABELS.get(task.kind, tuple(sorted(shelves["train"].categories)))
    seen: dict[str, str] = {}
    examples = {}
    for split, count in wanted.items():
        rows = MAKERS[task.kind](shelves[split], split, count, labels, seen)
        examples[split] = _examples(rows, split, task)
    return Splits(
        train=examples["train"],
        validation=examples["validation"],
        test=examples["test"],
        unlabeled=examples.get("unlabeled"),
        labels=labels,
        fingerprint=_fingerprint(examples, labels),
        notes=(NOTE,),
    )


def _stock(products: int, wanted: dict[str, int], seed: int) -> dict[str, Shelf]:
    """A catalogue, dealt out to the splits by their sizes; every split gets products of every category."""
    rng = stream(seed, "catalogue")
    count = min(MOST_CATEGORIES, products // PRODUCTS_PER_CATEGORY)
    names = tuple(rng.sample(sorted(BY_NAME), count))
    dealt: dict[str, dict[str, list[Product]]] = {split: {} for split in wanted}
    for place, name in enumerate(names):
        total = products // count + (place < products % count)
        made = [make_product(BY_NAME[name], rank, rng) for rank in range(total)]
        rng.shuffle(made)
        for split, share in _deal(made, wanted).items():
            dealt[split][name] = share
    return {split: Shelf(Speech(split, seed), names, dealt[split], stream(seed, f"rows {split}")) for split in wanted}


def _deal(made: list[Product], wanted: dict[str, int]) -> dict[str, list[Product]]:
    """One product for each split, the others in proportion to the splits' rows."""
    rows, rest = sum(wanted.values()), len(made) - len(wanted)
    dealt, start, sofar = {}, 0, 0
    for number, (split, count) in enumerate(wanted.items(), 1):
        sofar += count
        end = number + rest * sofar // rows
        dealt[split] = made[start:end]
        start = end
    return dealt


def _classified_rows(shelf: Shelf, split: str, count: int, labels: Sequence[str], seen: dict[str, str]) -> list[Row]:
    """Different rows; `seen` remembers every query and title that may not come again, and the split it stands in."""
    rows = []
    for number in range(count):
        # Small training sets still show every class.
        first = shelf.categories[number] if number < len(shelf.categories) else None
        rows.append(_fresh(partial(_classified, shelf, first, labels), split, seen, number))
    shelf.rng.shuffle(rows)
    return rows


def _paired_rows(shelf: Shelf, split: str, count: int, labels: Sequence[str], seen: dict[str, str]) -> list[Row]:
    rows = [_fresh(partial(_pair, shelf), split, seen, number) for number in range(count)]
    shelf.rng.shuffle(rows)
    return rows


def _ranked_rows(shelf: Shelf, split: str, count: int, labels: Sequence[str], seen: dict[str, str]) -> list[Row]:
    """Queries with about GROUP_ROWS titles each, the first of which is drawn to be exact."""
    groups = max(1, round(count / GROUP_ROWS))
    rows: list[Row] = []
    for group in range(groups):
        size = count * (group + 1) // groups - count * group // groups
        product, query = _new_query(shelf, split, seen, group)
        rows.append(_fresh(partial(_document, shelf, query, product, 1.0), split, seen, len(rows)))
        make = partial(_document, shelf, query, product, EXACT_SHARE)
        rows += [_fresh(make, split, seen, len(rows) + extra) for extra in range(size - 1)]
    shelf.rng.shuffle(rows)
    return rows


def _new_query(shelf: Shelf, split: str, seen: dict[str, str], number: int) -> tuple[Product, Query]:
    """A query that nobody asked yet, and a product that answers it."""
    for _ in range(TRIES):
        product = shelf.draw()
        query = write_query(product, shelf.speech, shelf.rng, shelf.categories)
        if query.text not in seen:
            return product, query
    raise _too_few(split, "queries", number)


def _fresh(make: Callable[[], Row], split: str, seen: dict[str, str], number: int) -> Row:
    for _ in range(TRIES):
        first, second, label = make()
        whole = f"{first}\t{second}"
        if whole in seen or seen.get(first, split) != split or seen.get(second or first, split) != split:
            continue
        seen[whole] = seen[first] = split
        if second is not None:
            seen[second] = split
        return first, second, label
    raise _too_few(split, "rows", number)


def _too_few(split: str, what: str, number: int) -> DataError:
    return DataError(
        f"the simulated shop has no more than {number} different {what} for {split}: lower data.{split} "
        "or raise data.products"
    )


def _classified(shelf: Shelf, category: str | None, labels: Sequence[str]) -> Row:
    product = shelf.draw(category)
    title = write_title(product, shelf.speech, shelf.rng, noun=NOUN_IN_CLASSIFIED_TITLE)
    return title, None, labels.index(product.category)


def _pair(shelf: Shelf) -> Row:
    """A query and a title, relevant or wrong in a way that is hard to see."""
    rng = shelf.rng
    product = shelf.draw()
    query = write_query(product, shelf.speech, rng, shelf.categories)
    other = product if rng.random() < POSITIVE_SHARE else _wrong(shelf, query, product)
    title = write_title(other, shelf.speech, rng, show=tuple(query.wanted), noun=NOUN_IN_TITLE)
    return query.text, title, int(grade(query, other) == 3)


def _document(shelf: Shelf, query: Query, product: Product, exact: float) -> Row:
    """A query with a title and its grade; `exact`: how often the title is of the product that answers it."""
    rng = shelf.rng
    other = product if rng.random() < exact else _wrong(shelf, query, product)
    title = write_title(other, shelf.speech, rng, show=tuple(query.wanted), noun=NOUN_IN_TITLE)
    return query.text, title, grade(query, other)


def _wrong(shelf: Shelf, query: Query, product: Product) -> Product:
    """A product that the query does not ask for: another version, an accessory or neighbour, or just any."""
    rng = shelf.rng
    kind = rng.random()
    if query.wanted and kind < 0.4:
        attribute = rng.choice(sorted(query.wanted))
        value = other_value(product, attribute, rng)
        if value is not None:
            return variant(product, {attribute: value})
    outside = [name for name in shelf.categories if name not in query.covers]
    near = [name for name in BY_NAME[product.category].near if name in outside]
    other = shelf.draw(rng.choice(near if near and kind < 0.85 else outside or list(shelf.categories)))
    alike = {
        name: value
        for name, value in query.wanted.items()
        if name in ("colour", "people", "brand") and getattr(other, name) is not None
    }
    return variant(other, alike)


def _examples(rows: list[Row], split: str, task: Task) -> Examples:
    second = [row[1] for row in rows]
    found = np.array([row[2] for row in rows], np.int64)
    labels: Labels = found.astype(np.float64) if task.numbers else found
    return Examples(
        ids=[f"{split}-{number}" for number in range(len(rows))],
        texts=[row[0] for row in rows],
        pairs=None if second[0] is None else [str(text) for text in second],
        labels=None if split == "unlabeled" else labels,
        groups=[row[0] for row in rows] if task.grouped else None,
    )


def _fingerprint(examples: dict[str, Examples], labels: tuple[str, ...]) -> str:
    content = {
        split: [list(rows.texts), list(rows.pairs or ()), [] if rows.labels is None else rows.labels.tolist()]
        for split, rows in examples.items()
    }
    return hashlib.sha256(json.dumps([content, labels], sort_keys=True).encode()).hexdigest()


MAKERS: dict[str, Callable[[Shelf, str, int, Sequence[str], dict[str, str]], list[Row]]] = {
    "classification": _classified_rows,
    "pairs": _paired_rows,
    "ranking": _ranked_rows,
}
"""Kind of task -> (shelf, split, rows, labels, seen) -> rows."""
LABELS: dict[str, tuple[str, ...]] = {"pairs": ("0", "1"), "ranking": ("score",)}
"""Labels of kinds of task that have the same in every shop."""

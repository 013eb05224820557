"""The simulated shop: its products, and how sellers and buyers write about them."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from compress.data import shop_words as words
from compress.data.shop_words import Category

NOVEL = 0.45
"""Share of the wordings in validation and test that training never shows."""
TYPO_IN_QUERY, TYPO_IN_TITLE = 0.08, 0.04
WIDE, BY_USE, LED_IN = 0.08, 0.22, 0.15
"""Shares of the queries: for a whole group, by what it is for, with words such as `buy` in front."""
ATTRIBUTES = ("colour", "material", "size", "people", "brand")
BY_NAME = {category.name: category for category in words.CATEGORIES}


def stream(seed: int, purpose: str) -> random.Random:
    """Random numbers that are the same on every machine, and independent from purpose to purpose."""
    return random.Random(f"{seed} {purpose}")  # noqa: S311  # repeatable, nothing to do with secrets


@dataclass(frozen=True)
class Product:
    """One product; an attribute that its kind does not have is None."""

    category: str
    brand: str
    series: str
    model: str
    popularity: float
    colour: str | None
    material: str | None
    size: str | None
    people: str | None


@dataclass(frozen=True)
class Query:
    """What somebody wants: the categories that would do, and attributes with the values asked for."""

    text: str
    covers: frozenset[str]
    wanted: Mapping[str, str] = field(default_factory=dict)


def grade(query: Query, product: Product) -> int:
    """Relevance: 3 exact, 2 right kind but an attribute differs, 1 an accessory or a neighbour, 0 unrelated."""
    if product.category not in query.covers:
        return int(any(product.category in BY_NAME[name].near for name in query.covers))
    return 3 if all(getattr(product, name) == value for name, value in query.wanted.items()) else 2


# ---------------------------------------------------------------- catalogue


def make_product(category: Category, rank: int, rng: random.Random) -> Product:
    """A product with attributes drawn at random; `rank` from 0 in the long tail of popularity."""
    letters = "".join(rng.choices(string.ascii_uppercase, k=rng.choice((1, 2))))
    return Product(
        category=category.name,
        brand=rng.choice(words.BRANDS[category.department]),
        series=rng.choice(words.SERIES),
        model=f"{letters}{rng.randrange(10, 9999)}",
        popularity=1 / (rank + 5) ** 0.8,
        colour=None if category.name in words.COLOURLESS else rng.choice(list(words.COLOURS)),
        material=rng.choice(category.materials) if category.materials else None,
        size=rng.choice(words.SIZES[category.sizes][0]) if category.sizes else None,
        people=rng.choice(list(words.PEOPLE)) if category.for_people else None,
    )


def other_value(product: Product, attribute: str, rng: random.Random) -> str | None:
    """Another value that this kind of product could have, or None where there is only one."""
    category = BY_NAME[product.category]
    choices: Sequence[str] = {
        "colour": tuple(words.COLOURS) if product.colour else (),
        "material": category.materials,
        "size": words.SIZES[category.sizes][0] if category.sizes else (),
        "people": tuple(words.PEOPLE) if product.people else (),
        "brand": words.BRANDS[category.department],
    }[attribute]
    others = [value for value in choices if value != getattr(product, attribute)]
    return rng.choice(others) if others else None


# ---------------------------------------------------------------- wording


class Speech:
    """How one split speaks: which wordings it may use. Half of all wordings are held back from training.

    Of the words for one thing, the first half (shuffled, the plain one in front) is used everywhere, a part of the
    rest only in validation, a part only in test. The transfer set uses all of them: unlabelled text is plentiful.
    """

    def __init__(self, split: str, seed: int) -> None:
        self.split, self.seed = split, seed
        self._known: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}

    def say(self, wordings: tuple[str, ...], rng: random.Random) -> str:
        """One of the wordings that this split may use."""
        if wordings not in self._known:
            self._known[wordings] = self._divide(wordings)
        common, novel = self._known[wordings]
        return rng.choice(novel if novel and rng.random() < NOVEL else common)

    def _divide(self, wordings: tuple[str, ...]) -> tuple[list[str], list[str]]:
        rest = list(wordings[1:])
        stream(self.seed, f"wordings {wordings[0]}").shuffle(rest)
        half = len(rest) // 2
        quarter = half + (len(rest) - half) // 2
        common = [wordings[0], *rest[:half]]
        if self.split == "validation":
            return common, rest[half:quarter]
        if self.split == "test":
            return common, rest[quarter:]
        return ([*wordings], []) if self.split == "unlabeled" else (common, [])

    def attribute(self, product: Product, name: str, rng: random.Random) -> str:
        """An attribute of the product in words."""
        value = str(getattr(product, name))
        if name == "size":
            return rng.choice(words.SIZES[str(BY_NAME[product.category].sizes)][1]).format(value)
        if name == "brand":
            return value
        table = {"colour": words.COLOURS, "material": words.MATERIALS, "people": words.PEOPLE}[name]
        return self.say(table[value], rng)


def misspell(text: str, rng: random.Random) -> str:
    """The text with one slip in one of its longer words: two letters swapped, one left out, or one doubled."""
    parts = text.split(" ")
    long = [place for place, part in enumerate(parts) if len(part) > 4 and part.isalpha()]
    if not long:
        return text
    place = rng.choice(long)
    word, at = parts[place], rng.randrange(1, len(parts[place]) - 1)
    slips = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at : at + 1] + word[at:],
    )
    parts[place] = rng.choice(slips)
    return " ".join(parts)


def write_title(
    product: Product, speech: Speech, rng: random.Random, *, show: Sequence[str] = (), noun: float = 1.0
) -> str:
    """A seller's title: `show` names attributes that must be in it, `noun` is how often the kind is named."""
    category = BY_NAME[product.category]
    named = rng.random() < noun
    naming = []
    if named:
        name = speech.say(category.nouns, rng)
        naming.append(misspell(name, rng) if rng.random() < TYPO_IN_TITLE else name)
    told = list({speech.say(category.cues, rng) for _ in range(rng.choice((0, 1, 1, 2) if named else (1, 1, 2)))})
    shown = [
        speech.attribute(product, name, rng)
        for name in ATTRIBUTES[:-1]
        if getattr(product, name) is not None and (name in show or rng.random() < 0.4)
    ]
    head = [product.brand] if "brand" in show or rng.random() < 0.8 else []
    head += [part for part in (product.series, product.model) if rng.random() < 0.5]
    tail = [rng.choice(words.NOISE)] if rng.random() < 0.35 else []
    body = naming + sorted(told) + shown
    rng.shuffle(body)
    order = rng.choice((head + body + tail, tail + head + body, body + head + tail))
    separator = rng.choice((" ", " ", " - ", ", ", " | "))
    text = separator.join(order)
    return rng.choice((text, text.title(), text))


def write_query(product: Product, speech: Speech, rng: random.Random, categories: Sequence[str]) -> Query:
    """A buyer's query that the product answers exactly; `categories` are those of the shop."""
    category = BY_NAME[product.category]
    held = [name for name in ATTRIBUTES if getattr(product, name) is not None]
    chosen = rng.sample(held, min(len(held), rng.choice((0, 1, 1, 1, 2))))
    covers = frozenset({category.name})
    groups = [group for group, members in words.GROUPS.items() if category.name in members]
    kind = rng.random()
    if kind < WIDE and groups:
        term = rng.choice(groups)
        covers = frozenset(words.GROUPS[term]) & frozenset(categories)
        chosen = [name for name in chosen if name != "size"]
    else:
        term = speech.say(category.uses if kind < WIDE + BY_USE else category.nouns, rng)
    parts = [speech.attribute(product, name, rng) for name in chosen]
    # A use is a clause, which nobody writes adjectives before.
    parts.insert(0 if kind < WIDE + BY_USE else rng.randrange(len(parts) + 1), term)
    if rng.random() < LED_IN:
        parts.insert(0, rng.choice(words.LEAD_INS))
    text = " ".join(parts).lower()
    if rng.random() < TYPO_IN_QUERY:
        text = misspell(text, rng)
    return Query(text, covers, {name: str(getattr(product, name)) for name in chosen})


def variant(product: Product, changes: Mapping[str, str]) -> Product:
    """The same product in another version."""
    return replace(product, **changes)  # type: ignore[arg-type]  # mypy cannot see that the names are attributes

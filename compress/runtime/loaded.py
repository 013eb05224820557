"""`compress.load`: a bundle as a typed Python object. Imports no torch.

model = compress.load("x.kdc")
model.predict(["red trainers", ("red trainers", "Crimson Running Shoes EU 42")])
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from compress.artifacts import Runtime
from compress.errors import DataError, RecipeError
from compress.runtime.answers import AnyAnswer, Score
from compress.runtime.bundle import Manifest, open_bundle
from compress.runtime.items import Items, Vectors, embed_items, load_items, search_items
from compress.runtime.predictor import Predictor, Request
from compress.runtime.shipped import ShippedItems, search_shipped
from compress.runtime.text_cache import CACHED_TEXTS

Given: TypeAlias = str | tuple[str, str] | Request
"""A request: its text, its two texts, or both with an id."""
BATCH = 32
"""Rows in one call of the model."""
PORTABLE: Runtime = "onnxruntime"
"""Files of items are made by the model that runs everywhere: vectors of two models do not compare."""


def load(
    path: str | PathLike[str],
    *,
    threads: int = 1,
    runtime: Runtime | Literal["auto"] = "auto",
    cached_texts: int = CACHED_TEXTS,
) -> LoadedBundle:
    """Open a bundle, packed or unpacked, check every hash, and load its model.

    Args:
        threads: threads of the runtime, from 1.
        runtime: which of the bundle's models; auto takes the first that can run on this machine.
        cached_texts: how many texts' tokens are kept for when they come again; 0 keeps none. Answers are the same.

    Raises:
        RecipeError: nothing readable is there, it has no model for that runtime, or a number is out of range.
        IntegrityError: it is damaged, or not a bundle.
        EnvironmentProblem: it needs a newer kdc, or its runtime is not installed.
    """
    if threads < 1 or cached_texts < 0:
        raise RecipeError(f"threads is {threads} and cached_texts {cached_texts}: give at least 1 and 0")
    bundle = open_bundle(Path(fspath(path)))
    items = bundle.items(runtime)
    predictor = bundle.predictor(threads, runtime, cached_texts=cached_texts, items=items)
    return LoadedBundle(bundle.manifest, predictor, items)


@dataclass(frozen=True, eq=False)
class LoadedBundle:
    """A bundle in memory. Several threads may ask it at a time; the same call gives the same answer, bit for bit.

    In a batch the last digits of a number may differ from those of a request alone: padding changes the order of sums.

    Attributes:
        manifest: name, task, labels (`manifest.spec.labels`), measures, provenance.
        predictor: the model; `predictor.runtime` says what runs it.
        items: the items that came with it, `ids` and `texts`; None where there are none.
    """

    manifest: Manifest
    predictor: Predictor
    items: ShippedItems | None = None

    def predict(self, requests: Iterable[Given]) -> list[AnyAnswer]:
        """Answers in the order of the requests: `Answer` for labels, `Score` for ranking and regression.

        Raises:
            DataError: a request has an empty text, lacks the second text or has one that the model would not read, or
                holds half a character; or it is one text and not a list.
        """
        asked = requests_of(requests)
        if not self.predictor.spec.two_texts:
            for position, request in enumerate(asked, 1):
                if request.text_pair is not None:
                    raise DataError(f"request {position} has two texts, this model reads one: leave the second out")
        return self.predictor.answer(asked, BATCH)

    def predict_one(self, request: Given) -> AnyAnswer:
        """The answer to one request.

        Raises:
            DataError: as `predict`.
        """
        return self.predict([request])[0]

    def search(self, queries: Iterable[str], top: int = 10) -> list[list[Score]]:
        """For each query the `top` items of the bundle that suit it best, by id, best first.

        A two-tower bundle compares embeddings that its maker made; their rounding moves a score by some 0.0001. Any
        other bundle reads every item with every query, and tokenises none of them.

        Raises:
            RecipeError: the bundle came without items, or top is less than 1.
            DataError: a query cannot be read.
        """
        if self.items is None:
            raise RecipeError(
                f"the bundle {self.manifest.name} came without items: give them with `index`, or pack them into it "
                "with `bundle.items` of its recipe"
            )
        asked = single_texts(queries)
        return search_shipped(self.predictor, self.items, asked, _checked(top)) if asked else []

    def index(self, items: Iterable[str | Request]) -> Index:
        """Embed items once, for `Index.search`; only with a student of kind two-tower.

        Args:
            items: texts, or requests with an id; an item without one is named by its position, from 0.

        Raises:
            DataError: there are none, one cannot be read, two have one id, or the model has no embeddings.
        """
        asked = single_texts(items)
        if not asked:
            raise DataError("there are no items to embed: give at least one")
        return Index(embed_items(self.predictor, asked, self.manifest.digest, BATCH), self.predictor)

    def open_index(self, path: str | PathLike[str]) -> Index:
        """Items that `kdc embed` or `Index.save` wrote.

        Raises:
            RecipeError: this bundle was loaded for another runtime than onnxruntime.
            DataError: the file is missing, or comes from another bundle.
            IntegrityError: it is damaged.
        """
        _only_portable(self.predictor)
        return Index(load_items(Path(fspath(path)), model=self.manifest.digest), self.predictor)


@dataclass(frozen=True, eq=False)
class Index:
    """Items that were embedded once, ready for many queries. Several threads may ask it at a time."""

    items: Items
    predictor: Predictor

    def search(self, queries: Iterable[str], top: int = 10) -> list[list[Score]]:
        """For each query the `top` items that suit it best, by id, best first: one matrix product for all of them.

        The score is that of the pair of query and item, as `predict` gives it.

        Raises:
            DataError: a query cannot be read.
            RecipeError: top is less than 1.
        """
        asked = single_texts(queries)
        return search_items(self.predictor, self.items, asked, _checked(top)) if asked else []

    def cosines(self, queries: Iterable[str]) -> Vectors:
        """Cosine of every query with every item, float32 [Q, N].

        Raises:
            DataError: a query cannot be read.
        """
        asked = single_texts(queries)
        if not asked:
            return np.zeros((0, len(self.items.vectors)), np.float32)
        return self.predictor.embed([query.text for query in asked]) @ self.items.vectors.T

    def save(self, path: str | PathLike[str]) -> None:
        """Write a .npz for `open_index` and `kdc search`, whole or not at all.

        Raises:
            RecipeError: the bundle was loaded for another runtime than onnxruntime.
        """
        _only_portable(self.predictor)
        self.items.save(Path(fspath(path)))


def requests_of(given: Iterable[Given]) -> list[Request]:
    """Requests of texts, pairs of texts, or requests.

    Raises:
        DataError: it is one text where a list is expected, or an element is none of these.
    """
    if isinstance(given, str | Request):
        raise DataError("one request was given where a list is expected: put it into a list, or ask `predict_one`")
    return [_request(each, position) for position, each in enumerate(given)]


def single_texts(given: Iterable[str | Request]) -> list[Request]:
    """As `requests_of`, of what is searched for or embedded: a second text would do nothing.

    Raises:
        DataError: as `requests_of`; or an element has two texts.
    """
    asked = requests_of(given)
    for position, request in enumerate(asked, 1):
        if request.text_pair is not None:
            raise DataError(f"request {position} has two texts; give one: `predict` compares two")
    return asked


def _request(given: Given, position: int) -> Request:
    if isinstance(given, Request):
        return given
    if isinstance(given, str):
        return Request(given)
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(text, str) for text in given):
        return Request(*given)
    raise DataError(f"request {position + 1} is {given!r:.80}; give a text, a pair of texts, or a compress.Request")


def _checked(top: int) -> int:
    if top < 1:
        raise RecipeError(f"top is {top}: ask for at least 1 item")
    return top


def _only_portable(predictor: Predictor) -> None:
    if predictor.runtime != PORTABLE:
        raise RecipeError(
            f"the bundle was loaded for {predictor.runtime}, files of items are made and read with {PORTABLE}: "
            f"compress.load(…, runtime={PORTABLE!r})"
        )

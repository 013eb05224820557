"""Items embedded once, searched by many queries. Numpy only.

The file is a plain .npz: `vectors` float32 [N, E] of length 1, `ids` text [N], and `model`, the digest of the bundle
that embedded them: vectors of different models cannot be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as InflateError

import numpy as np
import numpy.typing as npt

from compress.artifacts import ModelSpec, publishing
from compress.errors import DataError, IntegrityError
from compress.runtime.answers import Score
from compress.runtime.predictor import Predictor, Request
from compress.runtime.requests import batches

Vectors = npt.NDArray[np.float32]
ARRAYS = ("vectors", "ids", "model")
ZIPPED = b"PK\x03\x04"
"""How a .npz begins."""
QUERIES_AT_ONCE = 64
"""Queries whose scores of all items are held at once."""


@dataclass(frozen=True)
class Items:
    """Embedded items; vectors float32 [N, E], of length 1."""

    ids: Sequence[str]
    vectors: Vectors
    model: str

    def save(self, path: Path) -> None:
        """Write the .npz file, whole or not at all."""
        with publishing(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, vectors=self.vectors, ids=np.array(self.ids, np.str_), model=np.str_(self.model))

    def best(self, queries: Vectors, count: int) -> tuple[npt.NDArray[np.int64], Vectors]:
        """The `count` items of the highest cosine for each query: positions and cosines [Q, K], best first.

        Of equal ones among them the earlier comes first. K is `count`, or the number of items where it is less.
        """
        count = min(count, len(self.vectors))
        positions, cosines = [], []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            scores = queries[start : start + QUERIES_AT_ONCE] @ self.vectors.T
            found = np.sort(np.argpartition(-scores, count - 1, axis=1)[:, :count], axis=1)
            theirs = np.take_along_axis(scores, found, 1)
            order = np.argsort(-theirs, axis=1, kind="stable")
            positions.append(np.take_along_axis(found, order, 1))
            cosines.append(np.take_along_axis(theirs, order, 1))
        if not positions:
            return np.zeros((0, count), np.int64), np.zeros((0, count), np.float32)
        return np.concatenate(positions), np.concatenate(cosines)


def embed_items(predictor: Predictor, requests: Iterable[Request], model: str, batch_size: int) -> Items:
    """Embed the texts of requests; an item without an id is named by its position, from 0.

    Raises:
        DataError: a text cannot be read, the model has no embeddings, or two items have one id.
    """
    ids: list[str] = []
    vectors: list[Vectors] = []
    for batch in batches(requests, batch_size):
        vectors.append(predictor.embed([request.text for request in batch], start=len(ids)))
        ids += [str(len(ids) + i) if request.id is None else request.id for i, request in enumerate(batch)]
    twice = [name for name, times in Counter(ids).items() if times > 1]
    if twice:
        raise DataError(f"{len(twice):,} ids stand at several items, {twice[0]!r} among them: give each one of its own")
    return Items(ids, np.concatenate(vectors), model)


def search_items(predictor: Predictor, items: Items, queries: Sequence[Request], count: int) -> list[list[Score]]:
    """For each query the items that suit it best, by id, each with the score that the pair itself would get."""
    positions, cosines = items.best(predictor.embed([query.text for query in queries]), count)
    found = []
    for places, row in zip(positions, cosines, strict=True):
        said = predictor.reading.answers([items.ids[i] for i in places], logits_of(predictor.spec, row))
        found.append([Score(each.id, each.score) for each in said])
    return found


def best_items(predictor: Predictor, items: Items, queries: Sequence[Request], count: int) -> list[dict[str, Any]]:
    """As `search_items`, as plain data with each query's id."""
    found = search_items(predictor, items, queries, count)
    return [
        {"id": query.id, "items": [{"id": item.id, "score": item.score} for item in best]}
        for query, best in zip(queries, found, strict=True)
    ]


def logits_of(spec: ModelSpec, cosines: Vectors) -> Vectors:
    """Logits [N, C] of pairs with these cosines [N]."""
    if spec.similarity is None:
        raise ValueError("the model has no similarity")
    score = (spec.similarity.scale * cosines + spec.similarity.bias).astype(np.float32)
    if len(spec.labels) == 1:
        return score[:, None]
    positive = 1 if spec.positive is None else spec.labels.index(spec.positive)
    signs = np.array([0.5 if place == positive else -0.5 for place in range(2)], np.float32)
    return score[:, None] * signs


def load_items(path: Path, *, model: str) -> Items:
    """Read what `Items.save` wrote.

    Args:
        model: digest of the bundle that will embed the queries.

    Raises:
        DataError: the file is missing, is no file of items, or comes from another bundle.
        IntegrityError: it is damaged.
    """
    if not path.is_file():
        raise DataError(f"no file of items at {path}; make one with `kdc embed BUNDLE FILE -o {path.name}`")
    try:
        with path.open("rb") as stream:
            if stream.read(len(ZIPPED)) != ZIPPED:  # numpy would take it for a pickle, and advise to trust it
                raise ValueError("it is no .npz")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as found:
                vectors, ids, made_by = (found[name] for name in ARRAYS)
    except (BadZipFile, InflateError, RuntimeError, KeyError, ValueError, OSError, EOFError) as error:
        # RuntimeError: a changed byte says "encrypted", or "of a newer zip"
        raise IntegrityError(f"{path} is no readable file of items ({error}); make it anew with `kdc embed`") from error
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[:1] != ids.shape or not len(ids):
        raise IntegrityError(
            f"{path} has {vectors.dtype} vectors {list(vectors.shape)} for {list(ids.shape)} items, float32 [N, E] for "
            "[N] are expected; make it anew with `kdc embed`"
        )
    if not np.isfinite(vectors).all():
        raise IntegrityError(f"{path} has vectors that are not finite numbers; make it anew with `kdc embed`")
    if str(made_by) != model:
        raise DataError(
            f"{path} was embedded by bundle {str(made_by)[:16]}, this one is {model[:16]}: vectors of different models "
            "cannot be compared; embed the items again"
        )
    return Items([str(name) for name in ids], vectors, model)

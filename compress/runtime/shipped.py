"""Items that a bundle brings along: ids and texts, and their embeddings or tokens, made once by its maker.

Members: `items.jsonl`, {"id", "text"} a line. Of a model that reads texts apart `vectors.npy`, embeddings rounded to
float16, for each runtime its own, since vectors of two models do not compare. Of others `tokens.npy`, the token ids of
all texts one after the other, and `ends.npy`, where each text's end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from compress.artifacts import EMBEDDING, ModelSpec
from compress.runtime.answers import Score
from compress.runtime.items import Items, search_items
from compress.runtime.predictor import Predictor, Request
from compress.runtime.text_cache import KnownTokens

ITEMS: Final = "items.jsonl"
VECTORS: Final = "vectors.npy"
TOKENS: Final = "tokens.npy"
ENDS: Final = "ends.npy"
SEARCHES: Final = "searches.jsonl"
"""Golden searches; of models with embeddings alone, like VECTORS once for each runtime."""
EMBEDDED_TYPE: Final = "<f2"
"""Measured on 2,074 offers and 322 queries: the ten best are the same items as with float32, for 321 queries in the
same order; int8 with a scale for each item halves the bytes again, but keeps the order of 245 only."""
PAIRS_AT_ONCE = 32
"""Items that a model reads with a query in one call."""


class TokensEntry(BaseModel):
    """What the manifest says of items' tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Annotated[int, Field(ge=0, lt=2**31)]
    """Tokens of all texts."""
    dtype: Literal["<u2", "<u4"]
    """Type of a token id, as numpy spells it."""


class ItemsEntry(BaseModel):
    """What the manifest says of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Annotated[int, Field(ge=1, lt=2**31)]
    """Items."""
    width: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    """Numbers of an embedding; None where texts are kept as tokens."""
    tokens: TokensEntry | None = None
    """Their tokens; None where texts are kept as embeddings."""

    def members(self, folders: Sequence[str]) -> tuple[str, ...]:
        """Names of their members; folders: those of the bundle's variants."""
        if self.width is None:
            return ITEMS, TOKENS, ENDS
        places = ["", *(f"{folder}/" for folder in folders)]
        return ITEMS, *(f"{place}{name}" for place in places for name in (VECTORS, SEARCHES))


@dataclass(frozen=True, eq=False)
class ShippedItems:
    """The items of an opened bundle for one of its models; `embedded` or `tokens` is there, by the kind of model."""

    ids: Sequence[str]
    texts: Sequence[str]
    embedded: Items | None = None
    tokens: KnownTokens | None = None


def can_rank(spec: ModelSpec) -> bool:
    """True for models whose one number says how well a second text suits the first."""
    return spec.two_texts and (spec.positive is not None or len(spec.labels) == 1)


def read_shipped(
    entry: ItemsEntry, members: Mapping[str, bytes], spec: ModelSpec, folder: str, model: str
) -> ShippedItems:
    """The items of a bundle whose hashes are checked.

    Args:
        spec: of the model that will read the queries. folder: of its variant, "" for model.onnx.
        model: the bundle's digest.

    Raises:
        ValueError: they are not what the manifest says; the message completes "it is damaged: …".
    """
    if {entry.width is None, entry.tokens is not None} != {spec.similarity is None}:
        raise ValueError("its items are kept as embeddings where the model has none, or as both, or as neither")
    if not can_rank(spec):
        raise ValueError("it has items, and its model cannot order them")
    rows = list(read_rows(members[ITEMS]))
    ids, texts = [row[0] for row in rows], [row[1] for row in rows]
    if len(rows) != entry.count or len(set(ids)) != len(ids):
        raise ValueError(f"{ITEMS} has {len(rows):,} items of {len(set(ids)):,} ids, {entry.count:,} are recorded")
    if entry.tokens is not None:
        return ShippedItems(ids, texts, tokens=_read_tokens(entry.tokens, members, texts))
    name = f"{folder}/{VECTORS}" if folder else VECTORS
    vectors = from_npy(name, members[name], EMBEDDED_TYPE, (entry.count, entry.width or 0)).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError(f"{name} has numbers that are not finite")
    return ShippedItems(ids, texts, Items(ids, vectors, model))


def misfit(items: ShippedItems, predictor: Predictor) -> str | None:
    """Why a model's queries cannot be compared with these items, or None."""
    if items.embedded is None:
        return None
    width = items.embedded.vectors.shape[1]
    found = next((each.shape[-1] for each in predictor.tensors()[1] if each.name == EMBEDDING), None)
    return None if found == width else f"its items have {width} numbers each, embeddings of its model {found}"


def _read_tokens(entry: TokensEntry, members: Mapping[str, bytes], texts: Sequence[str]) -> KnownTokens:
    tokens = from_npy(TOKENS, members[TOKENS], entry.dtype, (entry.count,))
    ends = from_npy(ENDS, members[ENDS], "<u4", (len(texts),)).astype(np.int64)
    if (np.diff(ends, prepend=0) < 0).any() or ends[-1] != len(tokens):
        raise ValueError(f"{ENDS} does not cut {len(tokens):,} tokens into {len(texts):,} texts")
    return KnownTokens(texts, tokens, ends)


def read_rows(content: bytes) -> Iterator[tuple[str, str]]:
    """Id and text of each item of `items.jsonl`.

    Raises:
        ValueError: a line is not what `row_line` writes.
    """
    lines = content.decode().split("\n")
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, 1):
        try:
            row = json.loads(line)
        except RecursionError as error:
            raise ValueError(f"{ITEMS}:{number} is nested too deep") from error
        if not isinstance(row, dict) or row.keys() != {"id", "text"} or not all(map(_is_text, row.values())):
            raise ValueError(f"{ITEMS}:{number} is no item with an id and a text")
        yield row["id"], row["text"]


def row_line(item_id: str, text: str) -> str:
    """An item's line."""
    return json.dumps({"id": item_id, "text": text}, ensure_ascii=False) + "\n"


def _is_text(value: Any) -> bool:
    """A text without half a character (a lone surrogate), which no model can be asked."""
    return isinstance(value, str) and bool(value.strip()) and value == value.encode(errors="ignore").decode()


def to_npy(array: npt.NDArray[Any]) -> bytes:
    """An array as numpy's format 1.0 has it (NEP 1), with the one header that `from_npy` accepts."""
    return _npy_header(array.dtype.str, array.shape) + array.tobytes()


def from_npy(name: str, content: bytes, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The array in a member, without a copy.

    `np.load` would allocate what a header claims before it reads; here the header is known, and compared.

    Raises:
        ValueError: it is another array than the manifest says.
    """
    header, item = _npy_header(dtype, shape), np.dtype(dtype)
    if not content.startswith(header) or len(content) != len(header) + prod(shape) * item.itemsize:
        raise ValueError(f"{name} is not the array {dtype} {list(shape)} that is recorded")
    return np.frombuffer(content, item, offset=len(header)).reshape(shape)


def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Magic, version, length, and a description padded so that the numbers start at a multiple of 64."""
    told = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    padded = told.ljust(-(-(len(told) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def search_shipped(
    predictor: Predictor, items: ShippedItems, queries: Sequence[Request], count: int
) -> list[list[Score]]:
    """For each query the `count` items that suit it best, by id, best first; of equal ones the earlier comes first.

    Of a model without embeddings every item is read with every query.

    Raises:
        DataError: a query cannot be read.
    """
    if items.embedded is not None:
        return search_items(predictor, items.embedded, queries, count)
    return [_best_pairs(predictor, items, query, count) for query in queries]


def _best_pairs(predictor: Predictor, items: ShippedItems, query: Request, count: int) -> list[Score]:
    said: list[Score] = []
    for start in range(0, len(items.ids), PAIRS_AT_ONCE):
        here = slice(start, start + PAIRS_AT_ONCE)
        pairs = [Request(query.text, text, name) for name, text in zip(items.ids[here], items.texts[here], strict=True)]
        said += [Score(each.id, each.score) for each in predictor.answer(pairs, PAIRS_AT_ONCE)]
    return sorted(said, key=lambda each: -each.score)[:count]

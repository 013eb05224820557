"""Items for a bundle: read, embedded or tokenised by the model that ships, with golden searches; and their check."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compress.artifacts import ModelSpec
from compress.errors import DataError, IntegrityError, RecipeError
from compress.recipe import LoadedRecipe
from compress.runtime.answers import Score, is_number
from compress.runtime.bundle import Bundle
from compress.runtime.fields import Fields
from compress.runtime.items import Items, embed_items, logits_of, search_items
from compress.runtime.predictor import Predictor, Request
from compress.runtime.requests import RENAME, read_requests
from compress.runtime.shipped import (
    EMBEDDED_TYPE,
    ENDS,
    ITEMS,
    SEARCHES,
    TOKENS,
    VECTORS,
    ItemsEntry,
    ShippedItems,
    TokensEntry,
    can_rank,
    row_line,
    to_npy,
)
from compress.runtime.text_cache import whole_tokens

BATCH = 32
TOP = 10
"""Items of a golden search."""
MAX_SEARCHES = 8
"""Golden searches at the most."""


@dataclass(frozen=True)
class _ItemFields(Fields):
    """Fields of items: each has an id of its own, its position from 0 where it names none."""

    seen: dict[str, str] = field(default_factory=dict)
    """Id -> where it stands."""

    def request(self, where: str, row: Mapping[str, Any]) -> Request:
        found = super().request(where, row)
        name = str(len(self.seen)) if found.id is None else found.id
        if name in self.seen:
            raise DataError(f"{where} has the id {name!r}, which stands at {self.seen[name]} too: give it another one")
        self.seen[name] = where
        return Request(found.text, id=name)


def items_of(loaded: LoadedRecipe) -> Path | None:
    """The file of items that the recipe names, or None.

    Raises:
        DataError: there is no such file.
    """
    if loaded.recipe.bundle.items is None:
        return None
    path = loaded.folder / loaded.recipe.bundle.items
    if not path.is_file():
        raise DataError(f"bundle.items: there is no file {path}; name one of JSON lines or CSV")
    return path


def read_items(path: Path, columns: Mapping[str, Sequence[str]]) -> Iterator[Request]:
    """Items of a file of JSON lines, CSV or TSV, one at a time; each has an id.

    Args:
        columns: field -> columns that training joined into it; an item may have those of the second text.

    Raises:
        DataError: the file cannot be read, a line of it cannot be used, or two items have one id; with file and line.
    """
    joined = {"text": columns["text_pair"]} if "text_pair" in columns else {}
    for item in read_requests(path, fields=_ItemFields(joined=joined, remedy=RENAME)):
        yield Request(item.text, id=item.id)


def check_rankable(spec: ModelSpec, path: Path) -> None:
    """Refuse items for a model that cannot put them in order.

    Raises:
        RecipeError: it reads one text, or has labels of which none says how well the second text suits the first.
    """
    if not can_rank(spec):
        why = "has several labels and none that means a match" if spec.two_texts else "reads one text"
        raise RecipeError(
            f"the items {path} are second texts to be ranked for a first one, and the model {why}: leave them out"
        )


def pack_items(
    path: Path, predictors: Mapping[str, Predictor], columns: Mapping[str, Sequence[str]], queries: Sequence[str]
) -> tuple[ItemsEntry, dict[str, bytes]]:
    """What the manifest says of the items in a file, and their members.

    Args:
        predictors: folder of a variant, "" for model.onnx -> what answers with it.
        queries: texts of golden searches.

    Raises:
        RecipeError: the model cannot put items in order.
        DataError: the file cannot be read, or an item of it cannot be used.
    """
    spec = predictors[""].spec
    check_rankable(spec, path)
    rows = list(read_items(path, columns))
    members = {ITEMS: "".join(row_line(row.id or "", row.text) for row in rows).encode()}
    if spec.similarity is None:
        entry, more = _tokenised([row.text for row in rows], predictors[""])
        return entry, members | more
    width = 0
    for folder, predictor in predictors.items():
        items = embed_items(predictor, rows, "", BATCH)
        stored = items.vectors.astype(EMBEDDED_TYPE)
        width = stored.shape[1]
        place = f"{folder}/" if folder else ""
        members[place + VECTORS] = to_npy(stored)
        asked = list(dict.fromkeys(queries))[:MAX_SEARCHES]
        members[place + SEARCHES] = _golden(predictor, Items(items.ids, stored.astype(np.float32), ""), asked)
    return ItemsEntry(count=len(rows), width=width), members


def _tokenised(texts: Sequence[str], predictor: Predictor) -> tuple[ItemsEntry, dict[str, bytes]]:
    tokens, ends = whole_tokens(predictor.encoder.tokenizer, texts)
    dtype: Literal["<u2", "<u4"] = "<u2" if tokens.max(initial=0) < 2**16 else "<u4"
    entry = ItemsEntry(count=len(texts), tokens=TokensEntry(count=len(tokens), dtype=dtype))
    return entry, {TOKENS: to_npy(tokens.astype(dtype)), ENDS: to_npy(ends.astype("<u4"))}


def _golden(predictor: Predictor, items: Items, queries: Sequence[str]) -> bytes:
    found = search_items(predictor, items, [Request(query) for query in queries], TOP)
    return "".join(
        json.dumps(
            {"query": query, "items": [{"id": each.id, "score": float(f"{each.score:.6g}")} for each in best]},
            ensure_ascii=False,
        )
        + "\n"
        for query, best in zip(queries, found, strict=True)
    ).encode()


def check_items(bundle: Bundle, predictor: Predictor, items: ShippedItems) -> dict[str, Any]:
    """Whether this machine finds what a bundle's golden searches say, or has the tokens that it brings along.

    Returns:
        Of a model with embeddings {items, searches, order_differs: searches whose items
        stand in another order here, max_score_difference, tolerance}; of others {items}.

    Raises:
        IntegrityError: the items or searches cannot be read, a score differs beyond the tolerance, or the tokenizer
            gives other tokens.
    """
    if items.embedded is None:
        _check_tokens(bundle, predictor, items.texts)
        return {"items": len(items.ids)}
    return {"items": len(items.ids)} | _check_searches(bundle, predictor, items.embedded)


def _check_tokens(bundle: Bundle, predictor: Predictor, texts: Sequence[str]) -> None:
    """All of them are made anew."""
    entry, made = _tokenised(texts, predictor)
    if entry != bundle.manifest.items or any(bundle.members[name] != content for name, content in made.items()):
        raise IntegrityError(
            f"{bundle.path} is intact, but its tokenizer makes other tokens of its items here than are recorded: this "
            "version of tokenizers reads texts otherwise, do not use it here"
        )


def _check_searches(bundle: Bundle, predictor: Predictor, items: Items) -> dict[str, Any]:
    searches = _recorded(bundle, predictor.runtime, set(items.ids))
    rows = {name: row for row, name in enumerate(items.ids)}
    tolerance = predictor.reading.tolerance([each.score for search in searches for each in search.best])
    worst, moved = 0.0, 0
    for search in searches:
        (found,) = search_items(predictor, items, [Request(search.query)], len(search.best))
        vectors = items.vectors[[rows[each.id or ""] for each in search.best]]
        logits = logits_of(predictor.spec, vectors @ predictor.embed([search.query])[0])
        own = predictor.reading.answers([each.id for each in search.best], logits)
        differences = [
            abs(here.score - recorded.score)
            for said in (found, own)
            for here, recorded in zip(said, search.best, strict=True)
        ]
        if not max(differences) <= tolerance:
            raise IntegrityError(
                f"{bundle.path} is intact, but its golden search {search.query!r} has a score that differs by "
                f"{max(differences):.4g} from what is recorded, tolerance {tolerance:.4g}: this processor or "
                f"{predictor.runtime} computes otherwise, do not use it here"
            )
        worst = max(worst, *differences)
        moved += [each.id for each in found] != [each.id for each in search.best]
    return {
        "searches": len(searches),
        "order_differs": moved,
        "max_score_difference": worst,
        "tolerance": tolerance,
    }


@dataclass(frozen=True)
class _Search:
    query: str
    best: list[Score]


def _recorded(bundle: Bundle, runtime: str, ids: Set[str]) -> list[_Search]:
    """The golden searches of a bundle for one of its models."""
    variant = bundle.variant(runtime)
    name = SEARCHES if variant is None else f"{variant.folder}/{SEARCHES}"
    try:
        found = [_search(line, ids) for line in bundle.members[name].decode().split("\n") if line]
        if not found:
            raise ValueError("it is empty")
        return found
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{bundle.path} has an unreadable {name} ({error}); make it again") from error


def _search(line: str, ids: Set[str]) -> _Search:
    plain = json.loads(line)
    found = _Search(plain["query"], [Score(**each) for each in plain["items"]])
    named = {each.id for each in found.best}
    known = len(named) == len(found.best) > 0 and named.issubset(ids)
    if not isinstance(found.query, str) or not known or not all(is_number(each.score) for each in found.best):
        raise TypeError("a search has a query, and items of the bundle with their scores")
    return found

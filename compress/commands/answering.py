"""Answers of `kdc predict`: to requests as the model reads them, and to queries for the items of the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from compress.artifacts import Runtime
from compress.errors import RecipeError
from compress.runtime.bundle import Bundle
from compress.runtime.predictor import Predictor, Request
from compress.runtime.shipped import ShippedItems, search_shipped
from compress.runtime.text_cache import CACHED_TEXTS

TOP = 10


@dataclass(frozen=True)
class Answering:
    """A bundle's model with its items, if it brings some; top: how many of these answer a query."""

    predictor: Predictor
    items: ShippedItems | None
    top: int

    @classmethod
    def of(cls, bundle: Bundle, runtime: Runtime | Literal["auto"], threads: int, top: int | None) -> Answering:
        """Raises RecipeError where `top` is given and the bundle has no items."""
        items = bundle.items(runtime)
        if items is None and top is not None:
            raise RecipeError(f"{bundle.path} came without items, of which --top could say how many: leave it out")
        known = items is not None and items.tokens is not None
        predictor = bundle.predictor(threads, runtime, items=items, cached_texts=CACHED_TEXTS if known else 0)
        return cls(predictor, items, TOP if top is None else top)

    def answers(self, requests: Sequence[Request], batch_size: int) -> list[dict[str, Any]]:
        """An object for each request, in their order; of a query its id and `items`, best first."""
        if self.items is None:
            return [asdict(answer) for answer in self.predictor.answer(requests, batch_size)]
        pairs = [request for request in requests if request.text_pair is not None]
        queries = [request for request in requests if request.text_pair is None]
        answered = iter(self.predictor.answer(pairs, batch_size))
        found = iter(search_shipped(self.predictor, self.items, queries, self.top) if queries else [])
        return [
            {"id": request.id, "items": [asdict(item) for item in next(found)]}
            if request.text_pair is None
            else asdict(next(answered))
            for request in requests
        ]

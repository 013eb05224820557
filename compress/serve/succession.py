"""What clients may ask of a bundle, so that one that comes after it can be held to that."""

from __future__ import annotations

from compress.runtime.bundle import Manifest
from compress.runtime.shipped import can_rank


def ranks_own_items(manifest: Manifest, max_rows: int) -> bool:
    """Whether a query without candidates is answered: a model that reads pairs would read every item with it."""
    items = manifest.items
    return items is not None and (manifest.spec.similarity is not None or items.count <= max_rows)


def askable(manifest: Manifest, max_rows: int) -> frozenset[str]:
    """The kinds of requests that a bundle answers, as messages name them."""
    spec = manifest.spec
    kinds = {"requests of two texts" if spec.two_texts else "requests of one text"}
    kinds |= {f"{field} as {' and '.join(joined)}" for field, joined in manifest.columns.items()}
    if can_rank(spec):
        kinds.add("candidates to rank")
    if ranks_own_items(manifest, max_rows):
        kinds.add("a query alone, ranked over items that the bundle brings along")
    return frozenset(kinds)

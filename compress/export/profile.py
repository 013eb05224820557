"""Which shapes an engine takes, and whether the model does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import RecipeError
from compress.export.plain import PlainSession
from compress.export.typed import TypedGraph

USUAL_BATCH, USUAL_LENGTH = 8, 32
"""The shape that tactics are chosen for; the engine takes all others up to its maximum."""
SAFE_ID = 1
"""A token that stands in every vocabulary."""

Shape = tuple[int, int]


@dataclass(frozen=True)
class Shapes:
    """Least, usual and largest [batch, sequence] of one input."""

    least: Shape
    usual: Shape
    largest: Shape

    @property
    def fixed(self) -> bool:
        """Whether there is one shape only."""
        return self.least == self.largest

    def dump(self) -> dict[str, list[int]]:
        """As plain data."""
        return {"min": list(self.least), "opt": list(self.usual), "max": list(self.largest)}


def shapes_of(graph: TypedGraph, max_batch: int, max_length: int) -> dict[str, Shapes]:
    """Input -> its shapes: free axes from 1 to the maximum, fixed ones as they are."""
    largest, usual = (max_batch, max_length), (min(USUAL_BATCH, max_batch), min(USUAL_LENGTH, max_length))
    found = {}
    for value in graph.inputs:
        fixed = [axis.dim_value if axis.HasField("dim_value") else 0 for axis in value.type.tensor_type.shape.dim]
        least, middle, most = ((fixed[0] or sizes[0], fixed[1] or sizes[1]) for sizes in ((1, 1), usual, largest))
        found[value.name] = Shapes(least, middle, most)
    return found


def check_longest(model: PlainSession, shapes: Mapping[str, Shapes], path: Path) -> None:
    """Ask the model for one row as long as the profile allows: a table of positions may end before that.

    Raises:
        RecipeError: it fails, with the longest that it does take.
    """
    longest = max(shape.largest[1] for shape in shapes.values())
    if _takes(model, shapes, longest) or any(shape.fixed for shape in shapes.values()):
        return
    low, high = 0, longest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _takes(model, shapes, middle) else (low, middle)
    raise RecipeError(
        f"export.max_length: {path} takes {low} tokens at the most, not {longest}: lower it to the positions that "
        "the model has"
    )


def _takes(model: PlainSession, shapes: Mapping[str, Shapes], length: int) -> bool:
    feed: dict[str, Any] = {}
    for name, shape in shapes.items():
        value = 1 if "mask" in name else 0 if "type" in name or "segment" in name else SAFE_ID
        feed[name] = np.full((shape.least[0], min(length, shape.largest[1])), value)
    return model.answers(feed)

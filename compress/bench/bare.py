"""Timing any model: without tokenizer.json and model.json, on inputs made from its signature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compress.artifacts import SPEC, TOKENIZER
from compress.errors import DataError
from compress.runtime.engine import Engine

if TYPE_CHECKING:
    from compress.runtime.predictor import Request

SEQUENCE = 32
"""Size of every free axis but the first."""
HIGHEST_ID = 10
"""Generated ids stay below it, so that they stand in any vocabulary."""
SEED = 7
DTYPES: dict[str, Any] = {
    "int64": np.int64,
    "int32": np.int32,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
    "float32": np.float32,
    "float16": np.float16,
    "float64": np.float64,
}

Feed = dict[str, npt.NDArray[Any]]


def answers_text(folder: Path) -> bool:
    """Whether a folder with a model also says how text becomes its inputs."""
    return (folder / TOKENIZER).is_file() and (folder / SPEC).is_file()


class BareModel:
    """Runs a model on generated inputs; of the requests only their number counts.

    Names with `mask` get ones, `type` and `segment` zeros, `position` 0, 1, 2 …; other whole numbers are
    drawn below HIGHEST_ID, floats from a normal distribution. The first axis, where free, is the number of
    requests, and where fixed those of one run; a model whose inputs have no axes is run once for each request. Every
    other free axis is SEQUENCE long.

    Args:
        engine: the loaded model. name: what messages call it.

    Raises:
        DataError: an input has a type that cannot be made up, or the model refuses what was made up.
    """

    def __init__(self, engine: Engine, name: object) -> None:
        self._engine = engine
        first = [item.shape[0] for item in self._engine.inputs if item.shape]
        fixed = [size for size in first if isinstance(size, int)]
        self._rows_a_run: int | None = max([1, *fixed]) if fixed or not first else None
        self._feeds: dict[int, Feed] = {}
        try:
            for rows in (1, 2):
                self._run(rows)
        except Exception as error:  # the runtimes' exceptions share no base class
            if isinstance(error, DataError):
                raise
            reason = " ".join(str(error).split())
            raise DataError(
                f"{name} does not run on generated inputs ({reason}); put its {TOKENIZER} and {SPEC} beside it"
            ) from error

    def encode(self, requests: Sequence[Request]) -> Feed:
        """The generated inputs for as many rows; there is no text to read."""
        return self._feed(len(requests))

    def answer(self, requests: Sequence[Request], batch_size: int = 32) -> None:
        """Run the model once for each batch."""
        for start in range(0, len(requests), batch_size):
            self._run(min(batch_size, len(requests) - start))

    def _run(self, rows: int) -> None:
        for _ in range(1 if self._rows_a_run is None else math.ceil(rows / self._rows_a_run)):
            self._engine.run(self._feed(rows))

    def _feed(self, rows: int) -> Feed:
        if rows not in self._feeds:
            rng = np.random.default_rng(SEED)
            self._feeds[rows] = {
                item.name: _values(item.name, item.dtype, _sizes(item.shape, rows), rng) for item in self._engine.inputs
            }
        return self._feeds[rows]


def _sizes(shape: Sequence[Any], rows: int) -> tuple[int, ...]:
    """Sizes for the axes of a signature; free ones are names or None."""
    free = [rows, *[SEQUENCE] * len(shape)]
    return tuple(size if isinstance(size, int) else free[axis] for axis, size in enumerate(shape))


def _values(name: str, kind: str, sizes: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
    if kind not in DTYPES:
        raise DataError(f"the input {name!r} is a {kind}, which cannot be made up; known are {', '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[kind])
    if dtype.kind == "f":
        return np.asarray(rng.standard_normal(sizes), dtype)
    if dtype.kind == "b" or "mask" in name:
        return np.ones(sizes, dtype)
    if "type" in name or "segment" in name:
        return np.zeros(sizes, dtype)
    if "position" in name and sizes:
        return np.broadcast_to(np.arange(sizes[-1], dtype=dtype), sizes).copy()
    return rng.integers(0, HIGHEST_ID, sizes).astype(dtype)

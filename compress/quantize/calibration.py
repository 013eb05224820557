"""Rows of real data whose activations set the ranges of static quantization."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Protocol, TypeVar

from compress.batch import Ints
from compress.errors import DataError

BATCH_SIZE = 32

Feed = Mapping[str, Ints]
Request_contra = TypeVar("Request_contra", contravariant=True)


class Encoder(Protocol[Request_contra]):
    """Anything that turns requests into a model's inputs, such as runtime.predictor.Predictor."""

    def encode(self, requests: Sequence[Request_contra], /) -> Feed:
        """Input name -> int64 [B, T]."""


def feeds(
    encoder: Encoder[Request_contra], requests: Sequence[Request_contra], batch_size: int = BATCH_SIZE
) -> Iterator[dict[str, Ints]]:
    """The model's inputs, batch by batch, in the order of the requests."""
    for start in range(0, len(requests), batch_size):
        yield dict(encoder.encode(requests[start : start + batch_size]))


class Reader:
    """Feeds in the form that onnxruntime's calibrators read (its CalibrationDataReader): None ends them.

    Raises:
        DataError: there are no feeds.
    """

    def __init__(self, batches: Iterable[Feed]) -> None:
        rest = iter(batches)
        first = next(rest, None)
        if first is None:
            raise DataError("static quantization needs rows to calibrate with, got 0: give it a calibration file")
        self._batches = chain([first], rest)

    def get_next(self) -> Feed | None:
        """The next batch, or None."""
        return next(self._batches, None)

"""A bundle as it is served: checked on this machine, ready to answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from compress.bundle.items import check_items
from compress.bundle.verify import check_golden, read_golden
from compress.errors import IntegrityError
from compress.runtime.bundle import Manifest, open_bundle
from compress.runtime.predictor import Predictor, Request
from compress.runtime.shipped import ShippedItems
from compress.serve.forms import Forms, forms_of
from compress.serve.settings import Settings

TIMES = 3
"""How often the golden requests are asked one by one, and together, to know which is quicker."""


class Ask(Enum):
    """What a model can be asked of texts."""

    ANSWER = "answer"
    """Answers to requests, as `kdc predict` gives them."""
    EMBED = "embed"
    """Embeddings of the requests' first texts, of models that read texts apart."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One bundle in memory.

    batch_difference: largest change of a logit of the golden requests when they are asked together instead of each
    alone; 0 where a batch changes nothing. together: whether texts of several requests share a call: they do where the
    golden requests are answered sooner together than one by one. items: those that the bundle brings along.
    """

    manifest: Manifest
    predictor: Predictor
    forms: Forms
    batch_difference: float
    together: bool
    items: ShippedItems | None

    @property
    def digest(self) -> str:
        """The first 16 digits of the manifest's digest, which name the bundle in headers, metrics and messages."""
        return self.manifest.digest[:16]

    def ask(self, what: Ask, requests: Sequence[Request]) -> Sequence[Any]:
        """An answer or an embedding for each request, all in one call of the model."""
        if what is Ask.EMBED:
            vectors = self.predictor.embed([request.text for request in requests])
            if not np.isfinite(vectors).all():
                raise IntegrityError("the model's embedding is not finite: the model is broken, make it anew")
            return list(vectors)
        return self.predictor.answer(requests, batch_size=len(requests))


def load_model(path: Path, source: Path, settings: Settings) -> ServedModel:
    """Open a bundle, check every hash and ask its golden requests and searches.

    Args:
        path: the bundle. source: what messages call it.

    Raises:
        RecipeError: nothing readable is there, or it has no model for the runtime that was asked for.
        IntegrityError: it is damaged, or this machine answers its golden requests otherwise.
        EnvironmentProblem: it needs a newer kdc, or that runtime is not installed.
    """
    bundle = replace(open_bundle(path), path=source)
    items = bundle.items(settings.runtime)
    predictor = bundle.predictor(settings.threads, settings.runtime, cached_texts=settings.cached_texts, items=items)
    check_golden(bundle, predictor)
    if items is not None and items.embedded is not None:
        check_items(bundle, predictor, items)
    requests, _ = read_golden(bundle)
    requests = requests[: settings.max_batch]
    alone, together = (_timed(predictor, requests, size) for size in (1, settings.max_batch))
    difference = float(np.abs(alone.logits - together.logits).max(initial=0.0))
    quicker = together.seconds < alone.seconds
    return ServedModel(bundle.manifest, predictor, forms_of(bundle.manifest, settings), difference, quicker, items)


class _Timed(NamedTuple):
    logits: npt.NDArray[np.float32]
    seconds: float


def _timed(predictor: Predictor, requests: Sequence[Request], batch_size: int) -> _Timed:
    """The logits, and the least seconds that they took: of a few times the one that was disturbed least."""
    taken = []
    for _ in range(TIMES):
        start = time.perf_counter()
        logits = predictor.logits(requests, batch_size)
        taken.append(time.perf_counter() - start)
    return _Timed(logits, min(taken))

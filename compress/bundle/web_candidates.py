"""The candidates that a site's page offers, and their embeddings where the model reads texts apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.errors import DataError, RecipeError
from compress.progress import reporter
from compress.runtime.bundle import Bundle
from compress.runtime.fields import Fields
from compress.runtime.predictor import Predictor, Request
from compress.runtime.requests import RENAME, read_requests

CANDIDATES = 20
"""Second texts of the golden requests that the page offers."""
MAX_CATALOGUE = 1000
"""The page compares each question with all of them; a model that reads both texts at once, one at a time."""
UNIT = 32767
"""The code of 1; `model.js` has the same."""


def candidates_of(bundle: Bundle, golden: Sequence[Request], catalogue: Path | None) -> list[str]:
    """Texts of a catalogue, JSON lines or CSV with `text`; without one, of the items that the bundle brings along, of
    which more than MAX_CATALOGUE are left out with a warning; without these, second texts of the golden requests.

    Raises:
        RecipeError: a catalogue for a model that reads one text.
        DataError: it cannot be read, or is too long.
        IntegrityError: the bundle's items are not what its manifest says.
    """
    if catalogue is None:
        return _own_candidates(bundle, golden)
    if not bundle.manifest.spec.two_texts:
        raise RecipeError(f"--catalogue has no effect: {bundle.path} reads one text; leave it out")
    joined = bundle.manifest.columns.get("text_pair", ())
    fields = Fields(joined={"text": joined}, remedy=RENAME)
    found = distinct([item.text for item in read_requests(catalogue, fields=fields)])
    if len(found) > MAX_CATALOGUE:
        raise DataError(
            f"{catalogue} has {len(found):,} products, a page compares at most {MAX_CATALOGUE:,}: give a smaller file"
        )
    return found


def _own_candidates(bundle: Bundle, golden: Sequence[Request]) -> list[str]:
    items = bundle.items("onnxruntime")
    if items is None:
        return distinct([request.text_pair for request in golden if request.text_pair])[:CANDIDATES]
    found = distinct(items.texts)
    if len(found) > MAX_CATALOGUE:
        reporter.warn(
            f"{bundle.path} brings {len(found):,} items along, a page compares at most {MAX_CATALOGUE:,} and offers "
            "the first of them: choose others with --catalogue FILE"
        )
    return found[:MAX_CATALOGUE]


def distinct(texts: Sequence[str]) -> list[str]:
    """Each once, on one line: the page holds one a line."""
    return list(dict.fromkeys(" ".join(text.split()) for text in texts))


def embedded(predictor: Predictor, candidates: Sequence[str]) -> bytes:
    """Embeddings of the candidates, int16 [N, E], little endian: numbers of -1 … 1 times 32,767.

    A number is off by 1.5e-5 at the most, so a cosine of 128 of them by about 1e-5: far below what the site may differ.
    Each text is read by itself, as the page would read it.

    Raises:
        DataError: a text cannot be read.
    """
    vectors = [predictor.embed([text], start=place)[0] for place, text in enumerate(candidates)]
    return np.rint(np.array(vectors, np.float32) * UNIT).astype("<i2").tobytes()

"""How often models find the tokens of a text among those that they keep (`compress/runtime/text_cache.py`)."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from compress.runtime.predictor import Predictor
from compress.runtime.text import TextEncoder
from compress.runtime.text_cache import CachingEncoder


class TextCounts:
    """What was found and what was not, since a model was last looked at; forgets models that are gone."""

    def __init__(self) -> None:
        self._before: WeakKeyDictionary[TextEncoder, tuple[int, int]] = WeakKeyDictionary()

    def since(self, predictor: Predictor) -> tuple[int, int]:
        """Hits and misses of a model since the last call with it, or since it was made; 0 where it keeps no texts."""
        encoder = predictor.encoder
        if not isinstance(encoder, CachingEncoder):
            return 0, 0
        found = encoder.cache_info()
        hits, misses = self._before.get(encoder, (0, 0))
        self._before[encoder] = found.hits, found.misses
        return found.hits - hits, found.misses - misses

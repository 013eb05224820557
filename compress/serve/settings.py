"""How a bundle is served: addresses, processes, and the bounds that a client meets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress.artifacts import Runtime
from compress.errors import RecipeError
from compress.runtime.text_cache import CACHED_TEXTS

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus-client keeps the values of all processes; it must be set before that is imported."""
MAX_TEXT = 32_768
"""Characters of one text or column at the most: far beyond `max_length` tokens, and little work to refuse."""
MAX_ID = 1_024
"""Characters of an id at the most."""


@dataclass(frozen=True)
class Settings:
    """What `kdc serve` was asked for.

    threads: of the model, in each worker; its tokenizer takes no more either. runtime: which of the bundle's models;
    auto takes the first that can run on this machine. cached_texts: how many texts' tokens each worker keeps for when
    they come again; 0 keeps none. max_batch: texts that one call of the model answers, >= 1.
    max_wait: seconds that a text may wait for others while the model is idle, >= 0.
    queue: texts that may wait in one worker, beyond which a request is answered with 429.
    max_rows: texts in one request at the most. max_bytes: of a request's body.
    timeout: seconds to read a request's body, and again to answer it; also how long a stopping server waits for its
    last answers beyond that.
    """

    workers: int = 1
    threads: int = 1
    runtime: Runtime | Literal["auto"] = "auto"
    cached_texts: int = CACHED_TEXTS
    max_batch: int = 32
    max_wait: float = 0.0
    queue: int = 1024
    max_rows: int = 256
    max_bytes: int = 1 << 20
    timeout: float = 10.0

    def __post_init__(self) -> None:
        if self.max_rows > self.queue:
            raise RecipeError(
                f"--max-rows {self.max_rows} is more than --queue {self.queue}: such a request would never find room; "
                "raise --queue or lower --max-rows"
            )

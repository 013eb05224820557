"""Examples to token rows, with the same encoder that the device uses."""

from __future__ import annotations

from compress.batch import Encoded, Examples
from compress.runtime.text import TextEncoder


def encode_examples(encoder: TextEncoder, examples: Examples) -> Encoded:
    """Tokenise a split once; long rows are cut to the encoder's length and counted."""
    ids, type_ids, truncated = encoder.encode(examples.texts, examples.pairs)
    return Encoded(ids=ids, type_ids=type_ids, pad_id=encoder.pad_id, truncated=truncated)

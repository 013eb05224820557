"""Embeddings at 4 bits: two codes a byte, a scale for every 32 numbers of a row, read by GatherBlockQuantized.

Of a block x let b be its number of largest size. With the scale s = -b / 8,

    code = clip(round(x / s), -8, 7) + 8,      x ≈ (code - 8) · s,

so that b itself is exact, and the 16th code is not lost as it would be with s = |b| / 7. Five bits a number, scales
included. onnxruntime's own quantizer of embeddings does the same, but wants operator set 21.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compress.batch import Floats
from compress.errors import DataError

NIBBLE_BITS = 4
BLOCK = 32
"""Numbers that share a scale."""
HALF = 8
"""Codes below and above 0."""


def packed(table: Floats, name: str) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Codes [V, H / 2] of a table [V, H], the first of two in the low half of a byte, and scales [V, ceil(H / 32)].

    Raises:
        DataError: H is odd.
    """
    rows, width = table.shape
    if width % 2:
        raise DataError(
            f"quantize.embedding_bits: 4 puts two codes into a byte, but a row of {name} has {width} numbers, which is "
            "odd: take 8"
        )
    blocks = -(-width // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :width] = table
    parts = padded.reshape(rows, blocks, BLOCK)
    largest = np.take_along_axis(parts, np.abs(parts).argmax(axis=2, keepdims=True), axis=2)
    scales = np.where(largest == 0, np.float32(1), largest / np.float32(-HALF))
    codes = (np.rint(parts / scales).clip(-HALF, HALF - 1) + HALF).astype(np.uint8)
    flat = codes.reshape(rows, -1)[:, :width]
    return (flat[:, ::2] | flat[:, 1::2] << NIBBLE_BITS).astype(np.uint8), scales[:, :, 0]

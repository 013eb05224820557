"""What a TensorRT engine file says of itself in its first bytes, before anything loads it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compress.errors import IntegrityError

Builder = Literal["tensorrt-rtx", "tensorrt"]
SUFFIX = ".engine"
MAGIC = b"vtrt"
"""Of tensorrt-rtx. `tensorrt` has another first byte."""
TENSORRT = b"trt"
HEADER_BYTES = 64
LENGTH_AT, VERSION_AT, GPUS_AT = 16, 24, 32
"""Where an engine of tensorrt-rtx 1.7 has its length (u64), its builder's version (4 bytes) and its GPUs (a mask)."""
CAPABILITY_BITS = {"sm75": 1, "sm80": 2, "sm86": 4, "sm89": 8, "sm120": 16, "sm121": 32}
"""Bit of each GPU generation in that mask."""


@dataclass(frozen=True)
class Plan:
    """Which package built an engine, in which version, for which GPUs; None and () where the file does not tell."""

    builder: Builder
    version: str | None = None
    gpus: tuple[str, ...] = ()


def read_plan(path: Path) -> Plan:
    """The header of an engine file.

    Raises:
        IntegrityError: it is no engine, or was cut short.
    """
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    size = path.stat().st_size
    if len(head) < HEADER_BYTES or head[1:4] != TENSORRT:
        raise IntegrityError(
            f"{path} is no TensorRT engine: it has {size} bytes that begin with {head[:4]!r}; build it again"
        )
    if head[:4] != MAGIC:
        return Plan("tensorrt")
    length = struct.unpack_from("<Q", head, LENGTH_AT)[0]
    if length > size:
        raise IntegrityError(f"{path} has {size} bytes, its header tells of {length}: it was cut short; build it again")
    mask = head[GPUS_AT]
    gpus = tuple(gpu for gpu, bit in CAPABILITY_BITS.items() if mask & bit)
    return Plan("tensorrt-rtx", ".".join(map(str, head[VERSION_AT : VERSION_AT + 4])), gpus)

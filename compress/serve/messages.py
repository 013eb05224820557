"""What supervisor and workers say to each other, through a pipe for each worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compress.errors import KdcError


@dataclass(frozen=True)
class Prepare:
    """Load and check a new bundle, beside the one that serves; answered with Told."""

    number: int
    path: Path


@dataclass(frozen=True)
class Commit:
    """Serve what was prepared; answered with Told."""

    number: int


@dataclass(frozen=True)
class Refuse:
    """Drop what was prepared, if anything; /ready gives the reason."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """Answer what is there, then end."""


Order = Prepare | Commit | Refuse | Stop


@dataclass(frozen=True)
class Told:
    """What came of the start of a worker (number 0) or of an order; no error, no fault."""

    number: int
    error: KdcError | None = None
    batch_difference: float = 0.0

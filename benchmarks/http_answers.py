"""Answers over HTTP beside those of this process: the same requests as JSON, and when two answers are the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from compress.runtime.predictor import Request

TOLERANCE = 1e-5
"""Largest difference of a number, at least: texts that share a batch may change each other's last digits."""


def body_of(request: Request) -> dict[str, Any]:
    """A request as JSON."""
    return {name: value for name, value in asdict(request).items() if value is not None}


def same(found: Any, wanted: Any, tolerance: float) -> bool:
    """Equal but for so much in numbers, as a share of those above 1."""
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(same(found[k], wanted[k], tolerance) for k in wanted)
        )
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(same(*both, tolerance) for both in zip(found, wanted, strict=True))
    return (
        abs(found - wanted) <= tolerance * max(1, abs(wanted)) if isinstance(wanted, float) else bool(found == wanted)
    )

"""The page of results: the newest row of each recipe and seed, and means over seeds."""

from __future__ import annotations

from typing import Any

from benchmarks.record import draw, newest


def row(recipe: str, seed: int, shipped: float, **changes: Any) -> dict[str, Any]:
    quality = {"teacher": {"f1": 0.8}, "control": {"f1": 0.7}, "shipped": {"f1": shipped}}
    return {
        "recipe": recipe,
        "seed": seed,
        "student": "mobile",
        "metric": "f1",
        "quality": quality,
        "retention": shipped / 0.8,
        "distillation_gain": shipped - 0.7,
        "speedup": 30.0,
        "p50_ms": {"teacher": 10.0, "shipped": 0.25},
        "p99_ms": {"shipped": 0.5},
        "teacher_bytes": 90_000_000,
        "bundle_bytes": 2_000_000,
        "device": "a processor, 2 cores",
        "date": "2026-01-01",
        "commit": "abc",
        "command": "kdc run",
        "digest": "0123",
    } | changes


def test_a_later_run_takes_the_place_of_an_earlier_one() -> None:
    first, other, again = row("a", 1, 0.5), row("b", 1, 0.6), row("a", 1, 0.76)
    assert newest([first, other, again]) == [again, other]


def test_the_tables() -> None:
    page = draw([row("a", 1, 0.76), row("a", 2, 0.72), row("b", 1, 0.6, bundle_bytes=None, distillation_gain=None)])
    lines = page.splitlines()
    assert "| a | 1 | mobile | f1 | – | 80.0 | 70.0 | – | 76.0 | 95.0% | +6.0 |" in lines
    spread = "74.0 (72.0 to 76.0) | 92.5% (90.0 to 95.0) | 4.0 (2.0 to 6.0)"
    assert f"| a | 1, 2 | mobile | f1 | – | 80.0 | 70.0 | – | {spread} |" in lines
    assert "| b | 1 | mobile | f1 | – | 80.0 | 70.0 | – | 60.0 | 75.0% | – |" in lines
    assert "| a | 1 | 10.00 | 0.25 | 0.50 | 30.0 | 90.0 | 2.0 | 45.0 |" in lines
    assert "| b | 1 | 10.00 | 0.25 | 0.50 | 30.0 | – | – | – |" in lines
    assert not any(line.startswith("| b | 1,") for line in lines)

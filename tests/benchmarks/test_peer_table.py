"""The table of students that peers trained: means over seeds, reasons, where each row comes from."""

from __future__ import annotations

from typing import Any

from benchmarks.peer_table import draw_peers, peer_table


def row(peer: str, seed: int, test: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "peer": peer,
        "version": "1.0",
        "recipe": "a-mobile",
        "data": "a",
        "student": "mobile",
        "digest": f"run{seed}",
        "settings": "x",
        "seed": seed,
        "steps": 1290,
        "metric": "f1",
        "test": test,
        "teacher": 0.8,
        "control": 0.7,
        "kdc": 0.75 + seed / 100,
        "minutes": 2.5,
        "not_run": None,
        "device": "a processor, 2 cores",
        "date": "2026-01-01",
        "commit": "abc",
        "changed": False,
        "command": "python -m benchmarks.students",
    } | changes


def test_the_table_has_means_over_seeds_and_the_reasons() -> None:
    rows = [
        row("textbrewer", 1, 0.1),  # replaced by the newer row below
        row("textbrewer", 1, 0.72),
        row("textbrewer", 2, 0.74),
        row("torchdistill", 1, 0.5, settings="older"),
        row("sentence-transformers", 2, None, not_run="it reads two texts", version=None, minutes=None),
        row("model2vec", 1, 0.6, steps=None),
    ]
    lines = peer_table(rows)
    named = "teacher | control | kdc | textbrewer | torchdistill | sentence-transformers | model2vec"
    assert lines[0] == f"| data | student | metric | seeds | {named} |"
    assert lines[2] == (
        "| a | mobile | f1 | 1, 2 | 80.0 | 70.0 | 76.5 (76.0 to 77.0) | 73.0 (72.0 to 74.0) | – | not run | 60.0 |"
    )
    assert "- sentence-transformers, a-mobile (seed 2): not run: it reads two texts." in lines
    assert any(line.startswith("- textbrewer 1.0, a-mobile (seed 1): 1,290 steps in 2.5 minutes.") for line in lines)
    assert any(line.startswith("- model2vec 1.0, a-mobile (seed 1): its own number of steps in 2.5") for line in lines)
    assert draw_peers([]) == ""
    assert "\n".join(lines) in draw_peers(rows)

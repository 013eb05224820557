"""Rows of the start-up benchmark: what misses a limit, and the table."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.start_up import missed
from benchmarks.start_up_table import draw_start_up


def row(**changes: Any) -> dict[str, Any]:
    found = {
        "bundle": "shop",
        "family": "mobile",
        "model_mib": 1.9,
        "help_s": 0.3,
        "predict_s": 0.6,
        "load_s": 0.2,
        "load_cpu_s": 0.2,
        "beyond_model_mib": 40.0,
        "peak_with_libraries_mib": 87.0,
        "warm_ratio": 1.35,
        "cold_ratio": 1.9,
        "machine": {"processor": "AMD EPYC"},
        "date": "2026-11-23T10:00:00+00:00",
        "commit": "abc1234",
    }
    return found | changes


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, []),
        ({"family": "transformer"}, ["warm_ratio 1.35 > 1.3"]),
        ({"family": "static", "warm_ratio": 2.5}, []),
        ({"help_s": 0.6, "beyond_model_mib": 61.0}, ["help_s 0.6 > 0.5", "beyond_model_mib 61.0 > 60.0"]),
    ],
)
def test_a_row_misses_what_is_beyond_its_limit(changes: dict[str, Any], what: list[str]) -> None:
    assert missed(row(**changes)) == what


def test_the_newest_row_of_each_bundle_is_drawn() -> None:
    drawn = draw_start_up([row(load_s=0.4), row(bundle="other", family="transformer"), row(load_s=0.2)])
    assert "|  | limit | shop (mobile, 1.9 MiB) | other (transformer, 1.9 MiB) |" in drawn
    assert "| `compress.load` and an answer, s | 0.5 | 0.2 | 0.2 |" in drawn
    assert draw_start_up([]) == ""

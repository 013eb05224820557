"""The null path works; how long it takes is for `python -m benchmarks.harness` to say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import harness
from compress.bench import measure


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_SECONDS", 0.01)


def test_both_ways_are_measured_and_a_row_is_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness.reporter, "quiet", True)
    out = tmp_path / "harness.jsonl"
    monkeypatch.setattr(sys, "argv", ["harness", "--queries", "200", "--repeats", "2", "-o", str(out)])
    harness.main()
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row == json.loads(capsys.readouterr().out)
    for way in ("loop", "loadgen"):
        assert 0 < row[way]["p50_us"] <= row[way]["p99_us"]
        assert row[way]["below_2_percent_from_ms"] == pytest.approx(row[way]["p50_us"] / 20, abs=1e-3)
    assert {"date", "commit", "machine"} <= row.keys()


def test_without_loadgen_its_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "available", lambda package: False)
    found = harness.measure(50, 1)
    assert found["loadgen"] == "not run: mlcommons-loadgen is not installed"
    assert found["loop"]["p50_us"] > 0

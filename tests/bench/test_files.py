"""Results on disk, and compared results."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.bench.compare import Figure, compare, ratio
from compress.bench.files import SCHEMA, append_results, check_appendable, origin, read_results
from compress.bench.results import BenchResult
from compress.bench_table import print_ratios
from compress.errors import DataError, EnvironmentProblem
from tests.full_disk import full_beyond


def row(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"artifact": "shipped", "scenario": "single-stream", "threads": 1, "p50_ms": 2.0}
    return BenchResult(**(fields | changes)).model_dump()


def test_rows_are_appended_with_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    made = origin({"processor": "abacus"})
    append_results(path, [row()], made)
    before = path.read_bytes()
    append_results(path, [row(artifact="teacher"), row(partial=True)], made)
    assert path.read_bytes().startswith(before)
    rows = read_results(path)
    assert [found["artifact"] for found in rows] == ["shipped", "teacher", "shipped"]
    assert rows[0]["schema"] == SCHEMA
    assert rows[0]["device"] == {"processor": "abacus"}
    assert rows[0]["date"].endswith("+00:00")
    assert rows[0]["kdc"]
    assert rows[2]["partial"] is True
    assert {"commit", "p50_ms", "status"} <= rows[0].keys()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"schema": 99}', "schema 99, this kdc reads 1"),
        ('{"epoch": 3}', "has no schema"),
        ("[1]", "has no schema"),
        ("name,value", "is not JSON"),
        ('{"schema": 1, "artifact": "x"}', "has no 'target'"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "other.jsonl"
    append_results(path, [row()], origin({}))
    with path.open("a") as stream:
        stream.write(line + "\n")
    before = path.read_bytes()
    with pytest.raises(DataError, match=reason) as error:
        check_appendable(path)
    assert f"{path}:2" in str(error.value)
    assert path.read_bytes() == before


def test_ratios_of_what_both_measured() -> None:
    before = [row(p50_ms=2.0, p50_ci_low=1.8, p50_ci_high=2.2, qps=500.0), row(artifact="teacher")]
    after = [row(p50_ms=1.0, p50_ci_low=0.95, p50_ci_high=1.05, qps=1000.0), row(artifact="control")]
    (found,) = compare(before, after)
    assert found["artifact"] == "shipped"
    assert (found["p50_ms"], found["p50_ms_ratio"], found["qps_ratio"]) == (1, 0.5, 2)
    # By hand: distances on the logarithm are the roots of the sums of squares.
    low = 0.5 * math.exp(-math.hypot(math.log(1 / 0.95), math.log(2.2 / 2)))
    high = 0.5 * math.exp(math.hypot(math.log(1.05 / 1), math.log(2 / 1.8)))
    assert (found["p50_ms_ratio_low"], found["p50_ms_ratio_high"]) == pytest.approx((low, high))


def test_the_interval_of_a_ratio_covers_the_true_one() -> None:
    """Two normal logarithms with their own 95% intervals: the ratio's interval is that of the difference."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(500):
        one, other = math.exp(rng.normal(0, 0.1)), math.exp(rng.normal(0.5, 0.2))
        found = ratio(
            Figure(one, one * math.exp(-0.196), one * math.exp(0.196)),
            Figure(other, other * math.exp(-0.392), other * math.exp(0.392)),
        )
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= math.exp(-0.5) <= found.high
    assert 0.92 < covered / 500 < 0.98


def test_an_end_that_one_side_lacks_is_not_made_up() -> None:
    found = ratio(Figure(2, 1, None), Figure(4, 3, 5))
    assert (found.value, found.high) == (0.5, None)
    assert found.low is not None


def test_one_artifact_each_may_have_another_name_and_repeats_count_by_their_median() -> None:
    before = [row(p50_ms=value, artifact="old.kdc") for value in (1.0, 2.0, 9.0)]
    (found,) = compare(before, [row(p50_ms=4.0, artifact="new.kdc")])
    assert found["p50_ms_ratio"] == 2


def test_rates_that_were_found_are_compared_at_their_bound() -> None:
    server: dict[str, Any] = {"scenario": "server", "p99_bound_ms": 10.0, "load": "loadgen 6"}
    (found,) = compare([row(offered_qps=100.0, **server)], [row(offered_qps=150.0, **server)])
    assert found["offered_qps_ratio"] == 1.5


def test_compared_rows_are_told_apart_by_rate_and_processes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    server: dict[str, Any] = {"scenario": "server", "load": "loadgen 6"}
    rows = [row(offered_qps=rate, **server) for rate in (100.0, 200.0)]
    print_ratios(compare(rows, rows))
    printed = capsys.readouterr().out
    assert "offered/s" in printed
    assert {"100.0", "200.0"} <= set(printed.replace("│", " ").split())
    assert "processes" not in printed
    alone = [row(processes=4), row()]
    print_ratios(compare(alone, alone))
    assert "processes" in capsys.readouterr().out


def _printed(rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> str:
    print_ratios(rows)
    return capsys.readouterr().out


def test_numbers_are_printed_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An interval cut off after its first end says less than nothing."""
    figures: dict[str, Any] = {"scenario": "server", "load": "loadgen 6", "offered_qps": 100.0, "length": 16}
    figures |= {"p50_ms": 1234.567, "p50_ci_low": 1000.0, "p50_ci_high": 1500.0, "qps": 12345.0, "p99_ms": 2345.678}
    rows = compare(*([row(**figures), row(**figures | {"qps": 10000.0})] for _ in range(2)))
    piped = _printed(rows, capsys)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    paragraphs = _printed(rows, capsys)
    for printed in (piped, paragraphs):
        assert "…" not in printed
        for whole in ("1,234.567", "2,345.678", "1.00 (0.75–1.33)", "100.0", "tokens", "onnxruntim"):
            assert whole in printed.replace("\n", " ")
    assert "━" in piped
    assert max(map(len, paragraphs.splitlines())) <= 80


def test_files_without_a_common_measurement() -> None:
    with pytest.raises(DataError, match=r"shipped onnxruntime-cpu single-stream.*server"):
        compare([row()], [row(scenario="server", offered_qps=9.0)])
    with pytest.raises(DataError, match="no measurement in common"):
        compare([row()], [row(partial=True)])


def test_rows_without_a_partner_are_told_by_what_differs() -> None:
    with pytest.raises(
        DataError, match=r"the first has shipped onnxruntime-cpu single-stream, threads 1, the second .* 2$"
    ):
        compare([row()], [row(threads=2)])
    with pytest.raises(DataError, match=r"the second shipped onnxruntime-cpu single-stream \(partial\)$"):
        compare([row()], [row(partial=True)])


def test_a_last_line_without_its_end_stays_a_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_results(path, [row()], origin({}))
    path.write_bytes(path.read_bytes().rstrip())
    append_results(path, [row(threads=2)], origin({}))
    assert [found["threads"] for found in read_results(path)] == [1, 2]


def test_a_full_disk_leaves_no_half_row(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_results(path, [row()], origin({}))
    before = path.read_bytes()
    with full_beyond(len(before) + 100), pytest.raises(EnvironmentProblem, match=f"the disk is full: {path}"):
        append_results(path, [row()], origin({}))
    assert path.read_bytes() == before


def test_lines_are_plain_json(tmp_path: Path) -> None:
    append_results(tmp_path / "r.jsonl", [row()], origin({}))
    (line,) = (tmp_path / "r.jsonl").read_text().splitlines()
    assert json.loads(line)["p50_ms"] == 2.0

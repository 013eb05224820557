"""One model measured twice: the ratios of each pair, the limit, and the row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import repeatability
from benchmarks.repeatability import summed_up
from tests.tiny import tiny_deployable, tiny_requests


def test_pairs_are_compared_one_by_one() -> None:
    """What drifts from pair to pair is no difference of two measurements."""
    found = summed_up([1.0, 1.02, 2.0, 1.98, 3.0, 3.0])
    assert found["ratios"] == [1.02, 1.0101, 1.0]
    assert (found["median_ratio"], found["largest_ratio"], found["within_limit"]) == (1.0101, 1.02, True)
    assert not summed_up([1.0, 1.03])["within_limit"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(repeatability, "distinct_requests", lambda run, count, overrides: tiny_requests())
    return tiny_deployable(tmp_path / "shop-0123" / "quantized").parent


def test_a_pair_is_measured_apart_and_side_by_side(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    repeatability.main([str(run), "--pairs", "1", "--queries", "20", "-o", str(out)])
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row == json.loads(capsys.readouterr().out)
    first, second = row["p50_ms"]
    assert row["ratios"] == [pytest.approx(max(first, second) / min(first, second), abs=1e-3)]
    assert len(row["side_by_side"]["p50_ms"]) == 2
    assert row["command"].startswith("python -m benchmarks.repeatability runs/shop-0123 --artifact quantized")
    assert {"date", "commit", "machine"} <= row.keys()


@pytest.mark.parametrize(
    ("apart", "together", "said"),
    [([1.0, 1.1], [1.0, 1.0], "apart, differ by 10.0%"), ([1.0, 1.1], [1.0, 1.05], "side by side, differ by 5.0%")],
)
def test_a_pair_that_differs_ends_with_5_and_is_kept(
    apart: list[float],
    together: list[float],
    said: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one_by_one = iter(apart)
    monkeypatch.setattr(
        repeatability, "p50_ms", lambda models, *_: together if len(models) == 2 else [next(one_by_one)]
    )
    out = tmp_path / "rows.jsonl"
    with pytest.raises(SystemExit) as ended:
        repeatability.main([str(run), "--pairs", "1", "-o", str(out), "--check"])
    assert ended.value.code == 5
    assert f"{said} in p50 (less than 3%)" in capsys.readouterr().err
    row = json.loads(out.read_text())
    assert (row["p50_ms"], row["side_by_side"]["p50_ms"]) == (apart, together)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [(["--pairs", "0"], 2, "--pairs is 0"), (["--artifact", "gone"], 4, "`kdc bench")],
)
def test_one_sentence_for_what_cannot_be(
    arguments: list[str], code: int, sentence: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        repeatability.main([str(run), *arguments, "-o", str(tmp_path / "rows.jsonl")])
    assert ended.value.code == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("repeatability: ")
    assert sentence in error

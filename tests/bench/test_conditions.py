"""Conditions on bench rows, as `--fail-if` gives them."""

from __future__ import annotations

import pytest

from compress.bench.compare import compare
from compress.bench.conditions import RATIOS, met, numeric_fields, read_condition
from compress.errors import RecipeError
from tests.bench.test_files import row


def test_conditions() -> None:
    rows = [row(p99_ms=4.0), row(artifact="teacher", p99_ms=6.0), row(artifact="gpu", status="not run: no GPU")]
    found = met(rows, [read_condition("p99_ms>5"), read_condition(" p50_ms <= 1e-1 ")])
    assert found == [
        "p99_ms>5: teacher (onnxruntime-cpu, single-stream, 1 thread(s)): p99_ms is 6",
        "p99_ms>5: gpu (onnxruntime-cpu, single-stream, 1 thread(s)): p99_ms was not measured",
    ]
    rates = [row(scenario="server", offered_qps=rate, p99_ms=rate) for rate in (2.5, 10.0)]
    assert met(rates, [read_condition("p99_ms>5")]) == [
        "p99_ms>5: shipped (onnxruntime-cpu, server at 10/s, 1 thread(s)): p99_ms is 10"
    ]
    assert {"p99_ms", "qps", "peak_mb", "size_bytes", "p99_ci_high"} <= set(numeric_fields())
    assert "status" not in numeric_fields()


def test_an_end_that_few_calls_do_not_give_says_so() -> None:
    few = [row(p99_ci_high=None), row(artifact="gpu", status="not run: no GPU")]
    told, refused = met(few, [read_condition("p99_ci_high>5")])
    assert told.endswith("p99_ci_high is not known, there are too few calls for it: --queries asks more")
    assert refused.endswith("p99_ci_high was not measured")


def test_every_figure_of_compared_rows_can_be_limited() -> None:
    once, twice = [row(qps=500.0)], [row(qps=500.0), row(qps=400.0)]
    (found,) = compare(once, twice)
    assert found.keys() - row().keys() <= set(RATIOS)
    assert "qps_ratio_low" in found
    assert met([found], [read_condition("qps_ratio_high<1.2", compared=True)]) != []
    (told,) = met(compare(once, once), [read_condition("qps_ratio_high<1.2", compared=True)])
    assert told.endswith("this interval takes a file with several rows of the measurement")
    with pytest.raises(RecipeError, match="only compared rows have"):
        read_condition("qps_ratio_high<1.2")


@pytest.mark.parametrize("text", ["p99_ms", "p99_ms=5", "p99_ms>five", "p98_ms>5", "status>1", "p99_ms>1.2.3", ">5"])
def test_a_condition_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(RecipeError, match="--fail-if"):
        read_condition(text)

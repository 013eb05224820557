"""Conditions on bench rows, as `--fail-if` gives them."""

from __future__ import annotations

import pytest

from compress.bench.conditions import met, numeric_fields, read_condition
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


@pytest.mark.parametrize("text", ["p99_ms", "p99_ms=5", "p99_ms>five", "p98_ms>5", "status>1", "p99_ms>1.2.3", ">5"])
def test_a_condition_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(RecipeError, match="--fail-if"):
        read_condition(text)

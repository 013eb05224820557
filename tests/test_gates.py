"""Gates of a run: every model that a bundle would hold keeps the limit, or the run ends with exit code 5."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from compress.recipe import Gates, Quantize
from compress.stages import GATE_OF
from compress.summary import gates


def gates_of(**metrics: Any) -> list[tuple[str, bool]]:
    recipe = SimpleNamespace(quantize=Quantize(max_quality_loss=0.01), gates=Gates())
    run: Any = SimpleNamespace(recipe=recipe, artifacts={"quantized": SimpleNamespace(metrics=metrics)})
    found = gates(run, {"models": {}})
    assert all(GATE_OF[gate["gate"]] == "quantized" for gate in found)
    return [(gate["gate"], gate["passed"]) for gate in found]


@pytest.mark.parametrize(("loss", "passed"), [(0.01, True), (0.011, False), (float("nan"), False)])
def test_the_portable_model_has_the_floor_of_the_shipped_one(loss: float, passed: bool) -> None:
    """Most devices answer with it: a run that ships one beyond the limit does not end well."""
    assert gates_of(quality_loss=0.0) == [("quantize.max_quality_loss", True)]
    assert gates_of(quality_loss=0.0, portable={"quality_loss": loss}) == [
        ("quantize.max_quality_loss", True),
        ("quantize.portable", passed),
    ]

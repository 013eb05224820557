"""The machine's roofs: every one is a rate or says why not, and the arithmetic of the rate is right."""

from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from compress.bench import limits
from compress.cli import app


def test_a_rate_is_work_over_the_quickest_call_of_the_best_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.05)
    slow, quick = (lambda: time.sleep(0.02)), (lambda: time.sleep(0.01))
    found = limits._best("waiting", "naps/s", 5.0, {"slow": slow, "quick": quick})
    assert found.by == "quick"
    assert found.value is not None
    assert 300 < found.value <= 500


def test_what_nothing_here_can_measure_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "available", lambda package: False)
    assert limits._torch_products(1, "bfloat16") == {}
    assert limits._onnxruntime_int8(1) == {}
    found = limits._best("bf16 GEMM", "GFLOP/s", 1.0, {})
    assert found.value is None
    assert str(found.reason).startswith("not run: ")


def test_doctor_tells_the_limits_of_this_machine() -> None:
    done = CliRunner().invoke(app, ["doctor", "--limits", "--threads", "1", "--json"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)["limits"]
    assert told["threads"] == 1
    roofs = {roof["name"]: roof for roof in told["roofs"]}
    assert list(roofs) == ["fp32 GEMM", "bf16 GEMM", "int8 GEMM", "memory read"]
    assert all(roof["value"] > 0 and roof["by"] for roof in roofs.values())
    shown = CliRunner().invoke(app, ["doctor"])
    assert "limits" not in shown.stdout
    idle = CliRunner().invoke(app, ["doctor", "--threads", "2"])
    assert idle.exit_code == 2
    assert "--threads has no effect without --limits" in idle.stderr

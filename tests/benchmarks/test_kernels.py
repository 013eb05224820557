"""The kernels' benchmark: contestants take turns, a failure is a row, targets are held, rows become a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import kernel_cases, kernels
from benchmarks.kernel_cases import FORMULA, JENSEN_SHANNON, Case
from benchmarks.kernel_table import draw_kernels, kernel_table
from compress.errors import EnvironmentProblem, GateError

CPU = torch.device("cpu")


def row(contestant: str, milliseconds: float = 1.0, extra: float = 1.0, kernel: str = "linear_kd") -> dict[str, Any]:
    times = dict.fromkeys(("p20_ms", "p50_ms", "p80_ms"), milliseconds)
    sizes = {"N": 2048, "loss": "kl"}
    return {
        "device": "cpu",
        "date": "2026-11-23T05:00:00",
        "commit": "abc",
        "machine": {"processor": "P", "cores": 2},
        "kernel": kernel,
        "sizes": sizes,
        "dtype": "float32",
        "contestant": contestant,
        "extra_mb": extra,
        "gb_a_second": None,
    } | times


@pytest.mark.parametrize(
    "make",
    [
        lambda: kernel_cases.linear(CPU, torch.float32, 5, 40, 3, FORMULA),
        lambda: kernel_cases.linear(CPU, torch.float32, 5, 40, 3, JENSEN_SHANNON),
        lambda: kernel_cases.sparse(CPU, torch.float32, 5, 40, 3, 4),
        lambda: kernel_cases.logits(CPU, torch.float32, 5, 40),
        lambda: kernel_cases.relations(CPU, torch.float32, 2, 2, 5, 6),
        lambda: kernel_cases.hidden(CPU, torch.float32, 8, 6, 5),
    ],
)
def test_contestants_compute_the_same(make: Any) -> None:
    case = make()
    found = {}
    for name in case.runs.keys() - {"Liger"}:
        for leaf in case.leaves:
            leaf.grad = None
        loss = case.runs[name]()
        loss.backward()
        found[name] = (loss.detach(), *(leaf.grad for leaf in case.leaves))
    assert found.keys() >= {"kdc", "torch"}
    for name, values in found.items():
        for ours, torchs in zip(values, found["torch"], strict=True):
            torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-6, msg=name)


def test_a_contestant_that_fails_is_a_row() -> None:
    leaf = torch.zeros(3, requires_grad=True)

    def broken() -> Tensor:
        raise ImportError("no such package")

    runs = {"kdc": leaf.sum, "torch": leaf.sum, "Liger": broken, "huge": leaf.sum}
    case = Case("kd_kl", {"N": 3}, (leaf,), runs, {"huge": 10**15})
    made = {row["contestant"]: row for row in kernels.measure(case, CPU, 2)}
    assert made["Liger"]["not_run"] == "ImportError: no such package"
    assert made["huge"]["not_run"].startswith("needs 1000000 GB, and ")
    assert made["kdc"]["rounds"] == 2
    assert made["kdc"]["p50_ms"] > 0


def test_a_peer_without_an_environment_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leaf = torch.ones(3, requires_grad=True)
    case = Case("kd_kl", {"N": 3}, (leaf,), {"kdc": leaf.sum, "torch": leaf.sum, "Liger": leaf.sum})
    monkeypatch.setattr(kernels, "CASES", {"cpu": lambda: [lambda: case]})
    monkeypatch.setattr(kernels, "KERNEL_ROWS", tmp_path / "kernels.jsonl")
    monkeypatch.setattr(kernels, "enter", lambda name, module: f"{name} could not be installed: no index")
    monkeypatch.setattr(sys, "argv", ["kernels", "--device", "cpu", "--rounds", "1"])
    kernels.main()
    lines = (tmp_path / "kernels.jsonl").read_text(encoding="utf-8").splitlines()
    made = {row["contestant"]: row.get("not_run") for row in map(json.loads, lines)}
    assert made == {"kdc": None, "torch": None, "Liger": "liger-kernel could not be installed: no index"}
    assert "not run: liger-kernel could not be installed: no index" in capsys.readouterr().out


def test_memory_beyond_inputs_and_gradients_is_told() -> None:
    leaf = torch.zeros(1000, requires_grad=True)

    def wasteful() -> Tensor:
        return (leaf * torch.ones(8000, 1000)).sum()

    (made,) = kernels.measure(Case("kd_kl", {"N": 1}, (leaf,), {"kdc": wasteful}), CPU, 3)
    assert made["extra_mb"] >= 32


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row("kdc", 2.0), row("torch", 1.0)], "2.0 ms, and torch takes 1.0"),
        ([row("kdc", extra=70.0), row("torch")], "70 MB beyond inputs and gradients, and 67 are allowed"),
        (
            [row("kdc", extra=10.0, kernel="relation_kd"), row("torch", extra=70.0, kernel="relation_kd")],
            "10.0 MB, and torch takes 70.0",
        ),
        ([row("kdc") | {"not_run": "broken"}, row("torch")], "not run: broken"),
    ],
)
def test_targets_are_held(rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(GateError, match=words):
        kernels.check(rows, "cpu")


def test_a_target_is_met_where_torch_does_not_fit() -> None:
    kernels.check([row("kdc", 9.0), row("torch") | {"not_run": "needs 49 GB"}], "cpu")
    kernels.check([row("kdc", kernel="relation_kd"), row("torch", extra=7.0, kernel="relation_kd")], "cpu")


def test_on_a_gpu_liger_is_the_rival() -> None:
    kernels.check([row("kdc", 2.0, 100.0), row("torch", 1.0), row("Liger", 3.0, 200.0)], "cuda")
    with pytest.raises(GateError, match=r"2\.0 ms, and Liger takes 1\.0"):
        kernels.check([row("kdc", 2.0), row("Liger", 1.0, 9.0)], "cuda")
    with pytest.raises(GateError, match=r"101\.0 MB, and Liger takes 200\.0"):
        kernels.check([row("kdc", 2.0, 101.0), row("Liger", 3.0, 200.0)], "cuda")


def test_another_loss_is_no_contestant() -> None:
    leaf = torch.ones(3, requires_grad=True)
    runs = {"kdc": leaf.sum, "torch": lambda: leaf.sum() * 1.5}
    made = kernels.measure(Case("kd_kl", {"N": 3}, (leaf,), runs), CPU, 1)
    assert made[1]["not_run"] == "its loss is 4.5, and kdc's 3: not the same loss"


def test_the_table_has_ratios_and_reasons() -> None:
    rows = [row("kdc", 2.0), row("torch", 5.0, 300.0), row("Liger") | {"not_run": "ImportError: liger_kernel"}]
    text = "\n".join(kernel_table(rows))
    assert "| linear_kd | N 2,048, loss kl | float32 | torch | 5.0 (5.0 to 5.0) | 2.50 | 300.0 | – |" in text
    assert "not run: ImportError: liger_kernel" in text
    page = draw_kernels([row("kdc", 99.0), *rows])
    assert "99.0" not in page
    assert "GPU: not run" in page
    assert draw_kernels([]) == ""


def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentProblem, match="no CUDA device"):
        kernels.run_all(torch.device("cuda"), 1, None)

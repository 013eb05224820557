"""Gates of a run: every model that a bundle would hold keeps the limit, or the run ends with exit code 5."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compress.artifacts import ONNX, read_artifact, verify_artifact
from compress.recipe import Gates, Quantize
from compress.stages import GATE_OF
from compress.summary import gates
from tests import tiny_models
from tests.tiny_project import SUMMARY_KEYS, kdc, kdc_json, leftovers, recipe_of, statuses, write_recipe

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)


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


@pytest.fixture(scope="module")
def passed(tiny_project: Path) -> Path:
    """The recipe of a run that is finished, so that another gate is quickly judged."""
    recipe = write_recipe(tiny_project, recipe_of("classification", "mobile"), "classification-mobile.yaml")
    kdc_json("run", recipe, "--runs", tiny_project / "runs")
    return recipe


@pytest.mark.parametrize(
    ("gate", "change", "limit"),
    [
        ("p99_ms", "gates.p99_ms=0.000001", 1e-6),
        ("quality", "gates.quality={metric: accuracy, retain: 2}", 2),
        ("size_mb", "gates.size_mb=0.000001", 1e-6),
        ("speedup", "gates.speedup=1000000", 1e6),
    ],
)
def test_a_gate_that_is_not_met_ends_with_5_and_keeps_everything(
    passed: Path, tiny_project: Path, gate: str, change: str, limit: float
) -> None:
    done = kdc("run", passed, "--runs", tiny_project / "runs", "--set", change, "--json")
    assert done.exit_code == 5
    summary = json.loads(done.stdout)
    assert summary.keys() >= SUMMARY_KEYS
    failed = [row for row in summary["gates"] if not row["passed"]]
    assert [(row["gate"], row["limit"]) for row in failed] == [(gate, limit)]
    assert f"kdc: gate {gate}: {failed[0]['value']:.4g}, limit {limit:.4g}" in done.stderr
    assert set(statuses(summary).values()) <= {"reused", "done", "skipped"}
    assert kdc_json("verify", summary["bundle"])["ok"]
    assert json.loads((Path(summary["run"]) / "summary.json").read_bytes()) == summary


def test_a_failed_gate_is_printed_with_the_summary(passed: Path, tiny_project: Path) -> None:
    done = kdc("run", passed, "--runs", tiny_project / "runs", "--set", "gates.p99_ms=0.000001")
    assert done.exit_code == 5
    assert "shipped" in done.stdout
    assert "gate p99_ms        NOT MET" in done.stdout


def test_a_gate_that_cannot_be_judged_is_not_met(passed: Path, tiny_project: Path) -> None:
    # the speed-up is a ratio of single-stream latencies
    changes = ("--set", "gates.speedup=2", "--set", "bench.scenarios=[offline]")
    done = kdc("run", passed, "--runs", tiny_project / "runs", *changes)
    assert done.exit_code == 5
    assert "gate speedup: not measured, limit 2" in done.stderr
    assert re.search("gate speedup +NOT MET: –, limit 2", done.stdout)


def negate(source: Path, target: Path) -> None:
    """Write a model that says the opposite of another."""
    import onnx

    model = onnx.load(str(source))
    for node in model.graph.node:
        node.output[:] = ["plain" if name == "logits" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Neg", ["plain"], ["logits"]))
    onnx.save(model, str(target))


def test_a_loss_of_quality_by_quantization_marks_the_stage_as_failed(
    passed: Path, tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.quantize import methods

    monkeypatch.setattr(methods, "quantize_static_int8", lambda source, target, *_, **__: negate(source, target))
    change = "quantize.max_quality_loss=0"
    for _ in range(2):  # made, then reused: it stays failed
        done = kdc("run", passed, "--runs", tiny_project / "runs", "--set", change, "--json")
        assert done.exit_code == 5
        summary = json.loads(done.stdout)
        row = next(row for row in summary["stages"] if row["stage"] == "quantized")
        assert row["status"] == "failed"
        assert "quality loss" in row["reason"]
        assert not summary["gates"][0]["passed"]
        assert "gate quantize.max_quality_loss" in done.stderr
        assert kdc_json("verify", summary["bundle"])["ok"]
    artifact = read_artifact(Path(summary["run"]) / "quantized")
    assert artifact is not None
    assert artifact.status == "failed"


def test_the_layer_that_costs_quality_stays_in_float(
    passed: Path, tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.quantize import methods
    from compress.quantize.layers import layers_of
    from compress.quantize.preprocess import prepared

    quantize, spoiled = methods.quantize_static_int8, []

    def harmful(source: Path, target: Path, *given: Any, keep_float: frozenset[str], **options: Any) -> None:
        """The third convolution, once quantized, turns every answer into its opposite."""
        layers = [layer for layer in layers_of(prepared(source), source) if layer.operator == "Conv"]
        spoiled[:] = [layers[2]]
        quantize(source, target, *given, keep_float=keep_float, **options)
        if layers[2].node not in keep_float:
            negate(target, target)

    monkeypatch.setattr(methods, "quantize_static_int8", harmful)
    done = kdc("run", passed, "--runs", tiny_project / "runs", "--set", "quantize.max_quality_loss=0.4", "--json")
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    found = summary["guard"]
    assert found["met"]
    assert found["kept"] == [spoiled[0].title]
    assert found["before"]["value"] > 0.4 >= found["after"]["value"] == summary["parity"]["quantized"]["quality_loss"]
    assert found["after"]["low"] <= found["after"]["value"] <= found["after"]["high"]
    assert found["ranking"][0]["node"] == spoiled[0].node
    assert found["ranking"][0]["error"] > 1.5  # twice the answer, and rounding
    assert f"{summary['metric']} on" in found["measured"]
    assert f"layers stay in float, so that the quality loss is {found['after']['value']:.4f}" in done.stderr
    assert spoiled[0].title in done.stderr
    assert spoiled[0].title in Path(summary["report"]).read_text(encoding="utf-8")
    assert leftovers(Path(summary["run"])) == []


def test_an_export_that_says_something_else_than_torch_is_kept_marked_failed_and_ends_the_run(
    passed: Path, tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.steps import shipping

    def spoiled(module: Any, target: Path, **options: Any) -> None:
        shipping_export(module, target, **options)
        negate(target, target)

    shipping_export = shipping.export_module
    command = ("run", passed, "--runs", tiny_project / "runs", "--set", "export=[{to: onnx, opset: 19}]", "--json")
    with monkeypatch.context() as patch:
        patch.setattr(shipping, "export_module", spoiled)
        done = kdc(*command)
    assert done.exit_code == 5
    assert re.search(
        r"onnx/student/model.onnx differs from torch by .* in a logit \(limit .*another export.opset",
        done.stderr,
    )
    summary = json.loads(done.stdout)
    assert summary["stages"][-1] | {"seconds": 0} == {
        "stage": "onnx",
        "status": "failed",
        "seconds": 0,
        "reason": summary["stages"][-1]["reason"],
    }
    assert "onnx/control/model.onnx differs" in summary["stages"][-1]["reason"]
    assert summary["bundle"] is None
    folder = Path(summary["run"]) / "onnx"
    artifact = read_artifact(folder)
    assert artifact is not None
    assert artifact.status == "failed"
    verify_artifact(folder, artifact)
    assert (folder / "student" / ONNX).is_file()
    assert statuses(json.loads(kdc(*command).stdout))["onnx"] == "done"  # nothing else has changed but what was wrong

"""A run that ships an OpenVINO model: both models are made, measured, timed on one runtime, packed and verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.artifacts import read_spec
from compress.check import check_packages
from compress.errors import EnvironmentProblem
from compress.recipe.file import load_recipe
from compress.runtime.bundle import open_bundle
from tests import tiny_models
from tests.tiny_project import QUICK_BENCH, kdc_json, recipe_of, write_recipe

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)
SECTIONS = {
    "quantize": {"method": "openvino-int8", "max_quality_loss": 1.0, "calibration": 16},
    "bench": QUICK_BENCH | {"targets": ["onnxruntime-cpu", "torch-cpu"]},
}


def test_a_run_ships_both(tiny_project: Path) -> None:
    recipe = write_recipe(tiny_project, recipe_of("pairs", "static", **SECTIONS), "openvino.yaml")
    summary = kdc_json("run", recipe, "--runs", tiny_project / "runs-openvino")
    quantized = Path(summary["run"]) / "quantized"
    assert (read_spec(quantized).runtime, read_spec(quantized / "portable").runtime) == ("openvino", "onnxruntime")

    timed = {(row["artifact"], row["target"]): row for row in summary["latency"]}
    assert all(row["status"] == "ok" for row in timed.values())
    exported = {(name, f"{on}-cpu") for name in ("teacher", "student", "control") for on in ("openvino", "onnxruntime")}
    trained = {(name, "torch-cpu") for name in ("teacher", "student", "control")}
    own = {("shipped", "openvino-cpu"), ("portable", "onnxruntime-cpu")}
    assert timed.keys() == exported | trained | own
    p50 = {key: row["p50_ms"] for key, row in timed.items()}
    assert summary["speedup"] == pytest.approx(p50["teacher", "openvino-cpu"] / p50["shipped", "openvino-cpu"])

    bundle = open_bundle(Path(summary["bundle"]))
    assert bundle.manifest.spec == read_spec(quantized / "portable")
    assert [variant.spec for variant in bundle.manifest.variants] == [read_spec(quantized)]
    assert bundle.manifest.metrics.keys() == {"teacher", "shipped", "portable"}
    report = kdc_json("verify", summary["bundle"])
    assert report["golden"]["label_mismatches"] == report["variants"]["openvino"]["label_mismatches"] == 0


def test_a_missing_package_is_told_before_the_work(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tiny_project, recipe_of("pairs", "static", **SECTIONS), "openvino.yaml")
    monkeypatch.setattr("compress.check.available", lambda package: package != "nncf")
    with pytest.raises(EnvironmentProblem, match=r"quantize.method: openvino-int8 needs .*pip install 'kdc\[nncf\]'"):
        check_packages(load_recipe(recipe))

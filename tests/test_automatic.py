"""`quantize.method: auto` in a run and on a model: candidates are built for real, their times are given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from compress.artifacts import IR, ONNX, PORTABLE, read_artifact, read_spec
from compress.bench.results import BenchResult
from compress.runtime.bundle import open_bundle
from compress.steps import quantizing
from tests import tiny_models
from tests.tiny import tiny_deployable
from tests.tiny_project import kdc, kdc_json, recipe_of, statuses, write_recipe

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)

TRIED = ["none", "static", "openvino-int8", "openvino-bf16"]
TIMES = {"none": 4.0, "static": 2.0, "openvino-int8": 1.0, "openvino-bf16": 3.0}


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Milliseconds that candidates are said to take, by method; no others are tried."""
    given = dict(TIMES)

    def timed(built: Mapping[str, Path], *_: Any) -> dict[str, BenchResult]:
        return {
            name: BenchResult(artifact=name, scenario="single-stream", threads=1, p50_ms=given.get(name, 9.0), qps=1e3)
            for name in built
        }

    monkeypatch.setattr(quantizing, "_timed", timed)
    monkeypatch.setattr(quantizing, "candidates", lambda **_: TRIED)
    return given


@pytest.mark.long
def test_a_run_ships_the_fastest_good_candidate_and_tells_all(
    tiny_project: Path, tmp_path: Path, times: dict[str, float]
) -> None:
    recipe = recipe_of("classification", "mobile", name="auto")
    recipe["distill"]["control"] = False
    recipe["quantize"] = {"method": "auto", "max_quality_loss": 1.0}
    path = write_recipe(tiny_project, recipe, "auto.yaml")
    found = kdc_json("run", path, "--runs", tmp_path)
    rows = {row["method"]: row for row in found["candidates"]}
    assert list(rows) == TRIED
    assert rows["openvino-int8"]["outcome"] == "shipped"
    assert rows["openvino-int8"]["speedup"] == 4
    assert rows["static"]["outcome"] == "slower than the choice"
    assert rows["none"]["argmax_agreement"] == 1
    assert all(row["size_bytes"] > 0 for row in rows.values())
    folder = Path(found["run"]) / "quantized"
    assert read_spec(folder).runtime == "openvino"
    assert (folder / IR).is_file()
    assert read_spec(folder / PORTABLE).runtime == "onnxruntime"
    artifact = read_artifact(folder)
    assert artifact is not None
    assert artifact.metrics["method"] == "openvino-int8"
    assert artifact.metrics["portable"]["method"] == "static"
    assert open_bundle(Path(found["bundle"])).manifest.candidates == tuple(found["candidates"])
    assert "What was tried" in Path(found["run"], "report.html").read_text(encoding="utf-8")
    assert statuses(kdc_json("run", path, "--runs", tmp_path))["quantized"] == "reused"

    times["openvino-int8"] = 5.0
    other = kdc_json("run", path, "--runs", tmp_path, "--set", "quantize.fastest=single-stream", "--set", "seed=4")
    assert {row["outcome"] for row in other["candidates"] if row["method"] == "openvino-int8"} == {"slower than float"}
    assert not (Path(other["run"]) / "quantized" / PORTABLE).exists()


def test_a_model_is_quantized_by_the_fastest_method(tmp_path: Path, times: dict[str, float]) -> None:
    model = tiny_deployable(tmp_path / "model")
    requests = tmp_path / "requests.jsonl"
    requests.write_text("".join(json.dumps({"text": f"red shoe {n}"}) + "\n" for n in range(40)), encoding="utf-8")
    out = tmp_path / "fast"
    asked = ("quantize", model, "--calibration", requests, "--method", "auto", "-o")
    limit = ("--set", "quantize.max_quality_loss=1")
    found = kdc_json(*asked, out, *limit)
    assert found["candidates"][0]["method"] == "none"
    shipped = next(row for row in found["candidates"] if row["outcome"] == "shipped")
    assert found["method"] == shipped["method"]
    assert (out / "model.json").is_file()
    to_file = kdc_json(*asked, tmp_path / "fast.onnx", *limit)
    assert not any(row["method"].startswith("openvino") for row in to_file["candidates"])
    assert (tmp_path / "fast.onnx").is_file()


def test_auto_on_a_model_wants_requests(tmp_path: Path) -> None:
    done = kdc("quantize", tiny_deployable(tmp_path / "model"), "--method", "auto", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "--method auto needs requests to set ranges, compare answers and time" in done.stderr
    assert not (tmp_path / "out").exists()


def test_options_of_one_method_are_refused_beside_auto(tiny_project: Path) -> None:
    recipe = recipe_of("classification", "mobile", name="auto")
    recipe["quantize"] = {"method": "auto", "bits": 4}
    done = kdc("check", write_recipe(tiny_project, recipe, "wrong.yaml"))
    assert done.exit_code == 2
    assert "quantize.bits has no effect with method auto" in done.stderr
    assert ONNX not in done.stdout

"""`kdc package` of a path: what a bundle carries, and what cannot be packed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.artifacts import ONNX, read_artifact
from compress.bench.results import BenchResult
from compress.bundle.verify import read_golden, verify_bundle
from compress.bundle.write import write_bundle
from compress.errors import IntegrityError, RecipeError
from compress.paths import inspect_path, package_path
from compress.runtime.bundle import BENCH, CARD, open_bundle
from compress.runtime.predictor import Predictor, Request
from tests.tiny import WORDS
from tests.tiny_artifacts import as_stage, damage


def test_a_packed_run_carries_its_figures_and_notes(run: Path, tmp_path: Path) -> None:
    found = package_path(run, tmp_path / "shop.kdc")
    assert found["metrics"] == {"shipped": {"macro_f1": 0.9}}
    assert verify_bundle(tmp_path / "shop.kdc", certificate=True)["certificate"]["rows"] == 3
    facts = inspect_path(tmp_path / "shop.kdc")
    assert facts["certificate"] is True
    assert facts["kind"] == "bundle"
    assert facts["provenance"]["parents"].keys() == {"teacher", "student", "quantized"}
    assert facts["notes"] == ["simulated"]
    assert open_bundle(tmp_path / "shop.kdc").manifest.columns == {"text": ("title", "brand")}


def test_a_packed_run_carries_the_bench_of_this_very_model(run: Path, tmp_path: Path) -> None:
    """The same run gives the same bytes; figures of another model stay out."""
    shipped = read_artifact(run / "quantized")
    assert shipped is not None
    row = BenchResult(artifact="shipped", scenario="single-stream", threads=1, p50_ms=0.4, p99_ms=0.7, qps=2300.0)
    measured = {"latency": [row.model_dump()], "device": {"processor": "AMD EPYC", "cores": 2}}
    (run / "bench").mkdir()
    for parents, there in (({"quantized": shipped.sha256}, True), ({"quantized": "another"}, False)):
        as_stage(run / "bench", "bench", metrics=measured, parents=parents)
        for name in ("a", "b"):
            package_path(run, tmp_path / name / "shop.kdc")
        first, second = (tmp_path / name / "shop.kdc" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
        members = open_bundle(first).members
        assert (BENCH in members) is there
        if there:
            assert json.loads(members[BENCH]) == measured
        assert ("| shipped | single-stream | 1 | 1 | 0.4 | 0.7 | 2,300 | – |" in members[CARD].decode()) is there


def test_a_packed_run_asks_and_says_what_its_own_bundle_does(run: Path, model: Path, tmp_path: Path) -> None:
    """The test rows and the teacher's measures are in the run's bundle alone; that of another model is left aside."""
    shipped = read_artifact(run / "quantized")
    assert shipped is not None
    asked = [Request(f"{word} shoes", id=f"row-{place}") for place, word in enumerate(WORDS[:6])]
    facts: dict[str, Any] = {
        "metrics": {"teacher": {"macro_f1": 0.95}, "shipped": {"macro_f1": 0.9}},
        "provenance": {"recipe_digest": "r", "data": "d", "teacher": "t", "parents": {"quantized": shipped.sha256}},
    }
    (run / "bundle").mkdir()
    own = write_bundle(model, run / "bundle" / "shop.kdc", name="shop", golden=asked, **facts)
    for parents, there in (({"quantized": shipped.sha256}, True), ({"quantized": "another"}, False)):
        as_stage(run / "bundle", "bundle", metrics={"bundle": "shop.kdc"}, parents=parents)
        package_path(run, tmp_path / "new.kdc")
        made = open_bundle(tmp_path / "new.kdc")
        assert (read_golden(made)[0] == asked) is there
        assert (made.manifest.metrics == facts["metrics"]) is there
        assert (made.manifest.provenance == facts["provenance"]) is there
    as_stage(run / "bundle", "bundle", metrics={"bundle": "shop.kdc"}, parents={"quantized": shipped.sha256})
    damage(own)
    with pytest.raises(IntegrityError, match=r"bundle/shop\.kdc is not an intact bundle"):
        package_path(run, tmp_path / "newer.kdc")


def test_what_a_packed_run_lacks_of_its_recipe_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files of items and licences stood beside the recipe, and are not in the run."""
    summary = json.loads((run / "summary.json").read_text())
    summary["recipe"]["bundle"] = {"items": "items.csv", "licenses": ["MIT.txt"]}
    (run / "summary.json").write_text(json.dumps(summary))
    package_path(run, tmp_path / "shop.kdc")
    told = " ".join(capsys.readouterr().err.split())
    assert "packs the items of items.csv: without --items FILE there are none" in told
    assert "packs MIT.txt: without --license there are none" in told
    (tmp_path / "MIT.txt").write_text("free")
    package_path(run, tmp_path / "shop.kdc", licenses=[f"data={tmp_path}/MIT.txt"])
    assert "without --license" not in " ".join(capsys.readouterr().err.split())


def test_a_packed_folder_answers_as_before(model: Path, tmp_path: Path) -> None:
    assert package_path(model, tmp_path / "m.kdc")["metrics"] == {}
    asked = [Request("red shoes")]
    packed = open_bundle(tmp_path / "m.kdc")
    assert packed.predictor().answer(asked) == Predictor.from_folder(model).answer(asked)
    assert {request.text_pair for request in read_golden(packed)[0]} == {None}


def test_what_cannot_be_packed(built: dict[str, Path], model: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"NAME\.kdc"):
        package_path(model, tmp_path / "m.zip")
    with pytest.raises(RecipeError, match="student folder"):
        package_path(built["mobile"], tmp_path / "m.kdc")
    damage(run / "quantized" / ONNX)
    with pytest.raises(IntegrityError, match="damaged"):
        package_path(run, tmp_path / "m.kdc")
    assert not (tmp_path / "m.kdc").exists()

"""`kdc bench` of paths: artifacts of every kind side by side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from compress.artifacts import ONNX
from compress.bench.bare import BareModel
from compress.bundle.write import write_bundle
from compress.errors import DataError, IntegrityError, RecipeError
from compress.paths import bench_paths
from compress.paths.entries import distinct
from compress.paths.session import GENERATED
from compress.runtime.engine import Engine
from compress.runtime.predictor import Request
from tests.tiny import tiny_deployable
from tests.tiny_artifacts import damage


def rows_of(artifacts: list[Path], **changes: Any) -> list[dict[str, Any]]:
    options: dict[str, Any] = {
        "targets": ["onnxruntime-cpu"],
        "scenarios": ["single-stream"],
        "threads": [1],
        "requests": None,
    }
    return bench_paths(artifacts, **(options | changes))


def test_artifacts_of_every_kind_side_by_side(model: Path, bare: Path, tmp_path: Path) -> None:
    bundle = write_bundle(model, tmp_path / "shop.kdc", name="shop", metrics={}, provenance={})
    rows = {row["artifact"]: row for row in rows_of([model, bundle, bare])}
    assert list(rows) == ["model", "shop.kdc", "net.onnx"]
    assert all(row["status"] == "ok" and row["p50_ms"] > 0 and row["peak_mb"] > 0 for row in rows.values())
    assert GENERATED not in rows["model"]["notes"] + rows["shop.kdc"]["notes"]
    assert "generated inputs" in rows["net.onnx"]["notes"][0]
    assert rows["net.onnx"]["tokenizer_ms"] is None


def test_a_run_is_benched_with_all_its_models(run: Path, calibration: Path) -> None:
    rows = rows_of([run], scenarios=["offline"], requests=calibration)
    assert [row["artifact"] for row in rows] == ["teacher", "student", "shipped"]


def test_a_model_that_generated_inputs_cannot_feed_is_a_row_too(model: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Identity", ["words"], ["out"])],
        "strings",
        [helper.make_tensor_value_info("words", TensorProto.STRING, ["batch"])],
        [helper.make_tensor_value_info("out", TensorProto.STRING, ["batch"])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, str(tmp_path / "strings.onnx"))
    rows = {row["artifact"]: row for row in rows_of([tmp_path / "strings.onnx", model])}
    assert rows["model"]["status"] == "ok"
    assert rows["strings.onnx"]["status"].startswith("not run: the input 'words'")


class Counting:
    """An engine of one input that counts its runs."""

    def __init__(self, shape: list[Any]) -> None:
        self.inputs, self.runs = [SimpleNamespace(name="x", dtype="float32", shape=shape)], 0

    def run(self, feed: dict[str, Any]) -> None:
        self.runs += 1


@pytest.mark.parametrize(("shape", "runs"), [(["n", 3], 1), ([1, 3], 8), ([4, 3], 2), ([], 8)])
def test_a_run_counts_for_as_many_requests_as_it_has_rows(shape: list[Any], runs: int) -> None:
    """A batch of eight on generated inputs; a scalar has no room for more than one of them."""
    engine = Counting(shape)
    model = BareModel(cast("Engine", engine), "net.onnx")
    engine.runs = 0
    model.answer([Request("a")] * 8)
    assert engine.runs == runs


def test_what_cannot_be_benched(built: dict[str, Path], model: Path, tmp_path: Path, calibration: Path) -> None:
    with pytest.raises(RecipeError, match="kdc export"):
        rows_of([built["transformer"]])
    with pytest.raises(RecipeError, match="there is no"):
        rows_of([tmp_path / "nowhere.onnx"])
    with pytest.raises(RecipeError, match="--target"):
        rows_of([model], targets=["abacus"])
    pairs = tiny_deployable(tmp_path / "pairs", "pairs")
    with pytest.raises(DataError, match="text_pair"):
        rows_of([pairs], requests=calibration)
    (model / ONNX).write_bytes(b"no model")
    with pytest.raises(IntegrityError, match="loaded"):
        rows_of([model])


def test_a_damaged_bundle_is_not_benched(model: Path, tmp_path: Path) -> None:
    bundle = write_bundle(model, tmp_path / "shop.kdc", name="shop", metrics={}, provenance={})
    damage(bundle)
    with pytest.raises(IntegrityError):
        rows_of([bundle])


def test_names_tell_artifacts_apart() -> None:
    paths = [("r", "a", "student"), ("r", "b", "student"), ("r", "b", "teacher"), ("r", "b", "teacher")]
    assert distinct(paths) == ["a/student", "b/student", "teacher", "teacher (2)"]

"""The same model on onnxruntime, OpenVINO and torch: what can be timed is, and the rest says why not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress import extras
from compress.artifacts import ONNX, SPEC, TOKENIZER, read_spec, write_spec
from compress.bench import targets
from compress.bench.eager import open_eager
from compress.bench.measure import Contender, run_bench
from compress.bench.targets import deployed_bytes, own_target, why_not
from compress.errors import RecipeError
from compress.paths import bench_paths, inspect_path, package_path, quantize_path
from compress.quantize.openvino import write_float
from compress.recipe import Bench
from compress.runtime import openvino_engine
from compress.runtime.predictor import Predictor
from tests import tiny_models
from tests.tiny import tiny_deployable, tiny_requests

quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)
one_thread = pytest.fixture(autouse=True)(tiny_models.one_thread)
ASKED = {"scenarios": ["single-stream"], "threads": [1], "requests": None}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "plain")


@pytest.fixture
def ir(tmp_path: Path) -> Path:
    folder = tiny_deployable(tmp_path / "ir")
    write_float(folder / ONNX, folder)
    (folder / ONNX).unlink()
    write_spec(folder, read_spec(folder).model_copy(update={"runtime": "openvino"}))
    return folder


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A Hugging Face classifier as a run's teacher folder has it."""
    folder = tiny_models.bert_folder(tmp_path / "bert")
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    spec = {"task": "classification", "labels": ("a", "b", "c"), "max_length": 32, "inputs": inputs}
    write_spec(folder, read_spec(tiny_deployable(tmp_path / "for-spec")).model_copy(update=spec))
    return folder


def rows(*artifacts: Path, on: list[str] | None = None) -> dict[tuple[str, str], dict[str, Any]]:
    found = bench_paths(list(artifacts), targets=on, **ASKED)  # type: ignore[arg-type]
    return {(row["artifact"], row["target"]): row for row in found}


def test_each_model_is_timed_on_its_own_runtime_unless_one_is_named(model: Path, ir: Path) -> None:
    found = rows(model, ir)
    assert found.keys() == {("plain", "onnxruntime-cpu"), ("ir", "openvino-cpu")}
    for folder, row in zip((model, ir), found.values(), strict=True):
        assert row["status"] == "ok"
        assert row["p50_ms"] > 0
        assert row["peak_mb"] > 0
        assert row["size_bytes"] == sum(file.stat().st_size for file in folder.iterdir())


def test_a_row_for_every_model_and_target(model: Path, ir: Path) -> None:
    found = rows(model, ir, on=["onnxruntime-cpu", "openvino-cpu", "torch-cpu"])
    assert len(found) == 6
    status = {key: row["status"] for key, row in found.items()}
    assert status["plain", "onnxruntime-cpu"] == status["plain", "openvino-cpu"] == status["ir", "openvino-cpu"] == "ok"
    assert status["ir", "onnxruntime-cpu"] == "not run: ir holds an OpenVINO model, which onnxruntime does not read"
    for name in ("plain", "ir"):
        assert status[name, "torch-cpu"].startswith("not run: torch-cpu runs trained weights, not an exported model")


def test_without_openvino_its_rows_say_so(model: Path, ir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (extras, openvino_engine):
        monkeypatch.setattr(module, "available", lambda package: package != "openvino")
    found = rows(model, ir, on=["openvino-cpu"])
    assert {row["status"] for row in found.values()} == {
        "not run: openvino is not installed: pip install 'kdc[openvino]'"
    }


def test_an_operator_that_openvino_does_not_read_is_a_row(model: Path) -> None:
    import onnx

    proto = onnx.load(model / ONNX)
    proto.graph.node[-1].op_type = "Gemm"
    proto.graph.node[0].domain = "com.nobody"
    proto.graph.node[0].op_type = "Unheard"
    proto.opset_import.append(onnx.helper.make_opsetid("com.nobody", 1))
    onnx.save(proto, model / ONNX)
    bench = Bench(targets=("openvino-cpu",), scenarios=("single-stream",), requests=10, rounds=1)
    (row,) = run_bench([Contender("odd", model)], tiny_requests(), bench)
    assert row.target == "openvino-cpu"
    assert row.status.startswith("not run: OpenVINO cannot read")
    assert "Unheard" in row.status


def test_torch_runs_trained_weights_as_they_are(classifier: Path) -> None:
    assert own_target(classifier) == "torch-cpu"
    assert why_not(classifier, "onnxruntime-cpu") == "onnxruntime-cpu runs exported models, not trained weights"
    predictor = open_eager(classifier, 1)
    from transformers import AutoModelForSequenceClassification

    asked = tiny_requests()
    feed = {name: torch.from_numpy(values) for name, values in predictor.encode(asked).items()}
    with torch.inference_mode():
        expected = AutoModelForSequenceClassification.from_pretrained(classifier)(**feed).logits.numpy()
    np.testing.assert_allclose(predictor.logits(asked), expected, atol=1e-5)
    assert (predictor.runtime, predictor.threads) == ("torch", 1)
    found = rows(classifier, on=["torch-cpu"])
    (row,) = found.values()
    assert (row["status"], row["target"]) == ("ok", "torch-cpu")
    needed = [*classifier.glob("*.safetensors"), classifier / TOKENIZER, classifier / SPEC]
    assert row["size_bytes"] == deployed_bytes(classifier) == sum(file.stat().st_size for file in needed)
    with pytest.raises(RecipeError, match="export it first"):
        rows(classifier)


def test_without_torch_its_row_says_so(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "available", lambda package: package != "torch")
    assert why_not(classifier, "torch-cpu") == "torch is not installed: pip install 'kdc[train]'"


def test_quantize_and_inspect_know_openvino(model: Path, tmp_path: Path) -> None:
    made = quantize_path(model, tmp_path / "out", calibration=None, method="openvino")
    assert made["method"] == "openvino"
    assert made["size_bytes"] == sum((tmp_path / "out" / name).stat().st_size for name in ("model.xml", "model.bin"))
    assert read_spec(tmp_path / "out").runtime == "openvino"
    asked = tiny_requests()
    np.testing.assert_allclose(
        Predictor.from_folder(tmp_path / "out").logits(asked), Predictor.from_folder(model).logits(asked), atol=1e-5
    )
    facts = inspect_path(tmp_path / "out")
    assert facts["inputs"] == {"input_ids": "int64 ['?', '?']", "attention_mask": "int64 ['?', '?']"}
    assert set(facts["files"]) == {"model.xml", "model.bin", TOKENIZER, SPEC}
    with pytest.raises(RecipeError, match="--method openvino writes no ONNX file"):
        quantize_path(model, tmp_path / "x.onnx", calibration=None, method="openvino")
    with pytest.raises(RecipeError, match="--method openvino-int8 needs requests to set its ranges"):
        quantize_path(model, tmp_path / "int8", calibration=None, method="openvino-int8")


def test_a_packed_model_is_timed_on_each_of_its_runtimes(ir: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, ir / "portable")
    package_path(ir, tmp_path / "both.kdc")
    assert inspect_path(tmp_path / "both.kdc")["runtimes"] == ["openvino", "onnxruntime"]
    found = rows(tmp_path / "both.kdc")
    assert {key[1]: row["status"] for key, row in found.items()} == {"openvino-cpu": "ok", "onnxruntime-cpu": "ok"}

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
from compress.bench.lanes import Contender
from compress.bench.measure import run_bench
from compress.bench.memory import Memory
from compress.bench.start_up import startup_ms
from compress.bench.targets import deployed_bytes, deployed_files, deployed_sha256, own_target, why_not
from compress.errors import EnvironmentProblem, RecipeError
from compress.paths import BenchOptions, bench_paths, inspect_path, package_path, quantize_path, session
from compress.paths.lengths import cut_to, lengthened
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the processes that measure memory and start-up."""
    monkeypatch.setattr(session.memory, "taken", lambda *_, **__: Memory(1.0))
    monkeypatch.setattr(session.start_up, "startup_ms", lambda *_, **__: 1.0)


def rows(*artifacts: Path, on: list[str] | None = None) -> dict[tuple[str, str], dict[str, Any]]:
    found = bench_paths(list(artifacts), targets=on, **ASKED)
    return {(row["artifact"], row["target"]): row for row in found}


def test_each_model_is_timed_on_its_own_runtime_unless_one_is_named(model: Path, ir: Path) -> None:
    found = rows(model, ir)
    assert found.keys() == {("plain", "onnxruntime-cpu"), ("ir", "openvino-cpu")}
    for folder, row in zip((model, ir), found.values(), strict=True):
        assert row["status"] == "ok"
        assert row["p50_ms"] > 0
        assert row["peak_mb"] > 0
        assert row["size_bytes"] == sum(file.stat().st_size for file in folder.iterdir())


@pytest.mark.usefixtures("quick")
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


@pytest.mark.usefixtures("quick")
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


@pytest.mark.usefixtures("quick")
def test_a_packed_model_is_timed_on_each_of_its_runtimes(ir: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, ir / "portable")
    package_path(ir, tmp_path / "both.kdc")
    assert inspect_path(tmp_path / "both.kdc")["runtimes"] == ["openvino", "onnxruntime"]
    found = rows(tmp_path / "both.kdc")
    assert {key[1]: row["status"] for key, row in found.items()} == {"openvino-cpu": "ok", "onnxruntime-cpu": "ok"}


@pytest.mark.usefixtures("quick")
def test_every_scenario_by_loadgen_on_every_target(model: Path, ir: Path, classifier: Path, tmp_path: Path) -> None:
    every = ("onnxruntime-cpu", "openvino-cpu", "torch-cpu")
    scenarios = ("single-stream", "multi-stream", "server", "offline")
    kept = tmp_path / "results.jsonl"
    found = bench_paths(
        [model, ir, classifier],
        targets=every,
        scenarios=scenarios,
        threads=[1],
        requests=None,
        more=BenchOptions(qps=(500,), loadgen=True, queries=10, results=kept),
    )
    assert len(found) == 36 == len(kept.read_text().splitlines())
    ok = {(row["artifact"], row["target"]) for row in found if row["status"] == "ok"}
    assert ok == {
        ("plain", "onnxruntime-cpu"),
        ("plain", "openvino-cpu"),
        ("ir", "openvino-cpu"),
        ("bert", "torch-cpu"),
    }
    for row in found:
        assert row["status"] == "ok" or (row["status"].startswith("not run: ") and row["p99_ms"] is None)
        if row["status"] == "ok":
            assert row["load"].startswith("loadgen")
            assert row["sha256"] == deployed_sha256({"plain": model, "ir": ir, "bert": classifier}[row["artifact"]])


@pytest.mark.usefixtures("quick")
def test_the_highest_rate_on_both_runtimes(model: Path, ir: Path) -> None:
    found = bench_paths(
        [model, ir],
        targets=["onnxruntime-cpu", "openvino-cpu"],
        scenarios=["single-stream"],
        threads=[1],
        requests=None,
        more=BenchOptions(p99_ms=1e-4),
    )
    status = {(row["artifact"], row["target"]): row["status"] for row in found}
    for timed in (("plain", "onnxruntime-cpu"), ("plain", "openvino-cpu"), ("ir", "openvino-cpu")):
        assert status[timed].startswith("no rate: ")
    assert status["ir", "onnxruntime-cpu"].startswith("not run: ")


@pytest.mark.usefixtures("quick")
def test_quality_is_that_of_the_runtime_of_the_row(
    model: Path, ir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data.jsonl"
    labels = read_spec(model).labels
    asked = [f'{{"text": "{request.text}", "label": "{labels[0]}"}}\n' for request in tiny_requests()]
    data.write_text("".join(asked))
    judged: list[tuple[str, str]] = []

    def opened(folder: Path, threads: int, target: str) -> Any:
        judged.append((folder.name, target))
        return targets.open_model(folder, threads, target)

    monkeypatch.setattr(session, "open_model", opened)
    more = BenchOptions(data=data, queries=10)
    found = bench_paths([model, ir], targets=["onnxruntime-cpu", "openvino-cpu"], more=more, **ASKED)
    assert judged == [("plain", "onnxruntime-cpu"), ("plain", "openvino-cpu"), ("ir", "openvino-cpu")]
    timed = [row for row in found if row["status"] == "ok"]
    assert len({row["quality"] for row in timed}) == 1
    assert timed[0]["quality_rows"] == len(asked)
    (refused,) = [row for row in found if row["status"] != "ok"]
    assert refused["quality"] is refused["startup_ms"] is None


def test_what_is_deployed_in_each_layout(model: Path, ir: Path, classifier: Path) -> None:
    assert {file.name for file in deployed_files(model)} == {ONNX, TOKENIZER, SPEC}
    assert {file.name for file in deployed_files(ir)} == {"model.xml", "model.bin", TOKENIZER, SPEC}
    assert {file.name for file in deployed_files(classifier)} == {"model.safetensors", TOKENIZER, SPEC}
    for folder, weights in ((model, ONNX), (ir, "model.bin"), (classifier, "model.safetensors")):
        before = deployed_sha256(folder)
        (folder / "notes.txt").write_text("not deployed")
        assert deployed_sha256(folder) == before
        with (folder / weights).open("ab") as stream:
            stream.write(b"\0")
        assert deployed_sha256(folder) != before


def test_start_up_is_that_of_the_target(ir: Path) -> None:
    assert startup_ms(ir, tiny_requests()[0], target="openvino-cpu") > 0
    with pytest.raises(EnvironmentProblem, match=r"starting .* failed.*cannot be loaded by onnxruntime"):
        startup_ms(ir, tiny_requests()[0], target="onnxruntime-cpu")


def test_requests_of_one_length_on_each_target(ir: Path, classifier: Path, tmp_path: Path) -> None:
    for folder, target in ((ir, "openvino-cpu"), (classifier, "torch-cpu")):
        cut = cut_to(folder, folder.name, 8, tmp_path / target)
        asked = lengthened(cut, tiny_requests(), 8)
        opened = targets.open_model(cut, 1, target)
        assert {opened.encode([request])["input_ids"].shape for request in asked} == {(1, 8)}
        opened.answer(asked)

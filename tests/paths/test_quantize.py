"""`kdc quantize` of a path: what it makes, what it refuses, the guard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from compress.artifacts import ONNX
from compress.errors import DataError, IntegrityError, RecipeError
from compress.paths import inspect_path, quantize_path
from compress.runtime.predictor import Predictor
from tests.tiny import WORDS, tiny_requests
from tests.tiny_artifacts import damage


def test_a_transformer_student_becomes_a_smaller_model_that_answers(
    built: dict[str, Path], tmp_path: Path, calibration: Path
) -> None:
    found = quantize_path(built["transformer"], tmp_path / "q", calibration=calibration, method=None)
    assert found["method"] == "dynamic"
    assert found["size_bytes"] == (tmp_path / "q" / ONNX).stat().st_size < found["source_bytes"]
    assert found["parity"]["argmax_agreement"] > 0.9
    answers = Predictor.from_folder(tmp_path / "q").answer(tiny_requests())
    assert {answer.label for answer in answers} <= {"shoes", "power", "kitchen"}


def test_a_student_without_layers_is_quantized_without_calibration(built: dict[str, Path], tmp_path: Path) -> None:
    found = quantize_path(built["static"], tmp_path / "q", calibration=None, method=None)
    assert found["method"] == "dynamic"
    assert found["size_bytes"] < 0.5 * found["source_bytes"]  # tiny: the graph itself weighs as much as the rest
    assert Predictor.from_folder(tmp_path / "q").answer(tiny_requests())


@pytest.mark.parametrize("kind", ["mobile", "residual"])
def test_a_convolutional_student_wants_calibration_and_gets_static(
    kind: str, built: dict[str, Path], tmp_path: Path, calibration: Path
) -> None:
    with pytest.raises(RecipeError, match="--calibration FILE"):
        quantize_path(built[kind], tmp_path / "q", calibration=None, method=None)
    assert not (tmp_path / "q").exists()
    found = quantize_path(built[kind], tmp_path / "q", calibration=calibration, method=None)
    assert found["method"] == "static"
    assert inspect_path(tmp_path / "q")["quantization"] == "static"


def test_quantizing_to_a_file_writes_only_that_file(built: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "q" / "small.onnx"
    found = quantize_path(built["exported"], out, calibration=None, method="dynamic")
    assert [path.name for path in out.parent.iterdir()] == ["small.onnx"]
    assert found["path"] == str(out)
    assert "parity" not in found


def test_a_bare_onnx_is_quantized_dynamically_only(built: dict[str, Path], tmp_path: Path, calibration: Path) -> None:
    source = tmp_path / "float.onnx"
    shutil.copyfile(built["exported"] / ONNX, source)
    with pytest.raises(RecipeError, match="--method dynamic"):
        quantize_path(source, tmp_path / "q.onnx", calibration=None, method="static")
    with pytest.raises(RecipeError, match=r"no tokenizer\.json"):
        quantize_path(source, tmp_path / "q.onnx", calibration=calibration, method="dynamic")
    with pytest.raises(RecipeError, match=r"FILE\.onnx"):
        quantize_path(source, tmp_path / "folder", calibration=None, method=None)
    found = quantize_path(source, tmp_path / "q.onnx", calibration=None, method=None)
    assert found["method"] == "dynamic"
    with pytest.raises(RecipeError, match="quantized already"):
        quantize_path(tmp_path / "q.onnx", tmp_path / "qq.onnx", calibration=None, method=None)


@pytest.mark.parametrize("method", ["none", "dynamic"])
def test_an_onnx_with_its_weights_beside_it_becomes_one_file(
    built: dict[str, Path], tmp_path: Path, method: str
) -> None:
    import onnx
    import onnxruntime

    source, whole = tmp_path / "float" / "large.onnx", built["exported"] / ONNX
    source.parent.mkdir()
    onnx.save(onnx.load(whole), source, save_as_external_data=True, location="weights.bin", size_threshold=100)
    found = quantize_path(source, tmp_path / "q.onnx", calibration=None, method=method)
    files = [source, source.parent / "weights.bin"]
    assert found["source_bytes"] == sum(file.stat().st_size for file in files)
    assert found["size_bytes"] == (tmp_path / "q.onnx").stat().st_size
    assert inspect_path(source)["size_bytes"] == found["source_bytes"]
    fresh = shutil.move(tmp_path / "q.onnx", tmp_path / "elsewhere.onnx")
    assert onnxruntime.InferenceSession(fresh).get_outputs()[0].name == "logits"
    with pytest.raises(RecipeError, match=r"put them beside it, or take --method dynamic and give -o FILE\.onnx"):
        quantize_path(source, tmp_path / "folder", calibration=None, method="openvino-int8")


def test_an_onnx_beside_its_tokenizer_can_be_calibrated(
    built: dict[str, Path], tmp_path: Path, calibration: Path
) -> None:
    found = quantize_path(built["exported"] / ONNX, tmp_path / "q.onnx", calibration=calibration, method="none")
    assert found["parity"]["max_logit_difference"] == 0
    assert found["size_bytes"] == found["source_bytes"]


def test_what_quantizing_must_not_overwrite(built: dict[str, Path], model: Path, run: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("x")
    for out in (precious, model, model.parent, run / "quantized"):
        with pytest.raises(RecipeError, match="-o"):
            quantize_path(model, out, calibration=None, method="none")
    with pytest.raises(RecipeError, match="being read"):
        quantize_path(model, model / ONNX, calibration=None, method="none")
    assert (precious / "thesis.txt").is_file()
    quantize_path(model, tmp_path / "again", calibration=None, method="none")
    quantize_path(model, tmp_path / "again", calibration=None, method="none")


def test_damaged_models_are_told_from_wrong_ones(built: dict[str, Path], run: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes((built["exported"] / ONNX).read_bytes()[:2000])
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("cut.onnx", "empty.onnx"):
        with pytest.raises(IntegrityError, match=name):
            quantize_path(tmp_path / name, tmp_path / "q.onnx", calibration=None, method=None)
    damage(run / "onnx" / "student" / ONNX)
    with pytest.raises(IntegrityError, match="damaged"):
        quantize_path(run, tmp_path / "q", calibration=None, method=None)
    with pytest.raises(RecipeError, match="nowhere"):
        quantize_path(tmp_path / "nowhere", tmp_path / "q", calibration=None, method=None)
    with pytest.raises(RecipeError, match="known are auto"):
        quantize_path(run, tmp_path / "q", calibration=None, method="int4")
    with pytest.raises(DataError, match=r"no\.jsonl"):
        quantize_path(run / "quantized", tmp_path / "q", calibration=tmp_path / "no.jsonl", method="none")


def spoiled(source: Path, target: Path) -> Path:
    """An exported transformer whose classifier does not bear int8: a state that is always 0 has huge weights.

    The float model's answers stay as they are, every int8 score becomes 0, and of equal scores the first counts.
    """
    import onnx
    from onnx import numpy_helper

    shutil.copytree(source, target)
    model = onnx.load(target / ONNX)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name == "model.bert.pooler.dense.weight":
            values[0] = 0
        if tensor.name == "model.classifier.weight":
            values[:, 0] = 1e5
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, target / ONNX)
    return target


def test_without_labels_the_guard_asks_for_agreement_with_float(
    built: dict[str, Path], tmp_path: Path, calibration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, limit = spoiled(built["exported"], tmp_path / "float"), "quantize.max_quality_loss=0.05"
    found = quantize_path(source, tmp_path / "q", calibration=calibration, method="dynamic", changes=[limit])
    guard = found["guard"]
    assert guard["measured"] == "agreement of the first label with the float model on 169 requests without labels"
    assert guard["before"]["value"] > 0.05 >= guard["after"]["value"]
    assert guard["after"]["value"] == pytest.approx(1 - found["parity"]["argmax_agreement"])
    assert guard["kept"] == ["model.classifier"] == [row["layer"] for row in guard["ranking"] if row["kept"]]
    assert len(guard["ranking"]) == 10
    assert guard["sensitivity_rows"] <= 64
    assert "model.classifier (alone changes the output by" in " ".join(capsys.readouterr().err.split())
    assert Predictor.from_folder(tmp_path / "q").answer(tiny_requests())


def test_a_floor_that_nothing_meets_ends_with_5_and_keeps_the_best(model: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper
    from typer.testing import CliRunner

    from compress.cli import app

    graph = onnx.load(model / ONNX)
    for tensor in graph.graph.initializer:
        if tensor.name in ("embeddings", "weight"):
            values = numpy_helper.to_array(tensor).copy()
            values[..., 0] = 0 if tensor.name == "embeddings" else values[..., 0]
            values[0] = 1e5 if tensor.name == "weight" else values[0]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(graph, model / ONNX)
    requests = tmp_path / "requests.jsonl"
    requests.write_text("".join(json.dumps({"text": f"{a} {b}"}) + "\n" for a in WORDS for b in WORDS))
    given = ["quantize", str(model), "-o", str(tmp_path / "q"), "--calibration", str(requests), "--method", "dynamic"]
    for arguments in (given, [*given, "--json"]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 5
        assert "is above the limit 0.01" in done.stderr
        assert "the best one, with none in float" in done.stderr
        assert (tmp_path / "q" / ONNX).is_file()
    facts = json.loads(done.stdout)
    assert facts["guard"]["met"] is False
    assert facts["failure"].startswith(f"quality loss {facts['guard']['after']['value']:.4f}")


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("dynamic", ["quantize.embedding_bits=4"]),
        ("dynamic-tensor", []),
        ("static", ["quantize.operators=[MatMul, Gemm]", "quantize.calibrator=entropy"]),
        ("smoothquant", ["quantize.alpha=0.6"]),
        ("weights", ["quantize.bits=4"]),
        ("half", []),
    ],
)
def test_methods_and_their_options_on_a_transformer(
    method: str, changes: list[str], built: dict[str, Path], tmp_path: Path, calibration: Path
) -> None:
    changes = [*changes, "quantize.max_quality_loss=0.3", "quantize.calibration=32"]
    found = quantize_path(built["exported"], tmp_path / "q", calibration=calibration, method=method, changes=changes)
    assert found["method"] == method
    assert found["size_bytes"] < 0.75 * found["source_bytes"]
    assert found["guard"]["met"]
    told = {"static": "static", "weights": "weights", "half": "half"}.get(method, "dynamic")
    assert inspect_path(tmp_path / "q")["quantization"] == told
    with pytest.raises(RecipeError, match=f"quantized already .{told}"):
        quantize_path(tmp_path / "q", tmp_path / "qq", calibration=None, method="dynamic")


@pytest.mark.parametrize(
    ("method", "changes", "says"),
    [
        ("dynamic", ["quantize.bits=4"], "--set quantize.bits has no effect with method dynamic, only with weights"),
        (None, ["quantize.alpha=0.1"], "--set quantize.alpha has no effect with method dynamic"),
        ("auto", ["quantize.alpha=0.1"], "--set quantize.alpha has no effect with method auto"),
        ("weights", ["quantize.bits=3"], "quantize.bits: must be one of 4, 8, not 3"),
        ("weights", ["quantize.bist=4"], r"quantize.bist: unknown key .did you mean bits"),
        ("dynamic", ["seed=1"], "--set seed has no effect together with a model"),
        ("dynamic", ["quantize.method=half"], "give --method"),
        ("dynamic", ["quantize.max_quality_loss=0.2"], "no effect without --calibration"),
        ("smoothquant", [], "--method smoothquant needs requests"),
    ],
)
def test_options_of_quantization_that_cannot_be_meant(
    method: str | None, changes: list[str], says: str, built: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=says):
        quantize_path(built["exported"], tmp_path / "q", calibration=None, method=method, changes=changes)
    assert not (tmp_path / "q").exists()


def changed(source: Path, target: Path, change: Any) -> Path:
    """A copy of an exported model whose graph was changed."""
    import onnx

    shutil.copytree(source, target)
    model = onnx.load(target / ONNX)
    change(model)
    onnx.save(model, target / ONNX)
    return target


def test_models_that_cannot_be_quantized_are_told_apart(model: Path, tmp_path: Path, calibration: Path) -> None:
    import onnx

    def custom(found: Any) -> None:
        found.graph.node[0].domain, found.graph.node[0].op_type = "acme.ops", "Lookup"
        found.opset_import.append(onnx.helper.make_opsetid("acme.ops", 1))

    def fixed(found: Any) -> None:
        for axis, size in zip(found.graph.input[0].type.tensor_type.shape.dim, (1, 128), strict=True):
            axis.dim_value = size

    def pixels(found: Any) -> None:
        found.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT

    def asked(folder: Path, file: Path | None) -> Any:
        return quantize_path(folder, tmp_path / "q.onnx", calibration=file, method="dynamic")

    with pytest.raises(DataError, match=r"does not know: acme\.ops:Lookup; export it with standard operators"):
        asked(changed(model, tmp_path / "custom", custom), None)
    still = changed(model, tmp_path / "fixed", fixed)
    with pytest.raises(DataError, match=r"'input_ids' of .*fixed has a fixed axis: it is int64 \[1, 128\]; export it"):
        asked(still, calibration)
    assert asked(still, None)["method"] == "dynamic"
    with pytest.raises(DataError, match=r"'attention_mask' of .* is not token ids: it is float \[batch, sequence\]"):
        asked(changed(model, tmp_path / "pixels", pixels), calibration)


def test_calibration_requests_that_cannot_be_used(
    built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("title,price\nred shoe,3\n")
    with pytest.raises(DataError, match=r"wrong\.csv.*text"):
        quantize_path(built["mobile"], tmp_path / "q", calibration=wrong, method="static")
    few = tmp_path / "few.csv"
    few.write_text("text\n" + "red shoe\n" * 9)
    quantize_path(
        built["mobile"],
        tmp_path / "q",
        calibration=few,
        method="static",
        changes=["quantize.calibration=12", "quantize.max_quality_loss=1"],
    )
    said = " ".join(capsys.readouterr().err.split())
    assert f"quantize.calibration asks for 12 requests, and {few} has 9: all are taken" in said

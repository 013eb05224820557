"""The artifact commands on paths: quantize, export, bench, package, inspect."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.artifacts import MANIFEST, ONNX, SPEC, TOKENIZER, Artifact, list_files, read_artifact, write_json
from compress.bench.results import BenchResult
from compress.bundle.verify import verify_bundle
from compress.bundle.write import write_bundle
from compress.errors import DataError, EnvironmentProblem, IntegrityError, RecipeError
from compress.paths import bench_paths, export_path, inspect_path, package_path, quantize_path
from compress.paths.entries import distinct
from compress.runtime.bundle import BENCH, CARD, open_bundle
from compress.runtime.predictor import Predictor, Request
from tests.tiny import WORDS, tiny_deployable, tiny_onnx, tiny_requests, tiny_tokenizer_json

VOCABULARY = 300


def student_folder(folder: Path, kind: str) -> Path:
    """A student as `kdc distill` leaves it, with random weights and enough tokens to be worth quantizing."""
    import torch
    from pydantic import TypeAdapter

    from compress.recipe import Student
    from compress.students.build import build_student, save_student
    from compress.students.vocabulary import StudentTokens

    section = TypeAdapter(Student).validate_python(
        {"kind": "transformer", "init": "random", "layers": 1, "hidden": 32, "heads": 2, "intermediate": 48}
        if kind == "transformer"
        else {"kind": kind, "init": "random", "width": 16}
    )
    tokens = StudentTokens(tiny_tokenizer_json(), np.full(VOCABULARY, -1), 0, (0, 1, 2, 3), {})
    built = build_student(
        section,
        teacher=None,
        teacher_spec=None,
        tokens=tokens,
        texts=WORDS,
        task="classification",
        labels=["shoes", "power", "kitchen"],
        positive=None,
        seed=3,
    )
    with torch.no_grad():
        for parameter in built.module.parameters():
            parameter.mul_(3)
    save_student(built.module, built.spec, tokens.tokenizer_json, folder)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student folder of each kind, and the transformer's export."""
    root = tmp_path_factory.mktemp("students")
    students = {kind: student_folder(root / kind, kind) for kind in ("transformer", "mobile", "residual", "static")}
    exported = root / "exported"
    export_path(students["transformer"], exported, to=["onnx"], gpus=[], precision="fp16")
    return students | {"exported": exported}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The smallest exported model."""
    return tiny_deployable(tmp_path / "model")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An .onnx file with nothing beside it."""
    (tmp_path / "bare").mkdir()
    return tiny_onnx(tmp_path / "bare" / "net.onnx", 3)


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """Requests in a file."""
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps({"text": f"{a} {b}"}) + "\n" for a in WORDS for b in WORDS))
    return path


def as_stage(folder: Path, kind: str, **changes: Any) -> Path:
    """Give a folder the record that a run would."""
    fields: dict[str, Any] = {"kind": kind, "key": "k", "recipe_digest": "r", "files": list_files(folder)}
    write_json(folder / MANIFEST, Artifact(**(fields | changes)).model_dump())
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with an exported student and a quantized model."""
    folder = tmp_path / "runs" / "shop-1"
    tiny_deployable(folder / "onnx" / "student")
    tiny_deployable(folder / "onnx" / "teacher")
    as_stage(folder / "onnx", "onnx")
    quality = {"quality": {"macro_f1": 0.9}, "certificate": {"rows": 3, "comparisons": []}}
    parents = {"teacher": "t", "student": "s", "outputs": "o"}
    as_stage(tiny_deployable(folder / "quantized"), "quantized", metrics=quality, parents=parents)
    (folder / "recipe.yaml").write_text("name: shop\nseed: 7\n")
    summary = {
        "run": str(folder),
        "name": "shop",
        "stages": [],
        "models": {"teacher": {}},
        "notes": ["simulated"],
        "recipe": {"data": {"train": {"path": "a.csv", "columns": {"text": ["title", "brand"]}}}},
    }
    write_json(folder / "summary.json", summary)
    return folder


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# ---------------------------------------------------------------- quantize


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


# ---------------------------------------------------------------- export


def test_an_exported_student_is_deployable(built: dict[str, Path], tmp_path: Path) -> None:
    found = export_path(built["transformer"], tmp_path / "out", to=["onnx"], gpus=[], precision="fp16")
    assert found["onnx"]["parity"]["max_logit_difference"] < 1e-3
    assert found["engines"] == {}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [SPEC, ONNX, TOKENIZER]
    with pytest.raises(RecipeError, match="ONNX already"):
        export_path(tmp_path / "out", tmp_path / "again", to=["onnx"], gpus=[], precision="fp16")


def test_a_student_whose_files_do_not_fit_is_damaged(built: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(built["mobile"], broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="cut short"):
        export_path(broken, tmp_path / "out", to=["onnx"], gpus=[], precision="fp16")
    shutil.copyfile(built["transformer"] / "model.safetensors", weights)
    with pytest.raises(IntegrityError, match="do not fit"):
        export_path(broken, tmp_path / "out", to=["onnx"], gpus=[], precision="fp16")
    (broken / SPEC).write_text('{"task": 1')
    with pytest.raises(IntegrityError, match=SPEC):
        export_path(broken, tmp_path / "out", to=["onnx"], gpus=[], precision="fp16")
    assert not (tmp_path / "out").exists()


def test_a_hugging_face_folder_is_exported(built: dict[str, Path], tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(built["transformer"], teacher)
    (teacher / SPEC).unlink()
    found = export_path(teacher, tmp_path / "out", to=["onnx"], gpus=[], precision="fp16")
    assert "one text or two" in found["notes"][0]
    assert set(inspect_path(tmp_path / "out")["inputs"]) >= {"input_ids", "attention_mask"}
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    with pytest.raises(RecipeError, match="without a trained classification head"):
        export_path(teacher, tmp_path / "other", to=["onnx"], gpus=[], precision="fp16")
    (teacher / "model.safetensors").rename(teacher / "pytorch_model.bin")
    with pytest.raises(DataError, match="pickled"):
        export_path(teacher, tmp_path / "other", to=["onnx"], gpus=[], precision="fp16")


@pytest.mark.parametrize(
    ("to", "gpus", "precision", "says"),
    [
        (["tflite"], [], "fp16", "known are onnx"),
        (["onnx"], ["sm89"], "fp16", "no effect"),
        (["tensorrt-rtx"], [], "fp16", "--gpu sm89"),
        (["tensorrt-rtx"], ["sm12"], "fp16", "--gpu"),
        (["tensorrt"], [], "fp4", "--precision"),
    ],
)
def test_options_of_engines_are_checked_before_any_work(
    model: Path, tmp_path: Path, to: list[str], gpus: list[str], precision: str, says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        export_path(model, tmp_path / "out", to=to, gpus=gpus, precision=precision)


def test_engines_stand_beside_the_model_they_come_from(
    built: dict[str, Path], bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.export import tensorrt
    from compress.paths import engines

    def build(onnx: Path, out: Path, **options: Any) -> dict[str, Any]:
        assert onnx.is_file()
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(b"engine")
        return options

    monkeypatch.setattr(engines, "require", lambda *args, **named: None)
    monkeypatch.setattr(tensorrt, "build_engine", build)
    formats, name = ["onnx", "tensorrt-rtx"], "tensorrt-rtx-fp16-sm89.engine"
    found = export_path(built["transformer"], tmp_path / "out", to=formats, gpus=["sm89"], precision="fp16")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [SPEC, ONNX, name, TOKENIZER]
    assert found["engines"]["tensorrt-rtx-fp16-sm89"]["max_length"] == 128
    # A folder can be its own target when only engines are added.
    export_path(tmp_path / "out", tmp_path / "out", to=["tensorrt"], gpus=[], precision="fp32")
    assert (tmp_path / "out" / "tensorrt-fp32.engine").is_file()
    export_path(bare, tmp_path / "bare", to=["tensorrt"], gpus=[], precision="fp32")
    with pytest.raises(RecipeError, match="calibrated"):
        export_path(bare, tmp_path / "bare", to=["tensorrt"], gpus=[], precision="int8")


def test_a_missing_tensorrt_names_the_command_that_installs_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.extras.available", lambda package: False)
    with pytest.raises(EnvironmentProblem, match=r"kdc\[tensorrt-rtx\]"):
        export_path(model, tmp_path / "out", to=["tensorrt-rtx"], gpus=["sm89"], precision="fp16")


# ---------------------------------------------------------------- bench


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
    assert rows["model"]["notes"] == rows["shop.kdc"]["notes"] == []
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


# ---------------------------------------------------------------- package


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
    assert open_bundle(tmp_path / "m.kdc").predictor().answer(asked) == Predictor.from_folder(model).answer(asked)


def test_what_cannot_be_packed(built: dict[str, Path], model: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"NAME\.kdc"):
        package_path(model, tmp_path / "m.zip")
    with pytest.raises(RecipeError, match="student folder"):
        package_path(built["mobile"], tmp_path / "m.kdc")
    damage(run / "quantized" / ONNX)
    with pytest.raises(IntegrityError, match="damaged"):
        package_path(run, tmp_path / "m.kdc")
    assert not (tmp_path / "m.kdc").exists()


# ---------------------------------------------------------------- inspect


def test_inspecting_each_kind(built: dict[str, Path], run: Path, bare: Path, tmp_path: Path) -> None:
    found = inspect_path(run)
    assert (found["kind"], found["name"], set(found["stages"])) == (
        "run folder",
        "shop",
        {"onnx", "quantized"},
    )
    assert inspect_path(run / "summary.json")["notes"] == ["simulated"]
    assert inspect_path(run / "onnx")["stage"] == "onnx"
    assert inspect_path(run / "quantized")["artifact"]["metrics"]["quality"] == {"macro_f1": 0.9}
    student = inspect_path(built["mobile"])
    assert student["kind"] == "student folder"
    assert student["parameters"] > VOCABULARY
    file = inspect_path(bare)
    assert file["inputs"]["input_ids"] == "int64 [batch, sequence]"
    assert (file["opsets"], file["quantization"], file["operators"]["Gemm"]) == ({"ai.onnx": 17}, "none", 1)
    teacher = tmp_path / "teacher"
    shutil.copytree(built["transformer"], teacher)
    (teacher / SPEC).unlink()
    assert inspect_path(teacher)["labels"] == ["shoes", "power", "kitchen"]
    assert all(json.dumps(inspect_path(path)) for path in (run, bare, teacher, built["exported"]))


def test_inspecting_what_kdc_does_not_know(run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "other.json").write_text("{}")
    for path in (tmp_path / "notes.txt", tmp_path / "other.json", tmp_path / "runs"):
        with pytest.raises(RecipeError, match="ONNX file"):
            inspect_path(path)
    with pytest.raises(RecipeError, match="there is no"):
        inspect_path(tmp_path / "nowhere")
    damage(run / "onnx" / "teacher" / TOKENIZER)
    with pytest.raises(IntegrityError, match="damaged"):
        inspect_path(run)

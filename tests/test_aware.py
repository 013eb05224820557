"""`quantize.method: aware`: what is written is what was learned with, in a run as in a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from pydantic import TypeAdapter

from compress.artifacts import ONNX, TOKENIZER, read_artifact
from compress.batch import Examples
from compress.data.encode import encode_examples
from compress.distill.stages import encoder_of
from compress.errors import RecipeError
from compress.predict import model_inputs, predict_logits
from compress.quantize.aware_export import pack_int4
from compress.recipe import HuggingFaceTeacher, Quantize, Student
from compress.recipe.file import resolve
from compress.runtime.predictor import Predictor, Request
from compress.steps.aware import TOLERANCE, export_codes
from compress.students.build import build_student, student_tokens
from compress.students.fake_quantization import calibrate, fake_quantized
from compress.teachers.huggingface import Teacher, load_teacher
from tests import tiny_models
from tests.tiny_models import CORPUS, bert_folder
from tests.tiny_project import kdc, kdc_json, recipe_of, statuses, write_recipe

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)

CPU = torch.device("cpu")
ROWS = 60
FAMILIES: dict[str, dict[str, Any]] = {
    "transformer": {"layers": 2},
    "mobile": {"width": 16, "blocks": 2},
    "residual": {"width": 16, "blocks": 2},
    "static": {"width": 16, "bigrams": 512},
    "two-tower": {"layers": 1, "embedding": 16},
}
KERNELS = {
    "transformer": {"MatMulIntegerToFloat": 14},
    "mobile": {"QLinearConv": 6, "MatMulIntegerToFloat": 2},
    "residual": {"QLinearConv": 4, "MatMulIntegerToFloat": 2},
    "static": {"MatMulIntegerToFloat": 2},
    "two-tower": {"MatMulIntegerToFloat": 8},
}
FLOAT_KERNELS = {"Conv", "FusedConv", "Gemm"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A BERT with random weights."""
    folder = bert_folder(tmp_path_factory.mktemp("bert"))
    section = HuggingFaceTeacher(model=str(folder), max_length=32)
    return load_teacher(section, folder, task="classification", labels=("a", "b", "c"), positive=None, trained=True)


def optimized(model: Path, folder: Path) -> onnx.GraphProto:
    """What onnxruntime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(model), options)
    return onnx.load(folder / "optimized.onnx").graph


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_file_says_what_the_fake_quantized_student_says(
    kind: str, bits: int, teacher: Teacher, tmp_path: Path
) -> None:
    """With the runtime that ships; a sum in another order may be rounded to the next code."""
    two = kind in ("static", "two-tower")
    section: Student = TypeAdapter(Student).validate_python({"kind": kind, **FAMILIES[kind]})
    built = build_student(
        section,
        teacher=teacher.module,
        teacher_spec=teacher.spec,
        tokens=student_tokens(section, teacher.tokenizer_json, 0, CORPUS),
        texts=CORPUS,
        task="pairs" if two else "classification",
        labels=("0", "1") if two else ("a", "b", "c"),
        positive="1" if two else None,
        seed=3,
    )
    rows = Examples(ids=CORPUS[:ROWS], texts=CORPUS[:ROWS], pairs=CORPUS[40 : 40 + ROWS] if two else None)
    encoded = encode_examples(encoder_of(built), rows)
    before = predict_logits(built.module, encoded, CPU)
    module = fake_quantized(built.module, bits)
    calibrate(module, [model_inputs(encoded, range(start, start + 20), module.input_names, CPU) for start in (0, 20)])
    said = predict_logits(module, encoded, CPU)
    (tmp_path / TOKENIZER).write_text(built.tokens.tokenizer_json)
    export_codes(module, built.spec, tmp_path, opset=20, bits=bits)
    pairs = rows.pairs or [None] * ROWS
    got = Predictor.from_folder(tmp_path).logits([Request(*texts) for texts in zip(rows.texts, pairs, strict=True)])
    assert np.abs(said - before).max() > 0
    assert np.abs(got - said).max() <= TOLERANCE * max(1.0, np.abs(said).max())
    assert np.abs(got - said).mean() <= 0.1 * np.abs(said - before).mean()

    model = onnx.load(tmp_path / ONNX)
    sizes = {TensorProto.INT8: 1, TensorProto.INT4: 1}
    weights = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims) >= 4096]
    assert weights
    assert all(tensor.data_type in sizes for tensor in weights), [tensor.name for tensor in weights]
    packed = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT4]
    assert bool(packed) == (bits == 4)
    assert all(len(tensor.raw_data or tensor.int32_data) <= (np.prod(tensor.dims) + 1) // 2 for tensor in packed)
    graph = optimized(tmp_path / ONNX, tmp_path)
    assert not [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT4]
    run = Counter(node.op_type for node in graph.node)
    assert {name: run[name] for name in KERNELS[kind]} == KERNELS[kind]
    assert not FLOAT_KERNELS & run.keys()


def test_packing_changes_no_answer(tmp_path: Path) -> None:
    """Codes beyond 7 stay int8."""
    codes = {"four": np.arange(-7, 8, dtype=np.int8).reshape(3, 5), "eight": np.full((3, 5), -90, np.int8)}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Cast", [name], [f"{name}_out"], to=TensorProto.FLOAT) for name in codes],
        "codes",
        [],
        [onnx.helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, (3, 5)) for name in codes],
        [onnx.numpy_helper.from_array(array, name) for name, array in codes.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / ONNX)
    pack_int4(tmp_path / ONNX)
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(tmp_path / ONNX).graph.initializer}
    assert stored == {"four/kdc_int4": TensorProto.INT4, "eight": TensorProto.INT8}
    found = onnxruntime.InferenceSession(tmp_path / ONNX).run(None, {})
    for got, array in zip(found, codes.values(), strict=True):
        np.testing.assert_array_equal(got, array)


# ---------------------------------------------------------------- in a run


def test_a_run_learns_exports_measures_and_uses_it_again(tiny_project: Path, tmp_path: Path) -> None:
    recipe = recipe_of("classification", "mobile", name="aware")
    recipe["distill"]["control"] = False
    plain = write_recipe(tiny_project, recipe, "plain.yaml")
    recipe["quantize"] |= {"method": "aware", "bits": 4, "aware": {"epochs": 2, "losses": {"soft": 1.0, "hard": 0.2}}}
    path = write_recipe(tiny_project, recipe, "aware.yaml")
    planned = kdc_json("check", path)["stages"]
    assert [row["stage"] for row in planned if row["stage"] in ("onnx", "aware", "quantized")] == [
        "onnx",
        "aware",
        "quantized",
    ]
    found = kdc_json("quantize", path, "--runs", tmp_path)
    assert statuses(found)["aware"] == "done"
    assert [(row["stage"], row["epoch"]) for row in found["history"]["aware"]] == [("aware", 1), ("aware", 2)]
    assert {"soft", "hard", "metric"} <= found["history"]["aware"][0].keys()
    assert found["models"]["shipped"]["method"] == "aware"
    gates = {gate["gate"]: gate for gate in found["gates"]}
    assert gates["quantize.parity"]["passed"]
    assert gates["quantize.parity"]["value"] <= gates["quantize.parity"]["limit"]
    folder = Path(found["run"])
    quantized = read_artifact(folder / "quantized")
    assert quantized is not None
    assert {"aware", "student", "onnx"} <= quantized.parents.keys()
    assert quantized.metrics["certificate"]
    assert (folder / "quantized" / ONNX).stat().st_size < (folder / "onnx" / "student" / ONNX).stat().st_size
    assert statuses(kdc_json("quantize", path, "--runs", tmp_path))["aware"] == "reused"
    other = kdc_json("quantize", path, "--runs", tmp_path, "--set", "quantize.max_quality_loss=0.9")
    assert (statuses(other)["aware"], statuses(other)["quantized"]) == ("reused", "done")
    again = statuses(kdc_json("quantize", path, "--runs", tmp_path, "--set", "quantize.bits=8"))
    assert (again["student"], again["aware"]) == ("reused", "done")
    without = kdc_json("quantize", plain, "--runs", tmp_path)
    assert (statuses(without)["student"], statuses(without)["aware"]) == ("reused", "skipped")
    assert not (Path(without["run"]) / "aware").exists()


# ---------------------------------------------------------------- recipes and options


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"bits": 4}, "quantize.bits has no effect with method static, only with weights, aware: leave it out"),
        ({"method": "aware", "embedding_bits": 4}, "quantize.embedding_bits has no effect with method aware"),
        ({"aware": {"epochs": 2}}, "quantize.aware has no effect with method static, only with aware: leave it out"),
        ({"method": "aware", "bits": 2}, "quantize.bits: "),
        ({"method": "aware", "aware": {"epochs": 0}}, "quantize.aware.epochs: "),
        ({"method": "aware", "aware": {"losses": {"hidden": 1.0}}}, "a projection, which is not kept"),
        ({"method": "aware", "aware": {"losses": {"relations": 1.0}}}, "losses.relations compares attention"),
        ({"method": "aware", "aware": {"losses": {"soft": 0.0}}}, "every loss weight is 0"),
        (
            {"method": "aware", "aware": {"losses": {"listwise": 1.0}}},
            "quantize.aware.losses.listwise compares the rows of a query",
        ),
    ],
)
def test_recipes_that_are_refused(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError) as refused:
        resolve(recipe_of("classification") | {"quantize": section}, Path("r.yaml"))
    assert expected in str(refused.value)


def test_defaults_and_digests() -> None:
    """A recipe without the method is written as before it came; with it, a tenth of the last rate for one epoch."""
    assert Quantize().model_dump() == {"method": None, "bits": 8, "calibration": 256, "max_quality_loss": 0.01}
    given = recipe_of("classification") | {"quantize": {"method": "aware"}}
    recipe = resolve(given, Path("r.yaml")).recipe
    assert recipe.quantize.learning is not None
    stage = recipe.quantize.learning.stage(recipe.distill)
    assert (stage.epochs, stage.losses.terms) == (1, {"soft": 1.0})
    assert stage.learning_rate == pytest.approx(0.1 * recipe.distill.stages[-1].learning_rate)
    assert resolve(recipe.dump(), Path("r.yaml")).recipe == recipe


def test_a_model_alone_cannot_learn(tmp_path: Path) -> None:
    refused = kdc("quantize", tmp_path / "model.onnx", "--method", "aware", "-o", tmp_path / "out.onnx")
    assert refused.exit_code == 2
    assert "needs its teacher and data" in refused.stderr

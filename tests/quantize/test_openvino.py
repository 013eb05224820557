"""OpenVINO's forms of a model: float says the same, int8 nearly, a quarter of the size, the same bytes each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from pydantic import TypeAdapter

from compress.artifacts import IR, IR_WEIGHTS, ONNX
from compress.errors import DataError, EnvironmentProblem, IntegrityError
from compress.export.onnx import export_module
from compress.extras import require
from compress.quantize import openvino as ways
from compress.quantize.methods import METHODS, Work
from compress.recipe import Quantize, Student
from compress.runtime.engine import open_engine
from compress.students.build import build_student, student_tokens
from tests.quantize.models import convolution_model, feed, linear_model
from tests.tiny_models import CORPUS

openvino = require("openvino", extra="openvino", why="these tests")

FEEDS = [feed(8, 6, 1), feed(8, 9, 2)]
STUDENTS: dict[str, dict[str, Any]] = {
    "transformer": {"kind": "transformer", "layers": 2, "hidden": 32, "heads": 2},
    "factored": {"kind": "transformer", "layers": 1, "hidden": 32, "heads": 2, "embedding_size": 8},
    "mobile": {"kind": "mobile", "width": 16, "blocks": 2, "kernel": 3},
    "residual": {"kind": "residual", "width": 16, "blocks": 2},
    "static": {"kind": "static", "width": 16},
    "two-tower": {"kind": "two-tower", "layers": 1, "hidden": 32, "heads": 2, "embedding": 16},
}


def answers(folder: Path, asked: dict[str, np.ndarray]) -> np.ndarray:
    return open_engine(folder / IR, runtime="openvino").run(asked)[0]


def write(method: str, source: Path, folder: Path, keep: frozenset[str] = frozenset()) -> Path:
    folder.mkdir()
    METHODS[method].write(Work(source, folder, lambda: FEEDS, Quantize(), keep))
    assert METHODS[method].runtime == "openvino"
    return folder


def float_constants(folder: Path) -> list[list[int]]:
    """Shapes of the weights of 500 numbers and more that are stored in float."""
    ops = openvino.Core().read_model(folder / IR).get_ops()
    constants = (op for op in ops if op.get_type_name() == "Constant" and op.get_element_type().to_string() == "f32")
    return [list(op.get_output_shape(0)) for op in constants if np.prod(op.get_output_shape(0)) >= 500]


@pytest.mark.parametrize("name", list(STUDENTS))
def test_every_family_says_the_same_on_both_runtimes(tmp_path: Path, name: str) -> None:
    raw = {"init": "random", "vocabulary": {"train": 300}} | STUDENTS[name]
    section = TypeAdapter(Student).validate_python(raw)
    task = "pairs" if name == "two-tower" else "classification"
    labels = ("no", "yes") if task == "pairs" else ("a", "b", "c")
    tokens = student_tokens(section, None, 0, CORPUS)
    built = build_student(
        section,
        teacher=None,
        teacher_spec=None,
        tokens=tokens,
        texts=CORPUS,
        task=task,
        labels=labels,
        positive=labels[-1] if task == "pairs" else None,
        seed=3,
    )
    source = tmp_path / ONNX
    module = built.module.eval()
    vocabulary = int((built.spec.student or {})["vocabulary"])
    export_module(module, source, inputs=built.spec.inputs, outputs=("logits",), opset=20, vocabulary=vocabulary)
    ways.write_float(source, tmp_path)
    generator = np.random.default_rng(5)
    for rows, length in ((1, 7), (5, 16)):
        asked = {name: np.ones((rows, length), np.int64) for name in built.spec.inputs}
        asked["input_ids"] = generator.integers(4, vocabulary, (rows, length))
        if "token_type_ids" in asked:
            asked["token_type_ids"][:, : length // 2] = 0
        expected = open_engine(source).run(asked)[0]
        np.testing.assert_allclose(answers(tmp_path, asked), expected, atol=1e-4 * max(1.0, np.abs(expected).max()))


def test_int8_is_a_quarter_and_nearly_the_same_embeddings_included(tmp_path: Path) -> None:
    source = linear_model(tmp_path / ONNX)
    exact = write("openvino", source, tmp_path / "float")
    asked = feed(64, 8, 9)
    expected = open_engine(source).run(asked)[0]
    np.testing.assert_allclose(answers(exact, asked), expected, atol=1e-4)
    for method in ("openvino-int8", "openvino-weights"):
        made = write(method, source, tmp_path / method)
        assert float_constants(made) == []
        # 4 bytes a scale weigh much where a channel has 32 weights
        assert (made / IR_WEIGHTS).stat().st_size < 0.33 * (exact / IR_WEIGHTS).stat().st_size
        said = answers(made, asked)
        assert (said.argmax(1) == expected.argmax(1)).mean() > 0.9
        # rows with values beyond those of the few calibration rows are cut off, and are further away
        assert np.abs(said - expected).mean() < 0.02 * np.abs(expected).max()


def test_a_masked_maximum_does_not_spoil_a_convolution(tmp_path: Path) -> None:
    """Its range is beyond int8: quantizing it, as NNCF does by itself, leaves nothing of the answer."""
    source = convolution_model(tmp_path / ONNX)
    asked = feed(64, 8, 9)
    expected = open_engine(source).run(asked)[0]
    said = answers(write("openvino-int8", source, tmp_path / "int8"), asked)
    assert (said.argmax(1) == expected.argmax(1)).mean() > 0.9


def test_named_nodes_stay_in_float(tmp_path: Path) -> None:
    source = linear_model(tmp_path / ONNX)
    for method in ("openvino-int8", "openvino-weights"):
        made = write(method, source, tmp_path / method, frozenset({"product"}))
        assert float_constants(made) == [[32, 64]]


def test_a_name_that_the_graph_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no node 'nobody'"):
        write("openvino-int8", linear_model(tmp_path / ONNX), tmp_path / "out", frozenset({"nobody"}))


def test_the_same_source_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    source = linear_model(tmp_path / ONNX)
    first = write("openvino-int8", source, tmp_path / "first")
    code = (
        "from pathlib import Path; from tests.quantize.test_openvino import write\n"
        f"write('openvino-int8', Path({str(source)!r}), Path({str(tmp_path / 'second')!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, cwd=Path(__file__).parents[2])
    for name in (IR, IR_WEIGHTS):
        assert (first / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_bfloat16_is_refused_where_it_cannot_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "has_bfloat16", lambda: False)
    with pytest.raises(EnvironmentProblem, match="openvino-bf16 cannot be measured here"):
        write("openvino-bf16", linear_model(tmp_path / ONNX), tmp_path / "out")
    assert METHODS["openvino-bf16"].arithmetic == "bfloat16"


def test_what_cannot_be_quantized_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(IntegrityError, match=r"OpenVINO cannot read .*no\.onnx"):
        ways.write_float(tmp_path / "no.onnx", tmp_path)
    with pytest.raises(DataError, match=r"gone\.onnx does not exist"):
        ways.write_int8_weights(tmp_path / "gone.onnx", tmp_path)
    with pytest.raises(DataError, match="needs rows to calibrate with, got 0"):
        ways.write_int8(linear_model(tmp_path / ONNX), tmp_path, [])


def test_torch_keeps_its_threads() -> None:
    """NNCF must not change what training goes on with."""
    before = torch.get_num_threads()
    ways._nncf()
    assert torch.get_num_threads() == before


def test_remainders_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    """OpenVINO gives wrong ones beyond 2^24; a static student with bigrams hashes with them."""
    names = ("numbers", "remainders")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["n"]) for name in names]
    buckets = onnx.numpy_helper.from_array(np.array([16384]), "buckets")
    node = onnx.helper.make_node("Mod", ["numbers", "buckets"], ["remainders"])
    graph = onnx.helper.make_graph([node], "hash", values[:1], values[1:], [buckets])
    path = tmp_path / ONNX
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"remainders of whole numbers, .* take onnxruntime"):
        METHODS["openvino"].write(Work(path, tmp_path / "out", lambda: FEEDS, Quantize()))
    with pytest.raises(DataError, match="remainders of whole numbers"):
        open_engine(path, runtime="openvino")
    large = np.array([2**24 + 1, 63_352_001])
    np.testing.assert_array_equal(open_engine(path).run({"numbers": large})[0], large % 16384)

"""What TensorRT does not build is refused before it starts, and TensorRT itself would refuse it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

from compress.artifacts import ONNX
from compress.errors import DataError, EnvironmentProblem, IntegrityError, KdcError, RecipeError
from compress.export import tensorrt
from compress.export.refusals import refuse
from compress.export.tensorrt import build_engine
from compress.export.typed import TypedGraph
from compress.paths import export_path
from compress.quantize.calibration import Reader
from compress.quantize.dynamic import quantize_dynamic_int8
from compress.quantize.typed import typed_onnx
from tests.tiny import tiny_deployable, tiny_onnx

pytestmark = pytest.mark.usefixtures("tensorrt_rtx")

FEEDS = [{"input_ids": np.arange(12).reshape(2, 6), "attention_mask": np.ones((2, 6), np.int64)}]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small float model."""
    return tiny_onnx(tmp_path_factory.mktemp("source") / "float.onnx", 3)


def static(source: Path, target: Path, **changes: Any) -> Path:
    """onnxruntime's own QDQ with symmetric int8, but for what is changed."""
    activation = changes.pop("activation", QuantType.QInt8)
    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, **changes}
    quantize_static(
        source,
        target,
        Reader(FEEDS),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Gemm"],
        activation_type=activation,
        weight_type=QuantType.QInt8,
        extra_options=options,
    )
    return target


def graph_of(nodes: list[Any], kind: int = TensorProto.INT64, sizes: tuple[Any, ...] = ("batch", "sequence")) -> Any:
    """input_ids through some nodes to `logits`; `table` [9, 4] and its half are at hand."""
    table = np.arange(36, dtype=np.float32).reshape(9, 4)
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("input_ids", kind, sizes)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.float16(table), "half")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("my.company", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def mixed(source: Path, target: Path) -> Path:
    gathers = [helper.make_node("Gather", [name, "input_ids"], [f"{name}/rows"]) for name in ("table", "half")]
    add = helper.make_node("Add", ["table/rows", "half/rows"], ["logits"], name="sum")
    onnx.save(graph_of([*gathers, add]), target)
    return target


def custom(source: Path, target: Path) -> Path:
    onnx.save(graph_of([helper.make_node("Embed", ["table", "input_ids"], ["logits"], domain="my.company")]), target)
    return target


def pixels(source: Path, target: Path) -> Path:
    node = helper.make_node("Relu", ["input_ids"], ["logits"])
    onnx.save(graph_of([node], TensorProto.FLOAT, ("batch", 3, 8, 8)), target)
    return target


def dynamic(source: Path, target: Path) -> Path:
    quantize_dynamic(source, target, op_types_to_quantize=["MatMul", "Gemm"])
    return target


def for_cpu(source: Path, target: Path) -> Path:
    quantize_dynamic_int8(source, target)
    return target


def biased(source: Path, target: Path) -> Path:
    return static(source, target, QuantizeBias=True)


def unsigned(source: Path, target: Path) -> Path:
    return static(source, target, activation=QuantType.QUInt8, ActivationSymmetric=False)


def shifted(source: Path, target: Path) -> Path:
    return static(source, target, ActivationSymmetric=False)


FAULTS: dict[Callable[[Path, Path], Path], str] = {
    unsigned: r"is quantized to uint8 at .*TensorRT takes int8",
    shifted: r"has the zero point -?\d+ at .*TensorRT takes 0 alone",
    biased: r"has a quantized bias \(bias_quantized, int32\)",
    dynamic: r"is quantized with DynamicQuantizeLinear|has the operator \w+ of com.microsoft",
    for_cpu: r"has the operator MatMulIntegerToFloat of com.microsoft",
    mixed: r"gives Add 'sum' float and float16, TensorRT casts nothing",
    custom: r"has the operator Embed of my.company",
    pixels: r"takes 'input_ids' as float with 4 axes: .*token ids",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_faults_are_told_before_the_build(fault: Callable[[Path, Path], Path], source: Path, tmp_path: Path) -> None:
    made = fault(source, tmp_path / "made.onnx")
    with pytest.raises(DataError, match=FAULTS[fault]):
        refuse(TypedGraph.read(made))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=FAULTS[fault]) as told:
        export_path(made, tmp_path / "out", to=["tensorrt-rtx"], gpus=["sm89"], precision="fp16")
    assert str(made) in str(told.value)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "fault", [unsigned, shifted, biased, dynamic, for_cpu, mixed, custom], ids=lambda fault: fault.__name__
)
def test_tensorrt_refuses_them_too(
    fault: Callable[[Path, Path], Path], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a model that could be built would be refused."""
    made = fault(source, tmp_path / "made.onnx")
    monkeypatch.setattr(tensorrt, "refuse", lambda graph: None)
    with pytest.raises((DataError, EnvironmentProblem)):
        engine(made, tmp_path / "e")


def engine(onnx: Path, out: Path, **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"to": "tensorrt-rtx", "precision": "fp32", "gpus": ["sm89"], "max_batch": 4}
    return build_engine(onnx, out, **(usual | {"max_length": 12} | changes))


def test_a_symmetric_model_is_not_refused(source: Path, tmp_path: Path) -> None:
    made = static(source, tmp_path / "int8.onnx")
    refuse(TypedGraph.read(made))
    assert "Int8" in engine(made, tmp_path / "e", precision="int8")["weights"]


def test_a_fixed_shape_is_a_fixed_profile(tmp_path: Path) -> None:
    source = tiny_onnx(tmp_path / "float.onnx", 3)
    model = onnx.load(source)
    for value in [*model.graph.input]:
        for axis, size in zip(value.type.tensor_type.shape.dim, (2, 7), strict=True):
            axis.dim_value = size
    onnx.save(model, source)
    found = engine(source, tmp_path / "e")
    assert (found["profile"], found["max_batch"], found["max_length"]) == ("fixed", 2, 7)
    assert found["inputs"]["input_ids"] == {"min": [2, 7], "opt": [2, 7], "max": [2, 7]}


def test_a_disk_without_room_is_told_before_the_build(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.artifacts.free_bytes", lambda folder: 1_000_000)
    with pytest.raises(EnvironmentProblem, match=r"takes about 5,00\d,\d{3} bytes, 1,000,000 are free"):
        engine(source, tmp_path / "e")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"gpus": ["sm90"]}, RecipeError, r"--gpu is 'sm90': .*'sm75', 'sm80', 'sm86', 'sm89', 'sm120' or 'sm121'"),
        ({"gpus": ["sm89", "sm89"]}, RecipeError, r"--gpu: gpus names sm89 twice"),
        ({"gpus": ["sm80"], "precision": "fp8"}, RecipeError, r"--gpu: fp8 is not for sm80, only for sm89, sm120"),
        ({"gpus": ["sm75"], "precision": "bf16"}, RecipeError, r"--gpu: bf16 is not for sm75"),
        ({"precision": "fp4"}, RecipeError, r"--precision is 'fp4': .*'int8-fp16'"),
        ({"precision": "int8"}, RecipeError, r"--precision int8 needs ranges.*--calibration FILE"),
        ({"precision": "fp8-fp16"}, RecipeError, r"--precision fp8-fp16 needs ranges.*--calibration FILE"),
        ({"precision": "int4"}, DataError, r"nothing to quantize: 0 nodes are MatMul or Gemm of a multiple of 32"),
        ({"max_batch": 0}, RecipeError, r"--max-batch is 0"),
    ],
)
def test_options_are_refused_with_what_there_is(
    source: Path, tmp_path: Path, options: dict[str, Any], error: type[KdcError], match: str
) -> None:
    with pytest.raises(error, match=match):
        export_path(source, tmp_path / "out", **({"to": ["tensorrt-rtx"], "gpus": ["sm89"]} | options))
    assert not (tmp_path / "out").exists()


def test_bytes_that_are_no_onnx(tmp_path: Path) -> None:
    for content in (b"hello", b"", b"\x08\x07"):
        (tmp_path / "hello.onnx").write_bytes(content)
        with pytest.raises(IntegrityError, match=r"hello.onnx is no (readable )?ONNX model"):
            export_path(tmp_path / "hello.onnx", tmp_path / "out", to=["tensorrt-rtx"], gpus=["sm89"])


def test_a_model_in_another_precision_is_refused_and_one_in_this_is_taken(source: Path, tmp_path: Path) -> None:
    int8 = static(source, tmp_path / "int8.onnx")
    assert typed_onnx(int8, tmp_path / "same.onnx", "int8", lambda: []) == int8
    half = typed_onnx(int8, tmp_path / "half.onnx", "int8-fp16", lambda: [])
    assert TypedGraph.read(half).arithmetic == {"fp16"}
    for given, precision, held in (
        (int8, "fp16", "fp32 and int8"),
        (int8, "fp8", "fp32 and int8"),
        (half, "int8", "fp16 and int8"),
    ):
        with pytest.raises(RecipeError, match=f"{precision} cannot be made of .* holds {held}"):
            typed_onnx(given, tmp_path / "made.onnx", precision, lambda: [])


def test_requests_calibrate_an_engine_and_show_what_changed(tmp_path: Path) -> None:
    model = tiny_deployable(tmp_path / "model")
    (tmp_path / "requests.csv").write_text("text\nred shoes\nusb charger\ncoffee machine for two\n")
    found = export_path(
        model,
        tmp_path / "out",
        to=["tensorrt-rtx"],
        gpus=["sm89"],
        precision="int8-fp16",
        calibration=tmp_path / "requests.csv",
        max_length=9,
        max_batch=3,
    )["engines"]["tensorrt-rtx-int8-fp16-sm89"]
    assert (found["max_batch"], found["max_length"]) == (3, 9)
    assert found["source"]["parity"]["requests"] == 3
    assert (tmp_path / "out" / found["file"]).stat().st_size == found["size_bytes"]
    assert (model / ONNX).is_file()

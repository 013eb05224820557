"""Each method: values against numpy, sizes, what stays in float, and that an answer does not depend on its batch."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from compress.errors import DataError
from compress.quantize.calibration import Reader
from compress.quantize.layers import kept_nodes, layers_of
from compress.quantize.methods import METHODS, Work
from compress.quantize.nibbles import packed
from compress.quantize.preprocess import prepared
from compress.quantize.smooth import smooth
from compress.recipe import Quantize
from compress.recipe.shipping import EFFECTIVE, QuantizeMethod

SPEC = importlib.util.spec_from_file_location("quantize_models", Path(__file__).with_name("models.py"))
models = sys.modules.setdefault("quantize_models", importlib.util.module_from_spec(SPEC))
SPEC.loader.exec_module(models)
CALIBRATION = [models.feed(8, length, seed=length) for length in (3, 7, 12)]
ALL_STATIC = {"operators": ("Conv", "MatMul", "Gemm")}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("dynamic", {}),
    ("dynamic", {"embedding_bits": 4}),
    ("dynamic-tensor", {}),
    ("static", ALL_STATIC),
    ("static", ALL_STATIC | {"calibrator": "entropy"}),
    ("static", ALL_STATIC | {"calibrator": "percentile", "symmetric": True}),
    ("smoothquant", {}),
    ("weights", {}),
    ("weights", {"bits": 4}),
    ("half", {}),
]


def run(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    return onnxruntime.InferenceSession(path).run(None, feed)[0]


def write(source: Path, folder: Path, method: str, keep: frozenset[str] = frozenset(), **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    METHODS[method].write(Work(source, folder, lambda: iter(CALIBRATION), Quantize(method=method, **options), keep))
    return folder / "model.onnx"


def constants(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def float_names(path: Path) -> set[str]:
    return {t.name for t in onnx.load(path).graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.linear_model(tmp_path_factory.mktemp("methods") / "float.onnx")


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.convolution_model(tmp_path_factory.mktemp("methods") / "float.onnx")


def test_every_method_has_a_name_in_the_recipe() -> None:
    by_stages = {"auto", "aware"}
    """What a run alone can do: choose by timing, and learn."""
    assert set(METHODS) | by_stages == set(get_args(QuantizeMethod))
    assert set(EFFECTIVE) < set(Quantize.model_fields)
    assert {name for methods in EFFECTIVE.values() for name in methods} <= set(METHODS) | by_stages


@pytest.mark.parametrize(("method", "options"), VARIANTS, ids=str)
def test_every_method_is_close_smaller_and_the_same_twice(
    method: str, options: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    made = write(source, tmp_path / "q", method, **options)
    given = models.feed(200, 9, seed=5)
    before, after = run(source, given), run(made, given)
    bits = {"half": 16}.get(method, min(options.get("bits", 8), options.get("embedding_bits", 8)))
    tolerance = {16: 1e-3, 8: 0.2, 4: 0.4}[bits]
    assert np.abs(after - before).max() < tolerance * np.abs(before).max()
    assert (after.argmax(1) == before.argmax(1)).mean() > (0.93 if bits > 4 else 0.85)
    assert made.stat().st_size < (0.6 if bits == 16 else 0.45) * source.stat().st_size  # the graph itself weighs 6 kB
    first = made.read_bytes()
    assert write(source, tmp_path / "q", method, **options).read_bytes() == first
    assert list(made.parent.iterdir()) == [made]


@pytest.mark.parametrize(("method", "options"), [v for v in VARIANTS if v[0] != "dynamic-tensor"], ids=str)
def test_an_answer_does_not_depend_on_its_batch(
    method: str, options: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    made = write(source, tmp_path / "q", method, **options)
    given = models.feed(16, 9)["input_ids"]
    alone = np.concatenate([run(made, {"input_ids": row[None]}) for row in given])
    np.testing.assert_allclose(run(made, {"input_ids": given}), alone, atol=1e-4)


@pytest.mark.parametrize(("method", "options"), VARIANTS, ids=str)
@pytest.mark.parametrize("kept", [("states", "embedding"), ("product", "up"), ("logits", "head")], ids=lambda k: k[0])
def test_what_is_kept_stays_in_float(
    method: str, options: dict[str, Any], kept: tuple[str, str], source: Path, tmp_path: Path
) -> None:
    node, weight = kept
    made = write(source, tmp_path / "q", method, frozenset([node]), **options)
    found, original = constants(made), constants(source)[weight]
    same = [name for name, values in found.items() if name.startswith(weight) and values.dtype == np.float32]
    assert any(np.array_equal(found[name].reshape(-1), original.reshape(-1)) for name in same) or any(
        np.array_equal(found[name], original.T) for name in same
    )
    others = {"embedding", "up", "down"} - {weight}
    assert not others & float_names(made)


def test_a_kept_convolution_computes_what_it_did(convolutional: Path, tmp_path: Path) -> None:
    made = write(convolutional, tmp_path / "q", "static", frozenset(["wide", "mixed", "narrow"]))
    dynamic = write(convolutional, tmp_path / "d", "dynamic")
    given = models.feed(64, 9)
    np.testing.assert_allclose(run(made, given), run(dynamic, given), atol=1e-5)


@pytest.mark.parametrize("location", ["float.onnx.data", "parts/weights.bin"])
@pytest.mark.parametrize("method", ["none", "dynamic", "dynamic-tensor", "static", "smoothquant", "weights", "half"])
def test_weights_beside_the_file_go_into_the_one_that_is_written(
    method: str, location: str, source: Path, convolutional: Path, tmp_path: Path
) -> None:
    """torch's exporter writes them apart, whatever their size."""
    float_model = convolutional if method == "static" else source
    apart = tmp_path / "float" / "float.onnx"
    (apart.parent / location).parent.mkdir(parents=True)
    onnx.save(onnx.load(float_model), apart, save_as_external_data=True, location=location, size_threshold=100)
    made = write(apart, tmp_path / "q", method)
    assert list(made.parent.iterdir()) == [made]
    given = models.feed(20, 9, seed=5)
    np.testing.assert_array_equal(run(made, given), run(write(float_model, tmp_path / "whole", method), given))
    (apart.parent / location).unlink()
    with pytest.raises(DataError, match=f"is not a valid ONNX model.*{Path(location).name}"):
        write(apart, tmp_path / "again", method)


@pytest.mark.parametrize("method", ["dynamic", "weights", "half"])
def test_a_weight_that_is_no_number_is_named(method: str, source: Path, tmp_path: Path) -> None:
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        if tensor.name == "up":
            values = numpy_helper.to_array(tensor).copy()
            values[3, 4] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(values, "up"))
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(DataError, match=r"the weight up of .*broken.onnx holds NaN"):
        write(tmp_path / "broken.onnx", tmp_path / "q", method)


def test_more_weights_than_one_file_holds_are_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.quantize.preprocess.SINGLE_FILE_BYTES", 50_000)
    with pytest.raises(DataError, match=r"has 0.0 GB of weights, less than 0 GB can be quantized"):
        write(source, tmp_path / "q", "dynamic")


def test_four_bit_codes_against_a_hand_computed_row(source: Path, tmp_path: Path) -> None:
    table = np.array([[-4.0, 2.0, 0.24, -0.26], [0, 0, 0, 0], [1, 8, -8, -1]], np.float32)
    codes, scales = packed(table, "t")
    # row 0: s = 4 / 8; codes -8, 4, round(.48) = 0, round(-.52) = -1, each + 8; the first number is the low half
    assert codes.tolist() == [[0 | 12 << 4, 8 | 7 << 4], [0x88, 0x88], [7 | 0 << 4, 15 | 9 << 4]]
    assert scales.tolist() == [[0.5], [1.0], [-1.0]]
    made = write(source, tmp_path / "q", "dynamic", embedding_bits=4)
    embedding, found = constants(source)["embedding"], constants(made)
    assert found["embedding/kdc_int4"].nbytes * 8 == embedding.nbytes
    low, high = found["embedding/kdc_int4"] & 15, found["embedding/kdc_int4"] >> 4
    both = np.stack([low, high], axis=2).reshape(embedding.shape).astype(np.float32) - 8
    expected = both * found["embedding/kdc_scale"]
    # rounding, and the one code that is missing on the side of the sign that is not the largest number's
    assert np.abs(expected - embedding).max() <= np.abs(found["embedding/kdc_scale"]).max() + 1e-6
    model = onnx.load(made)
    model.graph.output.append(onnx.ValueInfoProto(name="states"))
    said = onnxruntime.InferenceSession(model.SerializeToString()).run(["states"], models.feed(5, 7))[0]
    np.testing.assert_array_equal(said, expected[models.feed(5, 7)["input_ids"]])


def test_four_bits_want_even_rows() -> None:
    with pytest.raises(DataError, match=r"a row of words has 33 numbers.*take 8"):
        packed(np.zeros((5, 33), np.float32), "words")


def test_eight_bit_weights_are_round_to_nearest_by_blocks(source: Path, tmp_path: Path) -> None:
    made = constants(write(source, tmp_path / "q", "weights"))
    weight, codes, scales = constants(source)["up"], made["up_Q8"], made["up_scales"]
    assert codes.shape == (models.INNER, 1, models.WIDTH)
    restored = (codes[:, 0].astype(np.float32) - 128) * scales
    assert np.abs(restored.T - weight).max() <= np.abs(scales).max() * 0.5001 + np.abs(scales).max() * 0.5
    np.testing.assert_allclose(np.abs(scales[:, 0]), np.abs(weight).max(axis=0) / 128, rtol=1e-5)


def test_half_stores_what_numpy_rounds_to(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = constants(write(source, tmp_path / "q", "half"))
    for name in ("embedding", "up", "down"):
        np.testing.assert_array_equal(made[f"{name}/kdc_half"], constants(source)[name].astype(np.float16))
    assert "MB as float32" in capsys.readouterr().err


def test_weights_that_half_cannot_hold_stay(tmp_path: Path, source: Path) -> None:
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        if tensor.name == "up":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e6), "up"))
    onnx.save(model, tmp_path / "large.onnx")
    assert "up" in float_names(write(tmp_path / "large.onnx", tmp_path / "q", "half"))


def outlier_model(path: Path, *, residual: bool) -> Path:
    """LayerNormalization, two products of it (one Gemm-like with bias) whose inputs have one large channel."""
    rng = np.random.default_rng(1)
    scale = np.ones(models.WIDTH, np.float32)
    scale[3] = 40
    weights = {
        "embedding": rng.normal(size=(models.VOCABULARY, models.WIDTH)).astype(np.float32),
        "scale": scale,
        "shift": rng.normal(size=models.WIDTH).astype(np.float32),
        "a": rng.normal(0, 0.2, (models.WIDTH, models.WIDTH)).astype(np.float32),
        "b": rng.normal(0, 0.2, (models.WIDTH, models.WIDTH)).astype(np.float32),
        "head": rng.normal(size=(models.CLASSES, models.WIDTH)).astype(np.float32),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["states"], name="states"),
        helper.make_node("LayerNormalization", ["states", "scale", "shift"], ["normed"], name="normed"),
        helper.make_node("MatMul", ["normed", "a"], ["left"], name="left"),
        helper.make_node("MatMul", ["normed", "b"], ["right"], name="right"),
        helper.make_node("Sum", ["left", "right", *(["normed"] if residual else [])], ["both"], name="both"),
        helper.make_node("ReduceMean", ["both", "one"], ["pooled"], name="pooled", keepdims=0),
        helper.make_node("Gemm", ["pooled", "head"], ["logits"], name="logits", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", models.CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_smoothing_changes_nothing_in_float(residual: bool, alpha: float, tmp_path: Path) -> None:
    path = outlier_model(tmp_path / "float.onnx", residual=residual)
    model = prepared(path)
    assert smooth(model, Reader(CALIBRATION), alpha=alpha) == 3
    onnx.save(model, tmp_path / "smooth.onnx")
    given = models.feed(50, 9, seed=2)
    before = run(path, given)
    np.testing.assert_allclose(run(tmp_path / "smooth.onnx", given), before, atol=2e-5 * np.abs(before).max())
    operators = [node.op_type for node in model.graph.node]
    # folded where only the products read the normalised states; the head's input is never made by a normalisation
    assert operators.count("Mul") == (2 if residual else 1)


def test_smoothing_divides_by_the_papers_scale(tmp_path: Path) -> None:
    path = outlier_model(tmp_path / "float.onnx", residual=False)
    original = constants(path)
    model = onnx.load(path)
    model.graph.output.append(onnx.ValueInfoProto(name="normed"))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    sizes = np.max([np.abs(session.run(["normed"], feed)[0]).max(axis=(0, 1)) for feed in CALIBRATION], axis=0)
    largest = np.maximum(np.abs(original["a"]).max(axis=1), np.abs(original["b"]).max(axis=1))
    expected = sizes**0.7 / largest**0.3
    smoothed = prepared(path)
    smooth(smoothed, Reader(CALIBRATION), alpha=0.7)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in smoothed.graph.initializer}
    np.testing.assert_allclose(found["scale/normed/kdc_smooth_1"], original["scale"] / expected, rtol=1e-4)
    np.testing.assert_allclose(found["a/normed/kdc_smooth"], expected[:, None] * original["a"], rtol=1e-4)


def test_smoothing_pays_where_a_channel_stands_out(tmp_path: Path) -> None:
    path = outlier_model(tmp_path / "float.onnx", residual=False)
    given = models.feed(200, 9, seed=5)
    before = run(path, given)
    options = {"embedding_bits": 32}
    plain, smoothed = (
        np.abs(run(write(path, tmp_path / method, method, **options), given) - before).mean()
        for method in ("dynamic", "smoothquant")
    )
    assert smoothed < 0.7 * plain


def test_layers_have_the_names_of_the_source_and_of_the_module(tmp_path: Path) -> None:
    """A BERT exporter makes up names of transposed weights; the bias says which they are, unless several share it."""
    path = models.linear_model(tmp_path / "float.onnx")
    model = onnx.load(path)
    names = {"bias": "encoder.layer.0.query.bias", "embedding": "embeddings.word.weight"}
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.name = f"node_{node.name}"
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    onnx.save(model, path)
    layers = layers_of(prepared(path), path)
    assert [(layer.node, layer.operator) for layer in layers] == [
        ("node_states", "Gather"),
        ("node_product", "MatMul"),
        ("node_hidden", "MatMul"),
        ("node_logits", "Gemm"),
    ]
    assert [layer.title for layer in layers][:3] == ["embeddings.word", "encoder.layer.0.query", "node_hidden"]
    assert layers[1].parameters == models.WIDTH * models.INNER


def test_a_fused_layer_is_kept_by_the_name_of_its_source(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["states"], name="look"),
        helper.make_node("ReduceMean", ["states", "one"], ["pooled"], name="pool", keepdims=0),
        helper.make_node("MatMul", ["pooled", "head"], ["product"], name="head"),
        helper.make_node("Add", ["product", "bias"], ["logits"], name="add"),
    ]
    weights = {
        "embedding": np.ones((models.VOCABULARY, models.WIDTH), np.float32),
        "head": np.eye(models.WIDTH, models.CLASSES, dtype=np.float32),
        "bias": np.ones(models.CLASSES, np.float32),
        "one": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", models.CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path / "float.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    model = prepared(path)
    fused = [node.name for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    assert kept_nodes(model, path, {"head"}) == set(fused)
    assert "MatMulIntegerToFloat" not in {
        node.op_type for node in onnx.load(write(path, tmp_path / "q", "dynamic", frozenset(["head"]))).graph.node
    }


def test_nothing_left_to_quantize_is_refused(source: Path, tmp_path: Path) -> None:
    every = frozenset(layer.node for layer in layers_of(prepared(source), source))
    for method, options in VARIANTS:
        with pytest.raises(DataError, match="nothing to quantize"):
            write(source, tmp_path / "q", method, every, **options)


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("dynamic", {"bits": 4}, "quantize.bits has no effect with method dynamic, only with weights"),
        ("weights", {"calibrator": "entropy"}, "quantize.calibrator has no effect with method weights"),
        ("none", {"embedding_bits": 4}, "quantize.embedding_bits has no effect with method none"),
        ("dynamic", {"alpha": 0.7}, "quantize.alpha has no effect with method dynamic, only with smoothquant"),
        ("smoothquant", {"operators": ("MatMul",)}, "quantize.operators has no effect"),
        ("half", {"symmetric": True}, "quantize.symmetric has no effect"),
    ],
)
def test_options_without_effect_are_told(method: str, options: dict[str, Any], says: str) -> None:
    misfit = Quantize(**options).misfit(method)
    assert misfit is not None
    assert misfit.startswith(says)


def test_options_at_their_defaults_change_no_digest() -> None:
    assert Quantize().model_dump() == {"method": None, "bits": 8, "calibration": 256, "max_quality_loss": 0.01}
    assert Quantize(method="static", calibrator="entropy").model_dump()["calibrator"] == "entropy"
    for wrong in ({"bits": 2}, {"embedding_bits": 16}, {"alpha": 1.5}, {"operators": []}, {"calibrator": "mse"}):
        with pytest.raises(ValidationError):
            Quantize(**wrong)

"""Dynamic int8: small, close to float, and the same answer in every batch."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from compress.errors import DataError
from compress.quantize.dynamic import quantize_dynamic_int8

SPEC = importlib.util.spec_from_file_location("quantize_models", Path(__file__).with_name("models.py"))
models = sys.modules.setdefault("quantize_models", importlib.util.module_from_spec(SPEC))
SPEC.loader.exec_module(models)


def run(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    return onnxruntime.InferenceSession(path).run(None, feed)[0]


@pytest.fixture(scope="module", params=[17, 20])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("dynamic")
    source = models.linear_model(folder / "float.onnx", request.param)
    quantize_dynamic_int8(source, folder / "int8.onnx")
    return source, folder / "int8.onnx"


def test_every_weight_matrix_is_int8(pair: tuple[Path, Path]) -> None:
    graph = onnx.load(pair[1]).graph
    assert Counter(node.op_type for node in graph.node)["MatMulIntegerToFloat"] == 3
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) > models.INNER]
    floats = [tensor.name for tensor in large if tensor.data_type == onnx.TensorProto.FLOAT]
    assert floats == ["embedding/kdc_scale"]
    assert pair[1].stat().st_size < 0.5 * pair[0].stat().st_size  # tiny: the graph itself weighs 6 kB


def test_answers_stay_close(pair: tuple[Path, Path]) -> None:
    given = models.feed(200, 9)
    before, after = (run(path, given) for path in pair)
    assert np.abs(after - before).max() < 0.05 * np.abs(before).max()
    assert (after.argmax(1) == before.argmax(1)).mean() > 0.97


def test_an_answer_does_not_depend_on_its_batch(pair: tuple[Path, Path]) -> None:
    given = models.feed(16, 9)["input_ids"]
    together = run(pair[1], {"input_ids": given})
    alone = np.concatenate([run(pair[1], {"input_ids": row[None]}) for row in given])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_tokens_of_zeros_are_no_trouble(pair: tuple[Path, Path]) -> None:
    given = {"input_ids": np.zeros((2, 4), np.int64)}
    before, after = (run(path, given) for path in pair)
    np.testing.assert_allclose(after, before, atol=0.05 * np.abs(before).max())


def test_same_source_gives_same_bytes_and_leaves_nothing_behind(pair, tmp_path: Path, capfd, monkeypatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    again = tmp_path / "new" / "again.onnx"
    quantize_dynamic_int8(pair[0], again)
    assert again.read_bytes() == pair[1].read_bytes()
    assert list(again.parent.iterdir()) == [again]
    assert list((tmp_path / "temporary").iterdir()) == []
    assert capfd.readouterr().out == ""


def test_quantizing_twice_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    quantize_dynamic_int8(pair[0], tmp_path / "once.onnx")
    with pytest.raises(DataError, match="nothing to quantize"):
        quantize_dynamic_int8(tmp_path / "once.onnx", tmp_path / "twice.onnx")
    assert not (tmp_path / "twice.onnx").exists()


@pytest.mark.parametrize("content", [None, b"", b"hello", b"\x08\x0a"])
def test_what_is_no_model_is_refused(content: bytes | None, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(DataError, match=r"model\.onnx"):
        quantize_dynamic_int8(source, tmp_path / "int8.onnx")

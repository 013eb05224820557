"""What only a GPU shows: each target there gives the CPU's answers, and its row has figures.

python -m pytest -m gpu -rs tests/bench
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.artifacts import ONNX, SPEC, TOKENIZER, read_spec, write_spec
from compress.bench.eager import cuda_problem
from compress.bench.targets import open_model
from compress.export.tensorrt import CAPABILITY_BITS, build_engine
from compress.extras import available, install_hint
from compress.paths import bench_paths
from compress.runtime import cuda, onnx_cuda
from compress.runtime.predictor import Predictor
from tests import tiny_models
from tests.tiny import tiny_deployable, tiny_requests

WHY_NOT = cuda.problem()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(WHY_NOT is not None, reason=f"not run: {WHY_NOT}; run it where there is one"),
]
quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)
TOLERANCE = 1e-3


def row_on(path: Path, target: str) -> dict[str, Any]:
    """The row of a model on a target, which must have been timed there."""
    (row,) = bench_paths([path], targets=[target], scenarios=["single-stream"], threads=[1], requests=None)
    assert row["status"] == "ok", row["status"]
    assert row["p50_ms"] > 0
    assert row["gpu_mb"] or row["gpu_by"].startswith("not run: ")
    return row


def test_onnxruntime(tmp_path: Path) -> None:
    if (reason := onnx_cuda.problem()) is not None:
        pytest.skip(f"not run: {reason}")
    model = tiny_deployable(tmp_path / "model")
    opened, asked = open_model(model, 1, "onnxruntime-cuda"), tiny_requests()
    assert isinstance(opened, Predictor)
    np.testing.assert_allclose(opened.logits(asked), Predictor.from_folder(model).logits(asked), atol=TOLERANCE)
    row_on(model, "onnxruntime-cuda")


def test_torch(tmp_path: Path) -> None:
    if (reason := cuda_problem()) is not None:
        pytest.skip(f"not run: {reason}; install the torch that is built for this GPU's driver")
    folder = tiny_models.bert_folder(tmp_path / "bert")
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    spec = {"task": "classification", "labels": ("a", "b", "c"), "max_length": 32, "inputs": inputs}
    write_spec(folder, read_spec(tiny_deployable(tmp_path / "for-spec")).model_copy(update=spec))
    here, there = (open_model(folder, 1, target) for target in ("torch-cpu", "torch-cuda"))
    assert isinstance(here, Predictor)
    assert isinstance(there, Predictor)
    np.testing.assert_allclose(there.logits(tiny_requests()), here.logits(tiny_requests()), atol=TOLERANCE)
    row_on(folder, "torch-cuda")


@pytest.mark.parametrize("builder", ["tensorrt", "tensorrt-rtx"])
def test_tensorrt(builder: Any, tmp_path: Path) -> None:
    capability = cuda.gpu().capability
    if not available(builder.replace("-", "_")):
        pytest.skip(f"not run: {builder} is not installed; {install_hint(builder)}")
    if builder == "tensorrt-rtx" and capability not in CAPABILITY_BITS:
        known = ", ".join(CAPABILITY_BITS)
        pytest.skip(f"not run: tensorrt-rtx does not build for {capability}; run it on a GPU of {known}")
    model, own = tiny_deployable(tmp_path / "model"), tmp_path / "own"
    engine = own / "tiny.engine"
    gpus = [capability] if builder == "tensorrt-rtx" else []
    build_engine(model / ONNX, engine, to=builder, precision="fp32", gpus=gpus, max_length=12)
    for name in (TOKENIZER, SPEC):
        (own / name).write_bytes((model / name).read_bytes())
    opened, asked = open_model(own, 1, builder), tiny_requests()
    assert isinstance(opened, Predictor)
    for some in (asked[:1], asked):
        np.testing.assert_allclose(opened.logits(some), Predictor.from_folder(model).logits(some), atol=TOLERANCE)
    row_on(engine, builder)

"""Small ONNX models for the tests of this room, made without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, WIDTH, INNER, CLASSES = 400, 32, 64, 5


def feed(rows: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random ids."""
    return {"input_ids": np.random.default_rng(seed).integers(0, VOCABULARY, (rows, length))}


def _write(path: Path, nodes: list[tuple], weights: dict[str, np.ndarray], opset: int) -> Path:
    graph = helper.make_graph(
        [helper.make_node(op, list(ins), [out], name=out, **more) for op, ins, out, more in nodes],
        "model",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return path


def _mean(opset: int) -> tuple:
    inputs, more = (("hidden",), {"axes": [1]}) if opset < 18 else (("hidden", "one"), {})
    return ("ReduceMean", inputs, "pooled", {"keepdims": 0, **more})


def _random(*shape: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(0, scale, shape).astype(np.float32)


def linear_model(path: Path, opset: int = 20) -> Path:
    """Embedding, MatMul + bias, Relu, MatMul, mean over the tokens, Gemm. Row 0 of the embedding is zero."""
    embedding = _random(VOCABULARY, WIDTH)
    embedding[0] = 0
    nodes = [
        ("Gather", ("embedding", "input_ids"), "states", {}),
        ("MatMul", ("states", "up"), "product", {}),
        ("Add", ("product", "bias"), "biased", {}),
        ("Relu", ("biased",), "active", {}),
        ("MatMul", ("active", "down"), "hidden", {}),
        _mean(opset),
        ("Gemm", ("pooled", "head", "head_bias"), "logits", {"transB": 1}),
    ]
    weights = {
        "embedding": embedding,
        "up": _random(WIDTH, INNER, scale=0.2),
        "bias": _random(INNER, scale=0.1),
        "down": _random(INNER, WIDTH, scale=0.2),
        "head": _random(CLASSES, WIDTH),
        "head_bias": _random(CLASSES),
        "one": np.array([1], np.int64),
    }
    if opset < 18:
        del weights["one"]
    return _write(path, nodes, weights, opset)


def convolution_model(path: Path) -> Path:
    """Embedding, pointwise, depthwise and pointwise convolution with a residual, a large mask, mean, Gemm."""
    nodes = [
        ("Gather", ("embedding", "input_ids"), "states", {}),
        ("Transpose", ("states",), "channels", {"perm": [0, 2, 1]}),
        ("Conv", ("channels", "expand", "expand_bias"), "wide", {"kernel_shape": [1]}),
        ("Relu", ("wide",), "wide_active", {}),
        ("Conv", ("wide_active", "deep"), "mixed", {"kernel_shape": [5], "pads": [2, 2], "group": INNER}),
        ("Relu", ("mixed",), "mixed_active", {}),
        ("Conv", ("mixed_active", "project"), "narrow", {"kernel_shape": [1]}),
        ("Add", ("channels", "narrow"), "sum", {}),
        ("Transpose", ("sum",), "hidden_raw", {"perm": [0, 2, 1]}),
        ("Add", ("hidden_raw", "far"), "masked", {}),  # as a masked maximum does: int8 cannot hold this range
        ("Sub", ("masked", "far"), "hidden", {}),
        _mean(20),
        ("Gemm", ("pooled", "head", "head_bias"), "logits", {"transB": 1}),
    ]
    weights = {
        "embedding": _random(VOCABULARY, WIDTH),
        "expand": _random(INNER, WIDTH, 1, scale=0.2),
        "expand_bias": _random(INNER, scale=0.1),
        "deep": _random(INNER, 1, 5, scale=0.4),
        "project": _random(WIDTH, INNER, 1, scale=0.2),
        "far": np.array(-1e3, np.float32),
        "head": _random(CLASSES, WIDTH),
        "head_bias": _random(CLASSES),
        "one": np.array([1], np.int64),
    }
    return _write(path, nodes, weights, 20)

"""How many multiplications with an addition a graph's matrix products take on given inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compress.batch import Ints

PRODUCTS = ("MatMul", "Gemm")


def multiply_adds(model: Path, feed: Mapping[str, Ints]) -> int:
    """Σ M·K·N over the products [M, K] × [K, N] of a float graph, each as often as its batch asks.

    The sizes are those that the graph really has on these inputs: it is run once, and every product's result is asked
    for. Sums, norms, softmax and activations are left out.
    """
    import onnx
    import onnxruntime

    graph = onnx.load(model)
    products = [node for node in graph.graph.node if node.op_type in PRODUCTS and not node.domain]
    given = {value.name for value in (*graph.graph.initializer, *graph.graph.output)}
    wanted = dict.fromkeys(name for node in products for name in (node.input[0], node.output[0]))
    inputs = {value.name for value in graph.graph.input}
    asked = [name for name in wanted if name not in given | inputs]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    shapes = {name: np.shape(value) for name, value in zip(names, session.run(names, dict(feed)), strict=True)}
    shapes |= {name: np.shape(value) for name, value in feed.items()}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    return sum(int(np.prod(shapes[node.output[0]])) * _inner(node, shapes[node.input[0]]) for node in products)


def _inner(node: Any, left: tuple[int, ...]) -> int:
    """K of a product, from the shape of its left side."""
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return left[-2] if turned else left[-1]

"""Layers of a graph: the nodes whose constant weights a method can lower, by the names of the source's nodes.

Cleaning (`preprocess.prepared`) fuses nodes and may give the result a name of its own; the weight tells where it
comes from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLACE = {"Gather": 0, "MatMul": 1, "Gemm": 1, "Conv": 1}
"""Operator -> which of its inputs is the weight."""


@dataclass(frozen=True)
class Layer:
    """One layer.

    node: name of the source's node. title: what people call it, such as `encoder.layer.0.attention.self.query`.
    weight: name of the float weight in the cleaned graph. parameters: numbers in it.
    """

    node: str
    operator: str
    title: str
    weight: str
    parameters: int


def name_of(node: Any) -> str:
    """A node's name; of one without, its operator and output."""
    return str(node.name or f"{node.op_type}_{node.output[0]}")


def weight_of(node: Any) -> str | None:
    """Name of what stands where a layer's weight is, constant or not; None for other operators."""
    place = PLACE.get(node.op_type)
    return None if place is None or node.domain or len(node.input) <= place else str(node.input[place])


def layers_of(model: Any, source: Path) -> list[Layer]:
    """Layers of the cleaned model of a source, in the order of the graph; weights of at least two axes."""
    from onnx import TensorProto

    floats = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1}
    origin, titles = _origins(model, source), _Titles(model.graph)
    found = []
    for node in model.graph.node:
        weight = floats.get(weight_of(node) or "")
        if weight is not None:
            size = 1
            for axis in weight.dims:
                size *= int(axis)
            found.append(Layer(origin[name_of(node)], node.op_type, titles.of(node), weight.name, size))
    return found


def kept_nodes(model: Any, source: Path, keep: Collection[str]) -> frozenset[str]:
    """The names that nodes of the source, named in `keep`, have in its cleaned model."""
    if not keep:
        return frozenset()
    return frozenset(name for name, own in _origins(model, source).items() if own in keep)


def named(model: Any) -> Any:
    """The model with a name for each node, so that onnxruntime's tools can be told which to leave out."""
    for node in model.graph.node:
        node.name = name_of(node)
    return model


def _origins(model: Any, source: Path) -> dict[str, str]:
    """Name of each node of the cleaned model that has a weight -> name of the source's node."""
    import onnx

    nodes = onnx.load(source, load_external_data=False).graph.node
    own = {name_of(node) for node in nodes}
    by_weight = {weight: name_of(node) for node in nodes if (weight := weight_of(node))}
    found = {}
    for node in model.graph.node:
        if weight := weight_of(node):
            name = name_of(node)
            found[name] = name if name in own else by_weight.get(weight, name)
    return found


class _Titles:
    """What people call a layer: its weight's name or, where an exporter made that up, its bias's."""

    def __init__(self, graph: Any) -> None:
        self.constants = {tensor.name for tensor in graph.initializer}
        self.readers = Counter(name for node in graph.node for name in node.input)
        self.after = {name: node for node in graph.node for name in node.input}

    def of(self, node: Any) -> str:
        """The title of a node with a weight; the node's name where nothing says more."""
        weight = weight_of(node) or ""
        if "." in weight:
            return weight.removesuffix(".weight")
        next_one = self.after.get(node.output[0])
        added = [] if next_one is None or next_one.op_type not in ("Add", "Sum") else list(next_one.input)
        for name in added:
            # equal biases are stored once, and then name several layers
            if name in self.constants and "." in name and self.readers[name] == 1:
                return str(name).removesuffix(".bias")
        return name_of(node)

"""Weights stored as float16, computed with as float32: half the bytes, next to nothing lost, no faster on a CPU.

Each weight is a float16 constant and a Cast. onnxruntime folds the Cast of a product's weight when it loads the model,
so in memory such weights take as much as those of the float model (which is said when the file is written); embeddings
are cast after the lookup and stay at half. Of a normal float32 number the relative error is at most 2⁻¹¹.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from compress.export.onnx import write_onnx
from compress.progress import reporter
from compress.quantize.layers import kept_nodes, name_of, weight_of
from compress.quantize.preprocess import drop_unused_domains, prepared, require_some
from compress.quantize.rows import RowQuantizer

LEAST = 1024
"""Weights of fewer numbers stay float32: the Cast would weigh as much as it saves."""
LARGEST = 65504.0
"""Of float16; weights with a larger number stay float32."""
HALF_BITS = 16


def store_half(
    source: Path, target: Path, *, embedding_bits: int = HALF_BITS, keep_float: Collection[str] = ()
) -> None:
    """Write a model whose Gather, MatMul, Gemm and Conv hold their weights as float16.

    Args:
        source: a float32 .onnx file.
        target: the .onnx file to write; about half of the size. The same source gives the same bytes.
        embedding_bits: 16, 8, 4, or 32 to leave embeddings as they are.
        keep_float: names of the source's nodes whose weights stay float32.

    Raises:
        DataError: the source cannot be read, or has no weights to store so.
    """
    model = prepared(source)
    keep = kept_nodes(model, source, keep_float)
    count = 0
    if embedding_bits != HALF_BITS:
        count = RowQuantizer(model, embedding_bits=embedding_bits, keep=keep).run(linears=())
    halving = _Halving(model.graph, keep, embeddings=embedding_bits == HALF_BITS)
    count += halving.run()
    require_some(count, source, f"Gather, MatMul, Gemm or Conv with {LEAST:,} numbers or more")
    drop_unused_domains(model)
    write_onnx(model, target)
    reporter.say(
        f"  half: {target.name} holds {target.stat().st_size / 1e6:,.1f} MB; once loaded, the weights of products take "
        f"{halving.unfolded / 1e6:,.1f} MB as float32"
    )


class _Halving:
    """Rewrites a graph in place. unfolded: bytes of the weights that become float32 again when the model is loaded."""

    def __init__(self, graph: Any, keep: Collection[str], *, embeddings: bool) -> None:
        self.graph, self.keep, self.embeddings = graph, keep, embeddings
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.halved: dict[str, str] = {}
        self.unfolded = 0

    def run(self) -> int:
        """How many nodes read a halved weight."""
        found, nodes = 0, []
        for node in list(self.graph.node):
            weight = weight_of(node)
            if weight is None or name_of(node) in self.keep or not self._suits(node, weight):
                nodes.append(node)
                continue
            found += 1
            nodes += self._gather(node, weight) if node.op_type == "Gather" else self._product(node, weight)
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input} | {value.name for value in self.graph.output}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        return found

    def _suits(self, node: Any, weight: str) -> bool:
        from onnx import TensorProto, numpy_helper

        tensor = self.weights.get(weight)
        if tensor is None or tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LEAST:
            return False
        if node.op_type == "Gather" and not self.embeddings:
            return False
        return bool(np.abs(numpy_helper.to_array(tensor)).max() <= LARGEST)

    def _constant(self, weight: str) -> str:
        from onnx import numpy_helper

        name = f"{weight}/kdc_half"
        if name not in self.weights:
            values = numpy_helper.to_array(self.weights[weight]).astype(np.float16)
            self.weights[name] = numpy_helper.from_array(values, name)
            self.graph.initializer.append(self.weights[name])
        return name

    def _gather(self, node: Any, weight: str) -> list[Any]:
        """Gather(table) -> Cast(Gather(half table))."""
        out = node.output[0]
        node.input[0], node.output[0] = self._constant(weight), f"{out}/kdc_half"
        return [node, _cast(f"{out}/kdc_half", out)]

    def _product(self, node: Any, weight: str) -> list[Any]:
        """The weight through a Cast, which products that share it share too."""
        casts = []
        if weight not in self.halved:
            self.halved[weight] = f"{weight}/kdc_float"
            self.unfolded += 4 * int(np.prod(self.weights[weight].dims))
            casts = [_cast(self._constant(weight), self.halved[weight])]
        node.input[1] = self.halved[weight]
        return [*casts, node]


def _cast(source: str, target: str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_node("Cast", [source], [target], name=f"Cast_{target}", to=TensorProto.FLOAT)

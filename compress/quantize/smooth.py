"""SmoothQuant: channels that are hard to quantize in activations become easier there and harder in the weights.

Xiao et al. 2023, https://arxiv.org/abs/2211.10438, as a rewrite of the float graph. For the activations X [.., H] that
the products W_1 .. W_n [H, N] read, and each channel j of H,

    s_j = max|X_j|^alpha / max_k|W_kj|^(1 - alpha),      X · W = (X / s) · (s W),

with max|X_j| over the calibration rows and max|W_kj| over all n weights. The division goes into scale and bias of the
LayerNormalization that makes X where nobody else reads X, and is a Mul before the products elsewhere (a BERT's X is
also added to what comes after). The float model says the same as before; then products are quantized by rows.

onnxruntime's own (`SmoothQuant` of quantize_static) calls the package neural-compressor; this needs onnxruntime alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compress.batch import Floats
from compress.export.onnx import write_onnx
from compress.quantize.calibration import Feed, Reader
from compress.quantize.layers import kept_nodes, name_of, weight_of
from compress.quantize.preprocess import prepared, require_some
from compress.quantize.rows import RowQuantizer

LEAST_SCALE = 1e-5
"""Of a channel that a weight hardly reads, or that is hardly there."""


def quantize_smooth(
    source: Path,
    target: Path,
    feeds: Iterable[Feed],
    *,
    alpha: float = 0.5,
    embedding_bits: int = 8,
    keep_float: Collection[str] = (),
) -> None:
    """Smooth a float model, then quantize it as `quantize_dynamic_int8` does.

    Args:
        source: a float32 .onnx file.
        target: the .onnx file to write. The same source and feeds give the same bytes.
        feeds: model inputs, int64 [B, T] each.
        alpha: share of the difficulty that goes to the weights, 0 … 1.
        embedding_bits: 8, 4 or 32 (float).
        keep_float: names of the source's nodes that stay in float; they are not smoothed either.

    Raises:
        DataError: the source cannot be read or holds nothing to quantize, or there are no feeds.
    """
    model = prepared(source)
    keep = kept_nodes(model, source, keep_float)
    smooth(model, Reader(feeds), alpha=alpha, keep=keep)
    require_some(RowQuantizer(model, embedding_bits=embedding_bits, keep=keep).run(), source, "Gather, MatMul or Gemm")
    write_onnx(model, target)


def smooth(model: Any, reader: Reader, *, alpha: float, keep: Collection[str] = ()) -> int:
    """Rewrite a float graph in place.

    Returns:
        How many products were smoothed.
    """
    graph = _Graph(model)
    groups = graph.groups(keep)
    sizes = _channel_sizes(model, reader, list(groups))
    for tensor, nodes in groups.items():
        graph.migrate(tensor, nodes, sizes[tensor], alpha)
    graph.finish()
    return sum(map(len, groups.values()))


def _channel_sizes(model: Any, reader: Reader, tensors: list[str]) -> Mapping[str, Floats]:
    """max|X_j| over all rows and tokens, float32 [H] of each tensor; padding is counted as other tokens are."""
    import onnx
    import onnxruntime

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: dict[str, Floats] = {}
    while tensors and (batch := reader.get_next()) is not None:
        for name, values in zip(tensors, session.run(tensors, dict(batch)), strict=True):
            size = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            found[name] = np.maximum(found[name], size) if name in found else size
    return found


class _Graph:
    """A float graph whose products are smoothed; new names hold `kdc_`."""

    def __init__(self, model: Any) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.maker = {name: node for node in self.graph.node for name in node.output}
        self.outputs = {value.name for value in self.graph.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.new: dict[str, Any] = {}

    def groups(self, keep: Collection[str]) -> dict[str, list[Any]]:
        """Activation -> the products with a constant [H, N] that read it and are not kept."""
        from onnx import TensorProto

        found: dict[str, list[Any]] = {}
        for node in self.graph.node:
            weight = self.constants.get(weight_of(node) or "")
            if node.op_type not in ("MatMul", "Gemm") or weight is None or name_of(node) in keep:
                continue
            plain = weight.data_type == TensorProto.FLOAT and len(weight.dims) == 2 and not _option(node, "transA")
            if plain and node.input[0] in self.maker:
                found.setdefault(node.input[0], []).append(node)
        return found

    def migrate(self, tensor: str, nodes: list[Any], sizes: Floats, alpha: float) -> None:
        """Divide an activation, and multiply its weights."""
        weights = [self._rows(node) for node in nodes]
        largest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
        scale = np.maximum(sizes, LEAST_SCALE) ** alpha / np.maximum(largest, LEAST_SCALE) ** (1 - alpha)
        scale = np.where((sizes > 0) & (largest > 0), scale, 1).astype(np.float32)
        smoothed = tensor if self._folded(tensor, nodes, scale) else self._divided(tensor, nodes, scale)
        for node, weight in zip(nodes, weights, strict=True):
            scaled = scale[:, None] * weight
            name = f"{node.input[1]}/{tensor}/kdc_smooth"
            node.input[1] = self._constant(name, scaled.T if _option(node, "transB") else scaled)
            node.input[0] = smoothed

    def finish(self) -> None:
        """Put new nodes before those that read them, and drop weights that nobody reads any more."""
        nodes = [each for node in self.graph.node for each in (self.new.get(node.output[0]), node) if each is not None]
        used = {name for node in nodes for name in node.input} | self.outputs
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _rows(self, node: Any) -> Floats:
        """The weight as [H, N]."""
        from onnx import numpy_helper

        array: Floats = numpy_helper.to_array(self.constants[node.input[1]])
        return array.T if _option(node, "transB") else array

    def _folded(self, tensor: str, nodes: list[Any], scale: Floats) -> bool:
        """Whether the LayerNormalization that makes the activation could take the division."""
        from onnx import numpy_helper

        norm = self.maker.get(tensor)
        if norm is None or norm.op_type != "LayerNormalization" or tensor in self.outputs:
            return False
        only_here = len(self.readers[tensor]) == len(nodes)
        sizes = [list(self.constants[name].dims) for name in norm.input[1:] if name in self.constants]
        if not only_here or sizes != [[len(scale)]] * (len(norm.input) - 1):
            return False
        for place, name in enumerate(list(norm.input[1:]), 1):
            values = numpy_helper.to_array(self.constants[name])
            norm.input[place] = self._constant(f"{name}/{tensor}/kdc_smooth_{place}", values / scale)
        return True

    def _divided(self, tensor: str, nodes: list[Any], scale: Floats) -> str:
        from onnx import helper

        out = f"{tensor}/kdc_smooth"
        factor = self._constant(f"{tensor}/kdc_factor", np.float32(1) / scale)
        self.new[nodes[0].output[0]] = helper.make_node("Mul", [tensor, factor], [out], name=f"Mul_{out}")
        return out

    def _constant(self, name: str, values: Floats) -> str:
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)
            self.graph.initializer.append(self.constants[name])
        return name


def _option(node: Any, name: str) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), 0)

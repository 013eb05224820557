"""A student that learned under fake quantization as ONNX: its codes and learned scales between Q/DQ nodes.

Weights stand in the file as the codes that were learned with, int8 or int4, before a DequantizeLinear with their
scales; inputs of a product, and outputs of a convolution, pass through QuantizeLinear and DequantizeLinear. onnxruntime
1.32 runs these as MatMulIntegerToFloat and QLinearConv. It has no 4-bit kernel for such a graph, so int4 codes are cast
to int8, which is done once, when the file is loaded: the file is small, the speed is that of int8.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.export.onnx import write_onnx
from compress.students.fake_quantization import (
    ActivationQuantizer,
    QuantizedConv,
    QuantizedEmbedding,
    QuantizedLinear,
    WeightQuantizer,
)
from compress.text_model import TextModel

INT4_OPSET = 21
"""The first operator set with 4-bit tensors."""
INT4_IR = 10
HIGHEST_INT4 = 7


class _Activations(nn.Module):
    """QuantizeLinear and DequantizeLinear with a learned scale."""

    scale: Tensor
    zero: Tensor

    def __init__(self, learned: ActivationQuantizer) -> None:
        super().__init__()
        self.register_buffer("scale", learned.scale.detach().clone())
        self.register_buffer("zero", torch.tensor(learned.zero_point, dtype=torch.uint8))

    def forward(self, values: Tensor) -> Tensor:
        given, shape = (self.scale, self.zero), values.shape
        codes = _symbolic("QuantizeLinear", (values, *given), dtype=torch.uint8, shape=shape)
        return _symbolic("DequantizeLinear", (codes, *given), dtype=torch.float32, shape=shape)


class _Weights(nn.Module):
    """Codes and scales of a weight, with `axis` for its output channels; transposed where the kernel wants that."""

    codes: Tensor
    scale: Tensor

    def __init__(self, learned: WeightQuantizer, weight: Tensor, axis: int, *, transposed: bool = False) -> None:
        super().__init__()
        codes = learned.codes(weight)
        self.register_buffer("codes", codes.T.contiguous() if transposed else codes)
        self.register_buffer("scale", learned.scale.detach().flatten().clone())
        self.axis = axis

    def forward(self) -> Tensor:
        return self.of(self.codes, self.axis)

    def of(self, codes: Tensor, axis: int) -> Tensor:
        """The numbers that codes stand for, with the channels on `axis`."""
        given = (codes, self.scale)
        return _symbolic("DequantizeLinear", given, {"axis": axis}, dtype=torch.float32, shape=codes.shape)


def _symbolic(operator: str, inputs: tuple[Tensor, ...], options: dict[str, Any] | None = None, **said: Any) -> Tensor:
    """A node of this operator, as far as torch's exporter is concerned; it computes nothing."""
    found: Tensor = torch.onnx.ops.symbolic(operator, inputs, options or {}, **said)
    return found


class _Linear(nn.Module):
    def __init__(self, layer: QuantizedLinear) -> None:
        super().__init__()
        self.inputs, self.bias = _Activations(layer.inputs), layer.bias
        self.weights = _Weights(layer.weights, layer.weight, axis=1, transposed=True)

    def forward(self, states: Tensor) -> Tensor:
        product: Tensor = self.inputs(states) @ self.weights()
        if self.bias is None:
            return product
        if product.dim() > 2:
            return product + self.bias
        # onnxruntime would make a float Gemm of a product of matrices and an Add before it looks for codes.
        return _symbolic("Sum", (product, self.bias), dtype=product.dtype, shape=product.shape)


class _Conv(nn.Module):
    def __init__(self, layer: QuantizedConv) -> None:
        super().__init__()
        self.inputs, self.outputs = _Activations(layer.inputs), _Activations(layer.outputs)
        self.bias, self.options = layer.bias, layer.options
        self.weights = _Weights(layer.weights, layer.weight, axis=0)

    def forward(self, states: Tensor) -> Tensor:
        summed: Tensor = self.outputs(F.conv1d(self.inputs(states), self.weights(), self.bias, **self.options))
        return summed


class _Embedding(nn.Module):
    def __init__(self, layer: QuantizedEmbedding) -> None:
        super().__init__()
        self.weights, self.num_embeddings = _Weights(layer.weights, layer.weight, axis=1), layer.num_embeddings
        self.weight = torch.empty(0)  # students ask it for its type

    def forward(self, ids: Tensor) -> Tensor:
        codes = F.embedding(ids, self.weights.codes)
        return self.weights.of(codes, codes.dim() - 1)


DEPLOYED: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    QuantizedLinear: _Linear,
    QuantizedConv: _Conv,
    QuantizedEmbedding: _Embedding,
}


def exportable_codes(module: TextModel) -> TextModel:
    """A copy of a fake-quantized student for `export_module`: codes in the place of weights. It cannot compute."""
    made = copy.deepcopy(module).cpu().eval()
    for parent in [*made.modules()]:
        for name, layer in parent.named_children():
            if type(layer) in DEPLOYED:
                setattr(parent, name, DEPLOYED[type(layer)](layer))
    return made


def pack_int4(path: Path) -> None:
    """Store the int8 codes of an .onnx file that are all in -7 … 7 as int4, half as large, in place.

    The file needs operator set 21.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for tensor in model.graph.initializer:
        codes = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.INT8 or not codes.ndim or abs(codes).max() > HIGHEST_INT4:
            continue
        name = f"{tensor.name}/kdc_int4"
        casts.append(helper.make_node("Cast", [name], [tensor.name], name=f"Cast_{name}", to=TensorProto.INT8))
        tensor.CopyFrom(helper.make_tensor(name, TensorProto.INT4, tensor.dims, codes.flatten()))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.ir_version = max(model.ir_version, INT4_IR)
    onnx.checker.check_model(model, full_check=True)
    write_onnx(model, path)

"""A student that rounds as its int8 or int4 form will, and learns under it: fake quantization with learned scales.

Values become v̂ = s · clamp(round(v / s), low, high) in the forward pass; backward the rounding counts as the identity
where v is in range (straight-through, https://arxiv.org/abs/1308.3432), and the scale has the gradient of LSQ
(https://arxiv.org/abs/1902.08153), Σ ∂L/∂v̂ · (round(v/s) - v/s in range, low or high beyond) / √(N · high). Learned
scales were chosen over moving averages of ranges, because a range serves 255 levels well and 15 badly: with 4 bits it
pays to clip, and the loss says how much. Not the scale is learned but its logarithm, as TQT does with thresholds
(https://arxiv.org/abs/1903.08066): a step of AdamW is as long however small the scale.

Weights are symmetric with a scale for each output channel (of an embedding: each of its dimensions); activations have
one scale for all, and 256 levels that hold 0 exactly. These are the numbers that onnxruntime's int8 kernels compute
with, whatever the bits of the weights. The last linear layer keeps 8 bits, as in LSQ. Batch normalisation is folded
into its convolution first, with the statistics as they stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from compress.text_model import TextModel

ACTIVATION_LEVELS = 255
"""Highest code of an activation, uint8."""
LEAST_TABLE = 4096
"""Embedding tables with fewer numbers stay in float, as do those of one number a row: nothing to gain."""
GAIN = 10.0
"""A scale moves by as many times the learning rate, relative to itself: single numbers must travel far in few steps."""
SHARES = tuple(step / 20 for step in range(4, 21))
"""Of the range, tried for the scale at the start: that of the least squared error is taken."""


class FakeQuantized(torch.autograd.Function):
    """v̂ of values and its gradients; scale broadcasts against values, low and high are numbers of one element."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Values rounded to multiples of the scale from low to high."""
        ctx.save_for_backward(values, scale, low, high)
        return (values / scale).round().clamp(low, high) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of values (straight-through) and of the scale (LSQ)."""
        (gradient,), (values, scale, low, high) = gradients, ctx.saved_tensors
        ratio = values / scale
        inside = (ratio >= low) & (ratio <= high)
        slope = torch.where(inside, ratio.round() - ratio, ratio.clamp(low, high))
        of_scale = (gradient * slope).sum_to_size(scale.shape)
        weighed = of_scale / (values.numel() / scale.numel() * high).sqrt()
        return gradient * inside, weighed, None, None


class Quantizer(nn.Module):
    """A learned scale, positive, of `shape`, and the codes from `low` to `high` that it is for; float32."""

    start: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, shape: Sequence[int], low: float, high: float) -> None:
        super().__init__()
        self.register_buffer("start", torch.ones(tuple(shape)))
        self.register_buffer("low", torch.tensor(float(low)))
        self.register_buffer("high", torch.tensor(float(high)))
        self.moved = nn.Parameter(torch.zeros(tuple(shape)))

    @property
    def scale(self) -> Tensor:
        """The scale as it stands."""
        return self.start * (GAIN * self.moved).exp()

    def forward(self, values: Tensor) -> Tensor:
        """Rounded values, float32 also under autocast: a code times its scale would be rounded once more."""
        given = (values.float(), self.scale, self.low, self.high)
        rounded: Tensor = FakeQuantized.apply(*given)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return rounded

    def error(self, values: Tensor, share: float) -> Tensor:
        """Squared errors with a share of the scale at the start."""
        scale = share * self.start
        return ((values / scale).round().clamp(self.low, self.high) * scale - values).square()


class WeightQuantizer(Quantizer):
    """Scales of a weight along `axis`, from those of the least squared error; codes are symmetric."""

    def __init__(self, weight: Tensor, bits: int, axis: int) -> None:
        others = [each for each in range(weight.dim()) if each != axis]
        highest = 2 ** (bits - 1) - 1
        super().__init__([size if each == axis else 1 for each, size in enumerate(weight.shape)], -highest, highest)
        values = weight.detach().float()
        largest = values.abs().amax(others, keepdim=True)
        self.start = _or_one(torch.where(largest > 0, largest, largest.mean())) / highest
        errors = torch.stack([self.error(values, share).sum(others, keepdim=True) for share in SHARES])
        self.start = self.start * torch.tensor(SHARES)[errors.argmin(0)]
        self.bits = bits

    def codes(self, weight: Tensor) -> Tensor:
        """The weight's codes, int8."""
        return (weight.detach() / self.scale.detach()).round().clamp(self.low, self.high).to(torch.int8)


class ActivationQuantizer(Quantizer):
    """One scale for all values; `calibrate` finds where it starts.

    clipped: whether negative values become 0, which stands for the ReLU that follows.
    """

    def __init__(self, *, clipped: bool = False) -> None:
        super().__init__((), 0, ACTIVATION_LEVELS)
        self.clipped = clipped
        self.watcher: Watcher | None = None

    @property
    def zero_point(self) -> int:
        """The code of 0, in 0 … 255."""
        return -int(self.low)

    def forward(self, values: Tensor) -> Tensor:
        if self.watcher is None:
            return super().forward(values)
        values = values.float()
        seen = values.relu() if self.clipped else values
        self.watcher.watch(seen)
        return seen


class Watcher:
    """Looks at what reaches a quantizer: first the range, then the error of each share of it."""

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        self.quantizer = quantizer
        self.least = self.most = torch.zeros(())
        self.errors: Tensor | None = None

    def watch(self, values: Tensor) -> None:
        """Take in one batch."""
        if self.errors is None:
            self.least, self.most = torch.minimum(self.least, values.min()), torch.maximum(self.most, values.max())
        else:
            self.errors += torch.stack([self.quantizer.error(values, share).sum() for share in SHARES])

    def take_range(self) -> None:
        """Let the quantizer start with all of the range, and look for errors from now on."""
        quantizer, width = self.quantizer, _or_one(self.most - self.least)
        quantizer.start = width / ACTIVATION_LEVELS
        quantizer.low = -(ACTIVATION_LEVELS * -self.least / width).round()
        quantizer.high = quantizer.low + ACTIVATION_LEVELS
        self.errors = torch.zeros(len(SHARES))

    def take_share(self) -> None:
        """Let the quantizer start with the share of the least error."""
        if self.errors is not None:
            self.quantizer.start = self.quantizer.start * SHARES[int(self.errors.argmin())]


def _or_one(widths: Tensor) -> Tensor:
    """Ones in the place of zeros: nothing but zeros was seen, which any scale fits."""
    return torch.where(widths > 0, widths, torch.ones_like(widths))


class QuantizedLinear(nn.Module):
    """A linear layer of quantized inputs and weights; its sum stays in float."""

    def __init__(self, layer: nn.Linear, bits: int) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.inputs = ActivationQuantizer()
        self.weights = WeightQuantizer(self.weight, bits, axis=0)

    def forward(self, states: Tensor) -> Tensor:
        return F.linear(self.inputs(states), self.weights(self.weight), self.bias)


class QuantizedConv(nn.Module):
    """A 1-D convolution of quantized inputs, weights and outputs: [B, C, T] -> [B, N, T].

    clipped: whether a ReLU follows, which is then part of it.
    """

    def __init__(self, layer: nn.Conv1d, bits: int, *, clipped: bool) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.options: dict[str, Any] = {
            name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")
        }
        self.inputs = ActivationQuantizer()
        self.weights = WeightQuantizer(self.weight, bits, axis=0)
        self.outputs = ActivationQuantizer(clipped=clipped)

    def forward(self, states: Tensor) -> Tensor:
        summed = F.conv1d(self.inputs(states), self.weights(self.weight), self.bias, **self.options)
        rounded: Tensor = self.outputs(summed)
        return rounded


class QuantizedEmbedding(nn.Module):
    """An embedding table with quantized numbers, a scale for each of its dimensions; int64 [...] -> [..., H]."""

    def __init__(self, layer: nn.Embedding, bits: int) -> None:
        super().__init__()
        self.weight, self.padding_idx, self.num_embeddings = layer.weight, layer.padding_idx, layer.num_embeddings
        self.weights = WeightQuantizer(self.weight, bits, axis=1)

    def forward(self, ids: Tensor) -> Tensor:
        rounded: Tensor = self.weights(F.embedding(ids, self.weight, self.padding_idx))
        return rounded


def fake_quantized(module: TextModel, bits: int) -> TextModel:
    """Put fake quantization into a trained student, in place; activations want `calibrate` before they are rounded.

    Args:
        bits: of the weights, 8 or 4.
    """
    linears = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    last = linears[-1] if linears else None
    for parent in [*module.modules()]:
        if isinstance(parent, nn.Sequential):
            _fold(parent, bits)
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear):
                setattr(parent, name, QuantizedLinear(layer, 8 if layer is last else bits))
            elif isinstance(layer, nn.Conv1d):
                setattr(parent, name, QuantizedConv(layer, bits, clipped=False))
            elif isinstance(layer, nn.Embedding) and layer.weight.numel() >= LEAST_TABLE and layer.embedding_dim > 1:
                setattr(parent, name, QuantizedEmbedding(layer, bits))
    return module


def _fold(layers: nn.Sequential, bits: int) -> None:
    """Make one layer of each convolution, the normalisation and the ReLU that follow it; places keep their numbers."""
    for at, first in enumerate(layers):
        if not isinstance(first, nn.Conv1d):
            continue
        convolution, after = first, at + 1
        if after < len(layers) and isinstance(norm := layers[after], nn.BatchNorm1d):
            convolution = fuse_conv_bn_eval(first.eval(), norm.eval())
            layers[after], after = nn.Identity(), after + 1
        clipped = after < len(layers) and isinstance(layers[after], nn.ReLU)
        if clipped:
            layers[after] = nn.Identity()
        layers[at] = QuantizedConv(convolution, bits, clipped=clipped)


def calibrate(module: TextModel, batches: Iterable[Sequence[Tensor]]) -> None:
    """Set where the scales of activations start, from inputs as `forward` takes them; the module is in float meanwhile.

    The range is from the least to the largest value, with 0 in it, then the share of it with the least squared error.
    """
    held = [*batches]
    watchers = [Watcher(each) for each in module.modules() if isinstance(each, ActivationQuantizer)]
    training = module.training
    module.eval()
    for finish in (Watcher.take_range, Watcher.take_share):
        for watcher in watchers:
            watcher.quantizer.watcher = watcher
        with torch.no_grad():
            for inputs in held:
                module(*inputs)
        for watcher in watchers:
            watcher.quantizer.watcher = None
            finish(watcher)
    module.train(training)

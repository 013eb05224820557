"""Fake quantization: its gradients are the formulas, its numbers are those of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compress.students.fake_quantization import (
    GAIN,
    ActivationQuantizer,
    FakeQuantized,
    QuantizedConv,
    QuantizedEmbedding,
    QuantizedLinear,
    WeightQuantizer,
    calibrate,
    fake_quantized,
)
from tests.tiny_models import ToyModel, toy_encoded

LOW, HIGH = torch.tensor(-7.0), torch.tensor(7.0)


def round_trip(values: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int | None) -> np.ndarray:
    """DequantizeLinear(QuantizeLinear(values)) by onnxruntime."""
    options = {} if axis is None else {"axis": axis}
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **options),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **options),
        ],
        "round trip",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, values.shape)],
        [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": values})[0]
    return np.asarray(found)


def test_gradients_are_straight_through_and_those_of_lsq() -> None:
    """By hand: 0.6/0.25 = 2.4 is rounded to 2, 3/0.25 = 12 is beyond 7, -2.2/0.5 = -4.4 to -4, -9/0.5 beyond -7."""
    values = torch.tensor([[0.6, 3.0], [-2.2, -9.0]], requires_grad=True)
    scale = torch.tensor([[0.25], [0.5]], requires_grad=True)
    rounded = FakeQuantized.apply(values, scale, LOW, HIGH)
    torch.testing.assert_close(rounded, torch.tensor([[0.5, 1.75], [-2.0, -3.5]]))
    upstream = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    rounded.backward(upstream)
    torch.testing.assert_close(values.grad, torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    damped = (2 * 7) ** 0.5  # two values to a scale
    by_hand = torch.tensor([[1 * (2 - 2.4) + 2 * 7], [3 * (-4 + 4.4) + 4 * -7]]) / damped
    torch.testing.assert_close(scale.grad, by_hand)


def test_what_is_learned_is_the_logarithm_of_the_scale() -> None:
    quantizer = ActivationQuantizer()
    quantizer.start.fill_(0.1)
    values = torch.tensor([0.33, 0.84])
    quantizer(values).sum().backward()
    scale = torch.tensor(0.1, requires_grad=True)
    FakeQuantized.apply(values, scale, quantizer.low, quantizer.high).sum().backward()
    assert quantizer.moved.grad is not None
    assert scale.grad is not None
    torch.testing.assert_close(quantizer.moved.grad, GAIN * 0.1 * scale.grad)
    with torch.no_grad():
        quantizer.moved.fill_(-5.0)
    assert quantizer.scale > 0


@pytest.mark.parametrize("axis", [0, 1])
def test_weights_are_rounded_as_onnxruntime_does(axis: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(12, 20) * torch.logspace(-3, 1, 20)
    quantizer = WeightQuantizer(weight, 8, axis)
    scale = quantizer.scale.detach().flatten().numpy()
    expected = round_trip(weight.numpy(), scale, np.zeros(len(scale), np.int8), axis)
    np.testing.assert_allclose(quantizer(weight).detach().numpy(), expected, rtol=1e-6)
    codes = quantizer.codes(weight)
    assert (codes.dtype, codes.abs().max() <= 127) == (torch.int8, True)
    torch.testing.assert_close(codes * quantizer.scale, quantizer(weight))


def test_activations_are_rounded_as_onnxruntime_does() -> None:
    torch.manual_seed(0)
    values = torch.randn(400) * 2 + 1
    quantizer = ActivationQuantizer()
    quantizer.start.fill_(0.021)
    quantizer.low.fill_(-90.0)
    quantizer.high.fill_(165.0)
    scale, zero = quantizer.scale.detach().numpy(), np.uint8(quantizer.zero_point)
    expected = round_trip(values.numpy(), scale, np.asarray(zero), None)
    np.testing.assert_allclose(quantizer(values).detach().numpy(), expected, rtol=1e-6)


def test_four_bits_start_from_the_least_error_and_zeros_stay_zeros() -> None:
    weight = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))
    weight[1, 0] = 20.0
    weight[2] = 0
    quantizer = WeightQuantizer(weight, 4, axis=0)
    naive = weight.abs().amax(1, keepdim=True) / 7
    worst = ((weight / naive.clamp_min(1e-9)).round() * naive - weight).square().mean(1)
    best = (quantizer(weight) - weight).square().mean(1)
    assert best[0] < worst[0]
    assert best[1] < 0.5 * worst[1]  # clipping one outlier serves all others
    assert torch.equal(quantizer(weight)[2], weight[2])
    assert quantizer.codes(weight).abs().max() <= 7


def test_normalisation_and_relu_become_part_of_the_convolution() -> None:
    torch.manual_seed(1)

    class Block(ToyModel):
        def __init__(self) -> None:
            super().__init__(vocabulary=1000)
            self.body = nn.Sequential(
                nn.Conv1d(6, 6, 3, padding=1, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 6, 1)
            )
            self.body[1].running_mean.normal_()
            self.body[1].running_var.uniform_(0.5, 2)

        def forward(self, *inputs: torch.Tensor, hidden: object = ()) -> torch.Tensor:
            return self.head(self.body(self.embedding(inputs[0]).transpose(1, 2)).mean(2))

    module = Block().eval()
    inputs = (torch.randint(0, 1000, (8, 9)), torch.ones(8, 9))
    with torch.no_grad():
        before = module(*inputs)
        fake = fake_quantized(copy.deepcopy(module), 8)
        first, *rest = fake.body
        assert isinstance(first, QuantizedConv)
        assert first.outputs.clipped
        assert [type(layer) for layer in rest] == [nn.Identity, nn.Identity, QuantizedConv]
        calibrate(fake, [inputs])
        after = fake(*inputs)
    assert first.outputs.zero_point == 0
    assert 0 < (after - before).abs().max() < 0.03 * before.abs().max()
    assert isinstance(fake.embedding, QuantizedEmbedding)
    assert isinstance(fake.head, QuantizedLinear)


def test_the_last_layer_keeps_8_bits_and_small_tables_stay_float() -> None:
    fake = fake_quantized(ToyModel(vocabulary=40), 4)
    assert isinstance(fake.embedding, nn.Embedding)
    assert fake.head.weights.high == 127
    assert fake_quantized(ToyModel(vocabulary=1000), 4).embedding.weights.high == 7


def test_ranges_hold_zero_and_what_was_seen() -> None:
    """One batch after the other; nothing is rounded while they are looked at."""
    module = ToyModel()
    encoded = toy_encoded(30)
    ids = [torch.zeros(3, 12, dtype=torch.int64), torch.from_numpy(np.stack([encoded.ids[0][:2]] * 3)).long()]
    batches = [(each, torch.ones(each.shape)) for each in ids]
    seen: list[torch.Tensor] = []
    module.head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    module.eval()
    for batch in batches:
        module(*batch)
    values = torch.cat([each.flatten() for each in seen])
    fake = fake_quantized(module, 8)
    calibrate(fake, batches)
    inputs = fake.head.inputs
    assert inputs.low <= 0 <= inputs.high
    assert inputs.high - inputs.low == 255
    assert ((inputs(values) - values).abs() <= inputs.scale).all()

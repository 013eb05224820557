"""The basic block against its formula."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.students.residual import BasicBlock


def test_block_is_two_convolutions_and_shortcut() -> None:
    """relu(x + norm(conv(relu(norm(conv(x)))))), for a text without padding; zeros where padding is."""
    torch.manual_seed(0)
    block = BasicBlock(6, kernel=3).eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.bias)
    weights = dict(block.named_parameters()) | dict(block.named_buffers())

    def convolve(x: Tensor, place: int) -> Tensor:
        """Convolution and normalisation."""
        x = F.conv1d(x, weights[f"body.{place}.weight"], padding=1)
        mean, variance = (weights[f"body.{place + 1}.running_{name}"] for name in ("mean", "var"))
        return F.batch_norm(x, mean, variance, weights[f"body.{place + 1}.weight"], weights[f"body.{place + 1}.bias"])

    states = torch.randn(2, 6, 5)
    expected = (states + convolve(convolve(states, 0).relu(), 3)).relu()
    torch.testing.assert_close(block(states, torch.ones(2, 1, 5)), expected)
    padded = block(F.pad(states, (0, 2)), torch.tensor([1.0] * 5 + [0, 0]).expand(2, 1, 7))
    torch.testing.assert_close(padded, F.pad(expected, (0, 2)))

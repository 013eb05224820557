"""The inverted residual block against its formula."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.students.mobile import InvertedResidual


def test_block_is_expansion_depthwise_projection_and_shortcut() -> None:
    """x + project(relu(depthwise(relu(expand(x))))), for a text without padding."""
    torch.manual_seed(0)
    block = InvertedResidual(6, expansion=2, kernel=3).eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.bias)
    weights = dict(block.named_parameters()) | dict(block.named_buffers())

    def convolve(x: Tensor, place: int, **options: int) -> Tensor:
        """Convolution and normalisation."""
        x = F.conv1d(x, weights[f"body.{place}.weight"], **options)
        mean, variance = (weights[f"body.{place + 1}.running_{name}"] for name in ("mean", "var"))
        return F.batch_norm(x, mean, variance, weights[f"body.{place + 1}.weight"], weights[f"body.{place + 1}.bias"])

    states = torch.randn(2, 6, 5)
    wide = convolve(states, 0).relu()
    expected = states + convolve(convolve(wide, 3, padding=1, groups=12).relu(), 6)
    torch.testing.assert_close(block(states, torch.ones(2, 1, 5)), expected)

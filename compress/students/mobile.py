"""The `mobile` student: inverted residual 1-D convolutions over token embeddings.

Blocks after MobileNetV2 (https://arxiv.org/abs/1801.04381) in one dimension: 1x1 expansion, depthwise
convolution over neighbouring tokens, 1x1 linear projection, residual.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from compress.recipe import MobileStudent
from compress.students.encoder import ConvolutionEncoder

EXPANSION = 3
"""Layers of a block up to the end of its 1x1 expansion."""


class InvertedResidual(nn.Module):
    """x + project(depthwise(expand(x))), each with batch normalisation; [B, C, T] -> [B, C, T]."""

    def __init__(self, width: int, expansion: int, kernel: int) -> None:
        super().__init__()
        inner = width * expansion
        self.body = nn.Sequential(
            nn.Conv1d(width, inner, 1, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(),
            nn.Conv1d(inner, inner, kernel, padding=kernel // 2, groups=inner, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(),
            nn.Conv1d(inner, width, 1, bias=False),
            nn.BatchNorm1d(width),
        )

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        # Padding is zero wherever tokens meet their neighbours, so that a row's answer does not depend on
        # the rows beside it; the bias of the normalisation would put something there.
        expanded = self.body[:EXPANSION](states) * mask
        changed: Tensor = (states + self.body[EXPANSION:](expanded)) * mask
        return changed


class MobileEncoder(ConvolutionEncoder):
    """Inverted residual blocks."""

    def __init__(self, section: MobileStudent, **sizes: Any) -> None:
        super().__init__(section, lambda: InvertedResidual(section.width, section.expansion, section.kernel), **sizes)

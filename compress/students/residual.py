"""The `residual` student: ResNet-style 1-D convolutions over token embeddings.

Basic blocks after He et al. 2016 (https://arxiv.org/abs/1512.03385) in one dimension: convolution, normalisation,
ReLU, convolution, normalisation, shortcut, ReLU. Every convolution mixes all channels, so a block costs more
than one of `mobile` and sees further: two convolutions instead of one look at neighbours.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from compress.recipe import ResidualStudent
from compress.students.encoder import ConvolutionEncoder

FIRST = 3
"""Layers of a block up to the end of its first convolution."""


class BasicBlock(nn.Module):
    """relu(x + conv(relu(conv(x)))), each convolution with batch normalisation; [B, C, T] -> [B, C, T]."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, width, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(width),
        )

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        # The bias of a normalisation would put something into the padding, where the next convolution sees it.
        inner = self.body[:FIRST](states) * mask
        changed: Tensor = (states + self.body[FIRST:](inner)).relu() * mask
        return changed


class ResidualEncoder(ConvolutionEncoder):
    """Basic blocks."""

    def __init__(self, section: ResidualStudent, **sizes: Any) -> None:
        super().__init__(section, lambda: BasicBlock(section.width, section.kernel), **sizes)

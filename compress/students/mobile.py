"""MobileNet-style text encoder: inverted residual 1-D convolutions over token embeddings.

Blocks after MobileNetV2 (https://arxiv.org/abs/1801.04381) in one dimension: 1x1 expansion, depthwise
convolution over neighbouring tokens, 1x1 linear projection, residual. For two texts the encoder carries pair
features: an embedding of "this token also stands in the other text", each text pooled apart, and u, v, |u-v|,
u·v compared; without them a convolution cannot tell whether two texts agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.recipe import MobileStudent
from compress.text_model import TextModel, masked_mean

HEAD_WIDTH = 256
MOST_NEGATIVE = -1e4
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


def overlap(ids: Tensor, segments: Tensor, mask: Tensor, special: Tensor) -> Tensor:
    """1 where a token (not a special one) also stands in the row's other text: [B, T] each -> [B, T]."""
    ordinary = mask * (1 - (ids.unsqueeze(-1) == special).to(mask.dtype).sum(-1))
    same = (ids.unsqueeze(2) == ids.unsqueeze(1)).to(mask.dtype)
    across = (segments.unsqueeze(2) != segments.unsqueeze(1)).to(mask.dtype)
    return (same * across * ordinary.unsqueeze(1)).amax(2) * ordinary


def masked_max(states: Tensor, mask: Tensor) -> Tensor:
    """Maximum over tokens where mask is 1: [B, T, H], [B, T] -> [B, H]; zeros for rows without a token."""
    highest = (states + (1 - mask).unsqueeze(-1) * MOST_NEGATIVE).amax(1)
    return highest * mask.amax(1, keepdim=True)


class MobileEncoder(TextModel):
    """The `mobile` student; inputs input_ids, attention_mask and, for pairs, token_type_ids, int64 [B, T]."""

    def __init__(
        self,
        section: MobileStudent,
        *,
        vocabulary: int,
        classes: int,
        pairs: bool,
        special_ids: Sequence[int],
    ) -> None:
        super().__init__()
        width = section.width
        self.layers, self.width, self.pairs = section.blocks, width, pairs
        self.input_names = ("input_ids", "attention_mask", *(("token_type_ids",) if pairs else ()))
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(
            InvertedResidual(width, section.expansion, section.kernel) for _ in range(section.blocks)
        )
        self.dropout = nn.Dropout(section.dropout)
        self.register_buffer("special", torch.tensor(sorted(special_ids), dtype=torch.int64))
        features = 2 * width
        if pairs:
            self.segment = nn.Embedding(2, width)
            self.shared = nn.Embedding(2, width)
            features = 4 * 3 * width + 2
        self.head = nn.Sequential(
            nn.Linear(features, HEAD_WIDTH),
            nn.ReLU(),
            nn.Dropout(section.dropout),
            nn.Linear(HEAD_WIDTH, classes),
        )

    def forward(self, *inputs: Tensor, hidden: Sequence[int] = ()) -> Any:
        ids, attention = inputs[0], inputs[1]
        mask = attention.to(self.embedding.weight.dtype)
        states = self.embedding(ids)
        both: Tensor | None = None
        if self.pairs:
            segments = inputs[2]
            both = overlap(ids, segments, mask, self.get_buffer("special"))
            states = states + self.segment(segments) + self.shared(both.to(torch.int64))
        states = self.dropout(states) * mask.unsqueeze(-1)
        states, pooled = self._convolve(states, mask, hidden)
        features = self._pool(states, mask) if both is None else self._compare(states, mask, inputs[2], both)
        logits = self.head(self.dropout(features))
        return (logits, torch.stack(pooled, 1)) if hidden else logits

    def _convolve(self, states: Tensor, mask: Tensor, hidden: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        pooled: dict[int, Tensor] = {}
        channels = states.transpose(1, 2)
        for number, block in enumerate(self.blocks, start=1):
            channels = block(channels, mask.unsqueeze(1))
            if number in hidden:
                pooled[number] = masked_mean(channels.transpose(1, 2), mask)
        return channels.transpose(1, 2), [pooled[number] for number in hidden]

    @staticmethod
    def _pool(states: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([masked_mean(states, mask), masked_max(states, mask)], -1)

    @staticmethod
    def _compare(states: Tensor, mask: Tensor, segments: Tensor, both: Tensor) -> Tensor:
        sides, shares = [], []
        for side in (0, 1):
            own = mask * (segments == side).to(mask.dtype)
            only_here = own * (1 - both)
            sides.append(
                torch.cat([masked_mean(states, own), masked_max(states, own), masked_mean(states, only_here)], -1)
            )
            shares.append((own * both).sum(1, keepdim=True) / own.sum(1, keepdim=True).clamp_min(1.0))
        u, v = sides
        return torch.cat([u, v, (u - v).abs(), u * v, *shares], -1)

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())

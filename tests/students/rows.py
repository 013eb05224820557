"""Token rows as the students over token embeddings take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PAD = 0


def batch(rows: Sequence[tuple[list[int], list[int]]], length: int | None = None) -> list[Tensor]:
    """input_ids, attention_mask and token_type_ids of pairs of token lists, padded to a length, or to the longest."""
    size = max(len(first) + len(second) for first, second in rows) if length is None else length
    shape = (len(rows), size)
    ids, mask, segments = torch.full(shape, PAD), torch.zeros(shape, dtype=torch.int64), torch.zeros(shape).long()
    for row, (first, second) in enumerate(rows):
        end = len(first) + len(second)
        ids[row, :end] = torch.tensor([*first, *second])
        mask[row, :end] = 1
        segments[row, len(first) : end] = 1
    return [ids, mask, segments]

"""What a student over token embeddings knows of a text, or of two: states pooled, and two texts compared.

For two texts a student carries pair features: which tokens also stand in the other text, each text pooled apart,
and u, v, |u-v|, u·v side by side (after InferSent, https://arxiv.org/abs/1705.02364); without them a student that
never sees two distant tokens together cannot tell whether two texts agree. All of it is computed in the graph, so
that it is the same wherever the graph runs. Nothing depends on padding or on a row's neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from compress.text_model import masked_mean

MOST_NEGATIVE = -1e4
MULTIPLIER = 7919
"""Of the first token of a pair. With fewer than 2**31 / 7920, 271,000 tokens, no hash needs more than 32 bits, to
which some runtimes cut whole numbers."""


def overlap(ids: Tensor, segments: Tensor, mask: Tensor, special: Tensor) -> Tensor:
    """1 where a token (not a special one) also stands in the row's other text: [B, T] each -> [B, T]."""
    ordinary = ordinary_tokens(ids, mask, special)
    same = (ids.unsqueeze(2) == ids.unsqueeze(1)).to(mask.dtype)
    across = (segments.unsqueeze(2) != segments.unsqueeze(1)).to(mask.dtype)
    return (same * across * ordinary.unsqueeze(1)).amax(2) * ordinary


def ordinary_tokens(ids: Tensor, mask: Tensor, special: Tensor) -> Tensor:
    """1 where a token is neither padding nor a special one: [B, T] each -> [B, T]."""
    return mask * (1 - (ids.unsqueeze(-1) == special).to(mask.dtype).sum(-1))


def bigrams(ids: Tensor, buckets: int) -> Tensor:
    """The bucket of each token and the one before it, (7919·before + token) mod buckets: int64 [B, T] -> [B, T].

    Before the first one stands token 0.
    """
    hashed: Tensor = (pad(ids[:, :-1], (1, 0)) * MULTIPLIER + ids) % buckets
    return hashed


def bigram_mask(ordinary: Tensor, segments: Tensor | None) -> Tensor:
    """1 where a token and the one before it are ordinary tokens of one text: [B, T] each -> [B, T].

    Args:
        segments: 0 for tokens of the first text, 1 for the second's; None for one text.
    """
    found = ordinary * pad(ordinary[:, :-1], (1, 0))
    if segments is None:
        return found
    return found * (segments == pad(segments[:, :-1], (1, 0))).to(ordinary.dtype)


def masked_max(states: Tensor, mask: Tensor) -> Tensor:
    """Maximum over tokens where mask is 1: [B, T, H], [B, T] -> [B, H]; zeros for rows without a token."""
    highest = (states + (1 - mask).unsqueeze(-1) * MOST_NEGATIVE).amax(1)
    return highest * mask.amax(1, keepdim=True)


def pool(states: Tensor, mask: Tensor) -> Tensor:
    """Mean and maximum over the tokens of one text: [B, T, H], [B, T] -> [B, 2H]."""
    return torch.cat([masked_mean(states, mask), masked_max(states, mask)], -1)


def compare(states: Tensor, mask: Tensor, segments: Tensor, both: Tensor) -> Tensor:
    """Features of two texts side by side: [B, T, H], [B, T] each -> [B, 4·3H + 2].

    Each text gives the mean and maximum of its tokens and the mean of those that stand in it alone; then come
    the shares of its tokens that stand in the other text, too.

    Args:
        segments: 0 for tokens of the first text, 1 for the second's. both: as `overlap` gives it.
    """
    sides, shares = [], []
    for side in (0, 1):
        own = mask * (segments == side).to(mask.dtype)
        only_here = own * (1 - both)
        sides.append(torch.cat([masked_mean(states, own), masked_max(states, own), masked_mean(states, only_here)], -1))
        shares.append((own * both).sum(1, keepdim=True) / own.sum(1, keepdim=True).clamp_min(1.0))
    return torch.cat([beside(*sides), *shares], -1)


def beside(u: Tensor, v: Tensor) -> Tensor:
    """u, v, |u-v| and u·v: [B, F] each -> [B, 4F]."""
    return torch.cat([u, v, (u - v).abs(), u * v], -1)

"""The `static` student: token embeddings, a weighted mean, a small head; no layer that sees other tokens.

A text is the mean of its tokens' embeddings, each with a learned weight of its own; then a head of two linear
layers. Embeddings start from the teacher: each token alone through it, reduced by PCA, as model2vec makes static
models of sentence encoders (https://github.com/MinishLab/model2vec). Weights start from how often a token stands in
the data (smooth inverse frequency, https://openreview.net/forum?id=SyK00v5xx). While it learns, whole tokens are
dropped, as in deep averaging networks (https://aclanthology.org/P15-1162).

With `bigrams`, pairs of neighbouring tokens have embeddings, too, as in fastText (https://arxiv.org/abs/1607.01759): as
many as there are buckets, found by a hash of the two tokens that is computed in the graph. A pair is added to the
token that ends it and shares its weight; it starts at zero, so that the start from the teacher stays what it is.

Of two texts each is pooled apart, once with all its tokens and once with those that the other text lacks; u, v,
|u-v|, u·v and the weighted shares of common tokens go to the head.

Hidden-state loss: there is one layer, whose state is the weighted mean of all the row's tokens; its projection is
compared with the teacher's mean state of the one mapped layer, the last if the recipe names none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.recipe import StaticStudent
from compress.students.encoder import TokenEncoder
from compress.students.features import beside, bigram_mask, bigrams, ordinary_tokens, overlap
from compress.students.start import Origin, sif_log_weights
from compress.students.vocabulary import token_counts

LEAST = 1e-4
"""Weights of a text that sum to less, as those of no token do, count as this much."""


class StaticEncoder(TokenEncoder):
    """Weighted means of token embeddings. `log_weights` [V, 1] are the logarithms of the tokens' weights."""

    def __init__(self, section: StaticStudent, *, vocabulary: int, **sizes: Any) -> None:
        super().__init__(section, vocabulary=vocabulary, **sizes)
        self.embedding_std = section.embedding_std
        self.log_weights = nn.Embedding(vocabulary, 1)
        self.bigrams = None if section.bigrams is None else nn.Embedding(section.bigrams, section.width)
        self.head = self.new_head(4 * 2 * section.width + 2 if self.pairs else section.width)

    def start(self, origin: Origin, *, from_teacher: bool) -> None:
        super().start(origin, from_teacher=from_teacher)
        if self.bigrams is not None:
            nn.init.zeros_(self.bigrams.weight)  # the teacher's geometry is that of tokens alone
        counts = token_counts(origin.tokens.tokenizer_json, origin.tokens.size, origin.texts)
        self.log_weights.weight.data[:, 0] = sif_log_weights(counts)

    def forward(self, *inputs: Tensor, hidden: Sequence[int] = ()) -> Any:
        ids, attention = inputs[0], inputs[1]
        mask = attention.to(self.embedding.weight.dtype)
        states = self._states(ids, mask, inputs[2] if self.pairs else None)
        weights = self.dropout(self.log_weights(ids).squeeze(-1).exp() * mask)
        if self.pairs:
            both = overlap(ids, inputs[2], mask, self.get_buffer("special"))
            features = compare_means(states, weights, inputs[2], both)
        else:
            features = means(states, weights.unsqueeze(1)).squeeze(1)
        logits = self.head(self.dropout(features))
        if not hidden:
            return logits
        state = means(states, weights.unsqueeze(1))
        return logits, state.expand(-1, len(hidden), -1)

    def _states(self, ids: Tensor, mask: Tensor, segments: Tensor | None) -> Tensor:
        """Embeddings of the tokens, and of the pairs that each ends: [B, T] each -> [B, T, H]."""
        states: Tensor = self.embedding(ids)
        if self.bigrams is None:
            return states
        ordinary = ordinary_tokens(ids, mask, self.get_buffer("special"))
        neighbours: Tensor = self.bigrams(bigrams(ids, self.bigrams.num_embeddings))
        return states + neighbours * bigram_mask(ordinary, segments).unsqueeze(-1)


def means(states: Tensor, weights: Tensor) -> Tensor:
    """K weighted means over tokens: [B, T, H], [B, K, T] -> [B, K, H]; zeros where all weights are zero."""
    shares = weights / weights.sum(-1, keepdim=True).clamp_min(LEAST)
    with torch.autocast(states.device.type, enabled=False):  # |u-v| of like texts is small
        return torch.bmm(shares, states)


def compare_means(states: Tensor, weights: Tensor, segments: Tensor, both: Tensor) -> Tensor:
    """Features of two texts side by side: [B, T, H], [B, T] each -> [B, 4·2H + 2].

    Args:
        segments: 0 for tokens of the first text, 1 for the second's. both: as `overlap` gives it.
    """
    second = weights * segments.to(weights.dtype)
    first = weights - second
    sides = torch.stack([first, first * (1 - both), second, second * (1 - both)], 1)
    u, v = means(states, sides).flatten(1).chunk(2, -1)
    own = torch.stack([first, second], 1)
    shared = (own * both.unsqueeze(1)).sum(-1) / own.sum(-1).clamp_min(LEAST)
    return torch.cat([beside(u, v), shared], -1)

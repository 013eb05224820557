"""The `two-tower` student: both texts through one small BERT, neither sees the other; their cosine is the answer.

A cross-encoder reads each pair anew; a bi-encoder (Sentence-BERT, https://arxiv.org/abs/1908.10084) reads an item once,
and its embedding serves every query after. Both texts stand in one row, each tokenised by itself with its own special
tokens and positions, and attention ends at the border. So a pair's answer in one pass and the embedding of each text
alone are the same numbers, and one graph gives both.

Embedding: token mean of the last layer, one linear layer, length 1. Score: scale · cosine + bias, both learned; two
labels share it as ±score/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.artifacts import Similarity
from compress.text_model import TextModel, masked_mean

SCALE = 10.0
"""Scale at the start: cosines of like and unlike texts are then some units apart, as logits are."""
GAIN = 10.0
"""Scale and bias move as many times further a step than a weight would: two numbers must travel far in few steps."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
LEAST_NORM = 1e-6


class TwoTower(TextModel):
    """A BERT body shared by both towers.

    Inputs: input_ids, attention_mask and token_type_ids (1 from the second text on), int64 [B, T] each; special tokens
    around both texts.

    Args:
        bert: a BertModel with learned absolute positions.
        embedding: size of a text's embedding.
        labels: one for a task whose answer is a number, else two.
        positive: which of two labels means that the texts belong together.
    """

    def __init__(self, bert: Any, *, embedding: int, labels: int, positive: int) -> None:
        super().__init__()
        self.bert = bert
        self.layers, self.width = int(bert.config.num_hidden_layers), int(bert.config.hidden_size)
        self.input_names = INPUTS
        self.labels, self.positive = labels, positive
        self.project = nn.Linear(self.width, embedding)
        self.affine = nn.Parameter(torch.zeros(2))

    @property
    def similarity(self) -> Similarity:
        """Scale and bias as they stand."""
        scale, bias = (float(value.detach()) for value in self._affine())
        return Similarity(scale=scale, bias=bias)

    def _affine(self) -> tuple[Tensor, Tensor]:
        middle = -SCALE / 2 if self.labels > 1 else 0.0
        return SCALE * (GAIN * self.affine[0]).exp(), middle + GAIN * self.affine[1]

    def forward(self, *inputs: Tensor, hidden: Sequence[int] = ()) -> Any:
        ids, attention, second = inputs
        states = self._states(ids, attention, second)
        logits = self._logits(self.embed(states[-1], attention * (1 - second)), self._second(states[-1], inputs))
        if not hidden:
            return logits
        mask = attention.to(logits.dtype)
        return logits, torch.stack([masked_mean(states[layer - 1], mask) for layer in hidden], 1)

    def embed(self, states: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of length 1 of the tokens where mask is 1: [B, T, H], [B, T] -> [B, E]."""
        vectors = self.project(masked_mean(states, mask.to(states.dtype)))
        return F.normalize(vectors.float(), dim=-1, eps=LEAST_NORM)

    def _second(self, states: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        return self.embed(states, inputs[1] * inputs[2])

    def _states(self, ids: Tensor, attention: Tensor, second: Tensor) -> list[Tensor]:
        """States of all layers, each text by itself: int64 [B, T] each -> a [B, T, H] a layer."""
        first = (attention * (1 - second)).sum(1, keepdim=True)
        places = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0) - second * first
        states = self.bert.embeddings(input_ids=ids, token_type_ids=torch.zeros_like(ids), position_ids=places)
        together = (second.unsqueeze(1) == second.unsqueeze(2)).to(states.dtype) * attention.unsqueeze(1)
        barred = (1.0 - together).unsqueeze(1) * torch.finfo(states.dtype).min
        found = []
        for layer in self.bert.encoder.layer:
            output = layer(states, barred)
            states = output[0] if isinstance(output, tuple) else output
            found.append(states)
        return found

    def _logits(self, u: Tensor, v: Tensor) -> Tensor:
        scale, bias = self._affine()
        score = scale * (u * v).sum(-1) + bias
        if self.labels == 1:
            return score.unsqueeze(-1)
        sides = torch.stack([-score / 2, score / 2], -1)
        return sides if self.positive == 1 else sides.flip(-1)

    def head_parameters(self) -> list[nn.Parameter]:
        return [*self.project.parameters(), self.affine]


class WithEmbedding(nn.Module):
    """A two-tower student as it is exported: logits [B, C], and the first text's embedding [B, E]."""

    def __init__(self, module: TwoTower) -> None:
        super().__init__()
        self.module = module

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        inputs = (input_ids, attention_mask, token_type_ids)
        last = self.module._states(*inputs)[-1]
        first = self.module.embed(last, attention_mask * (1 - token_type_ids))
        return self.module._logits(first, self.module._second(last, inputs)), first

"""A BERT classifier whose last layer is computed for the first token alone: the same answer for less work.

A BERT classifier reads nothing but the first token's last state, so the last layer needs keys and values of all tokens,
but query, output projection and feed-forward of one. With 3 layers this is a third of all the arithmetic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def is_plain_bert(model: Any) -> bool:
    """Whether the model is a BertForSequenceClassification with learned absolute positions."""
    from transformers import BertForSequenceClassification

    absolute = getattr(model.config, "position_embedding_type", "absolute") == "absolute"
    return isinstance(model, BertForSequenceClassification) and absolute and not model.config.is_decoder


class FirstTokenBert(nn.Module):
    """Logits of a BertForSequenceClassification in evaluation mode: inputs int64 [B, T] each -> [B, C].

    Without token_type_ids all tokens are of type 0, as BERT takes them.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.heads = int(model.config.num_attention_heads)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        bert = self.model.bert
        states = bert.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        hidden = (1.0 - attention_mask[:, None, None, :].to(states.dtype)) * torch.finfo(states.dtype).min
        *body, last = bert.encoder.layer
        for layer in body:
            states = self._layer(layer, states, states, hidden)
        first = self._layer(last, states[:, :1], states, hidden)
        pooled = bert.pooler(first)
        logits: Tensor = self.model.classifier(pooled)
        return logits

    def _layer(self, layer: Any, queries: Tensor, states: Tensor, hidden: Tensor) -> Tensor:
        attention = layer.attention.self
        q, k, v = (
            self._split(project(source))
            for project, source in ((attention.query, queries), (attention.key, states), (attention.value, states))
        )
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + hidden
        context = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        attended = layer.attention.output(context, queries)
        changed: Tensor = layer.output(layer.intermediate(attended), attended)
        return changed

    def _split(self, states: Tensor) -> Tensor:
        rows, tokens, width = states.shape
        return states.reshape(rows, tokens, self.heads, width // self.heads).transpose(1, 2)

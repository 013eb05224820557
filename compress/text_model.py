"""A Hugging Face sequence classifier as logits and pooled hidden states; teacher and student share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.artifacts import Similarity


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over tokens where mask is 1: [B, T, H], [B, T] -> [B, H]; zeros for rows without a token."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1.0)


class TextModel(nn.Module):
    """What training, export and evaluation need of a text model.

    layers: hidden layers that `hidden=True` returns. width: size of each.
    input_names: model inputs in the order of `forward`'s arguments.
    """

    layers: int
    width: int
    input_names: tuple[str, ...]

    def forward(self, *inputs: Tensor, hidden: Sequence[int] = ()) -> Any:
        """Logits [B, C]; with `hidden` (layers from 1) also their token means [B, len(hidden), H]."""
        raise TypeError("a subclass defines forward")

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the task's head, which may learn at a rate of its own."""
        return []

    @property
    def similarity(self) -> Similarity | None:
        """How embeddings become a score, of models that read two texts apart."""
        return None


class TransformerClassifier(TextModel):
    """An AutoModelForSequenceClassification, encoder or decoder."""

    def __init__(self, model: Any, input_names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.input_names = tuple(input_names)
        self.layers = int(model.config.num_hidden_layers)
        self.width = int(model.config.hidden_size)

    def forward(self, *inputs: Tensor, hidden: Sequence[int] = ()) -> Any:
        named = dict(zip(self.input_names, inputs, strict=True))
        out = self.model(**named, output_hidden_states=bool(hidden))
        if not hidden:
            return out.logits
        mask = named["attention_mask"]
        return out.logits, torch.stack([masked_mean(out.hidden_states[layer], mask) for layer in hidden], 1)

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything outside the pretrained body."""
        body = {id(parameter) for parameter in self.model.base_model.parameters()}
        return [parameter for parameter in self.model.parameters() if id(parameter) not in body]


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(parameter.numel() for parameter in module.parameters())

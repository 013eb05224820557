"""What students over token embeddings share, and convolutions among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.recipe import ConvolutionStudent, TokenStudent
from compress.students.features import compare, overlap, pool
from compress.students.start import Origin, contextual_vectors, take_vectors
from compress.text_model import TextModel, masked_mean

HEAD_WIDTH = 256


class TokenEncoder(TextModel):
    """Token embeddings and a head; a subclass says what stands between them.

    Inputs: input_ids, attention_mask and, for pairs, token_type_ids, int64 [B, T] each.
    """

    head: nn.Sequential
    embedding_std: float
    """Standard deviation of the embeddings at the start, drawn or taken from the teacher."""

    def __init__(
        self, section: TokenStudent, *, vocabulary: int, classes: int, pairs: bool, special_ids: Sequence[int]
    ) -> None:
        super().__init__()
        self.layers, self.width, self.pairs, self.classes = section.depth, section.width, pairs, classes
        self.input_names = ("input_ids", "attention_mask", *(("token_type_ids",) if pairs else ()))
        self.embedding = nn.Embedding(vocabulary, section.width)
        self.dropout = nn.Dropout(section.dropout)
        self.register_buffer("special", torch.tensor(sorted(special_ids), dtype=torch.int64))

    def start(self, origin: Origin, *, from_teacher: bool) -> None:
        """Draw the embeddings, or take for each token what the teacher makes of it alone."""
        nn.init.normal_(self.embedding.weight, std=self.embedding_std)
        if from_teacher and origin.teacher is not None:
            vectors = contextual_vectors(origin.teacher, origin.tokens, origin.layer_map[-1])
            take_vectors(self.embedding, vectors, origin.tokens, self.embedding_std)

    def new_head(self, features: int) -> nn.Sequential:
        """Features [B, F] to logits [B, C]."""
        return nn.Sequential(
            nn.Linear(features, HEAD_WIDTH),
            nn.ReLU(),
            nn.Dropout(self.dropout.p),
            nn.Linear(HEAD_WIDTH, self.classes),
        )

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())


class ConvolutionEncoder(TokenEncoder):
    """Blocks of 1-D convolutions over token embeddings; a text is pooled, two are compared.

    A block maps states [B, C, T] and mask [B, 1, T] to states that are zero where the mask is.
    """

    embedding_std = 1.0
    """As large as what a block adds, which is normalised: smaller ones drown, and move too far in a step."""

    def __init__(self, section: ConvolutionStudent, block: Callable[[], nn.Module], **sizes: Any) -> None:
        super().__init__(section, **sizes)
        width = section.width
        self.blocks = nn.ModuleList(block() for _ in range(section.blocks))
        features = 2 * width
        if self.pairs:
            self.segment = nn.Embedding(2, width)
            self.shared = nn.Embedding(2, width)
            features = 4 * 3 * width + 2
        self.head = self.new_head(features)

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
        features = pool(states, mask) if both is None else compare(states, mask, inputs[2], both)
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

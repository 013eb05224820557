"""Token embeddings of a low rank: a narrow table, and one matrix from its width to the model's.

After ALBERT (https://arxiv.org/abs/1909.11942): most weights of a small transformer stand in its token embeddings,
which say less of a token than they have numbers for. Started from whole ones, the two are the best approximation of
their rank (Eckart and Young 1936), in which a token counts as often as it stands in the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.batch import Ints


class FactoredEmbedding(nn.Module):
    """Token ids int64 [...] -> [..., H], through a table [V, E]."""

    def __init__(self, tokens: int, size: int, width: int, pad_id: int | None) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, size, padding_idx=pad_id)
        self.up = nn.Linear(size, width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        states: Tensor = self.up(self.table(ids))
        return states


def factor(model: Any, size: int, counts: Ints) -> None:
    """Put factors of rank `size` in the place of a Hugging Face model's token embeddings; counts [V]: of tokens."""
    whole = model.get_input_embeddings().weight.detach()
    often = torch.from_numpy(counts + 1.0).sqrt().unsqueeze(1)  # those that never stand still have a say
    _, _, basis = torch.linalg.svd(often * whole.double(), full_matrices=False)
    basis = basis[:size].float()
    take_factored(model, size)
    factored = model.get_input_embeddings()
    with torch.no_grad():
        factored.table.weight.copy_(whole @ basis.T)
        factored.up.weight.copy_(basis.T)


def take_factored(model: Any, size: int) -> None:
    """Give a Hugging Face model factored token embeddings with random weights."""
    tokens, width = model.get_input_embeddings().weight.shape
    model.set_input_embeddings(FactoredEmbedding(tokens, size, width, model.config.pad_token_id))


def load_factored(folder: Path, size: int) -> Any:
    """A model that was saved with factored token embeddings."""
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    take_factored(model, size)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model

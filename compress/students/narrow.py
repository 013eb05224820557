"""A BERT made narrower: its weights projected onto the principal subspace of its own activations.

What a layer adds to the residual stream lies mostly in few directions (SliceGPT, https://arxiv.org/abs/2401.15024).
The stream of the narrow model is the wide one's in an orthonormal basis P [H, h] of those directions: what reads from
the stream is multiplied with P, what writes to it with its transpose. Heads, feed-forward neurons and neurons of the
pooler are kept whole, those that add most on the data.

Layer normalisation subtracts the mean, the direction of equal entries. P therefore holds that direction exactly, and is
turned so that equal entries of the narrow stream are it: both models subtract the same. What is lost is what lies
outside of the subspace, and that the gains of a normalisation become their mean over each direction.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.recipe import LayeredStudent
from compress.runtime.text import TextEncoder

SAMPLE_ROWS = 512
"""Rows on which activations are measured."""
ROWS_AT_ONCE = 32


def narrow(section: LayeredStudent, model: Any, encoder: TextEncoder, texts: Sequence[str]) -> Any:
    """A BertForSequenceClassification of the section's sizes that comes near to what `model` computes.

    Args:
        section: sizes that `check_narrow` passed.
        model: the wide one, as deep as the student.
        encoder: of the wide model's tokens.
        texts: what its activations are measured on; SAMPLE_ROWS of them, evenly spread, are read.
    """
    measured = _Measured(model)
    _read(model, encoder, texts, measured)
    config = copy.deepcopy(model.config)
    head_size = config.hidden_size // config.num_attention_heads
    config.hidden_size = section.hidden or config.hidden_size
    config.num_attention_heads = config.hidden_size // head_size
    config.intermediate_size = section.intermediate or min(config.intermediate_size, 4 * config.hidden_size)
    with torch.random.fork_rng(devices=[]):
        small = type(model)(config)
    basis = _basis(measured.stream, config.hidden_size)
    with torch.no_grad():
        _project(model, small, basis, measured, head_size)
    return small.eval()


class _Measured:
    """Sums over tokens, filled by hooks: stream [H, H], and what heads, neurons and the pooler's neurons add."""

    def __init__(self, model: Any) -> None:
        config = model.config
        width, layers = config.hidden_size, config.num_hidden_layers
        self.heads_count = config.num_attention_heads
        self.stream = torch.zeros(width, width, dtype=torch.float64)
        self.heads = torch.zeros(layers, self.heads_count)
        self.neurons = torch.zeros(layers, config.intermediate_size)
        self.pooler = torch.zeros(width)
        self.mask = torch.zeros(0)

    def hooks(self, model: Any) -> list[Any]:
        """Hooks on a model that fill the sums."""
        bert = model.bert
        found = [bert.embeddings.register_forward_hook(self._on_stream), bert.pooler.register_forward_hook(self._pool)]
        for number, layer in enumerate(bert.encoder.layer):
            found += [
                layer.attention.output.register_forward_hook(self._on_stream),
                layer.output.register_forward_hook(self._on_stream),
                layer.attention.output.dense.register_forward_pre_hook(self._on_heads(number)),
                layer.output.dense.register_forward_pre_hook(self._on_neurons(number)),
            ]
        return found

    def _tokens(self, states: Tensor) -> Tensor:
        return states[self.mask.bool()]

    def _on_stream(self, module: nn.Module, given: Any, states: Tensor) -> None:
        rows = self._tokens(states).double()
        self.stream += rows.T @ rows

    def _on_heads(self, number: int) -> Callable[[nn.Module, Any], None]:
        def hook(module: Any, given: Any) -> None:
            rows = self._tokens(given[0])
            for head, (part, weight) in enumerate(
                zip(
                    rows.chunk(self.heads_count, -1),
                    module.weight.chunk(self.heads_count, 1),
                    strict=True,
                )
            ):
                self.heads[number, head] += (part @ weight.T).pow(2).sum()

        return hook

    def _on_neurons(self, number: int) -> Callable[[nn.Module, Any], None]:
        def hook(module: Any, given: Any) -> None:
            self.neurons[number] += self._tokens(given[0]).pow(2).sum(0) * module.weight.pow(2).sum(0)

        return hook

    def _pool(self, module: nn.Module, given: Any, states: Tensor) -> None:
        self.pooler += states.pow(2).sum(0)


def _read(model: Any, encoder: TextEncoder, texts: Sequence[str], measured: _Measured) -> None:
    """Run the model over a sample of the texts."""
    step = max(1, len(texts) // SAMPLE_ROWS)
    ids, types, _ = encoder.encode(list(texts[::step][:SAMPLE_ROWS]))
    hooks = measured.hooks(model)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(ids), ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                feed = encoder.arrays(ids[part], types[part], ("input_ids", "attention_mask"))
                tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
                measured.mask = tensors["attention_mask"]
                model(**tensors)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()


def _basis(moments: Tensor, width: int) -> Tensor:
    """Orthonormal directions [H, h]: that of equal entries, then the principal ones of what is left, then turned.

    Equal entries of a vector u [h] are equal entries of basis · u.
    """
    size = len(moments)
    if width == size:
        return torch.eye(size)
    equal = torch.full((size, 1), 1 / math.sqrt(size), dtype=torch.float64)
    rest = torch.eye(size, dtype=torch.float64) - equal @ equal.T
    _, vectors = torch.linalg.eigh(rest @ moments @ rest)
    directions = torch.cat([equal, vectors[:, size - width + 1 :]], 1)
    # A Householder reflection that swaps the first direction with that of equal entries of u.
    first = torch.zeros(width, dtype=torch.float64)
    first[0] = 1.0
    mirror = first - 1 / math.sqrt(width)
    mirror /= mirror.norm()
    return (directions - 2 * (directions @ mirror)[:, None] * mirror).float()


def _project(model: Any, small: Any, basis: Tensor, measured: _Measured, head_size: int) -> None:
    wide, thin = model.bert, small.bert
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        getattr(thin.embeddings, name).weight.copy_(getattr(wide.embeddings, name).weight @ basis)
    _normalisation(wide.embeddings.LayerNorm, thin.embeddings.LayerNorm, basis)
    for number, (old, new) in enumerate(zip(wide.encoder.layer, thin.encoder.layer, strict=True)):
        heads = _largest(measured.heads[number], small.config.num_attention_heads)
        inside = (heads[:, None] * head_size + torch.arange(head_size)).flatten()
        for name in ("query", "key", "value"):
            _reads(getattr(old.attention.self, name), getattr(new.attention.self, name), basis, inside)
        _writes(old.attention.output.dense, new.attention.output.dense, basis, inside)
        _normalisation(old.attention.output.LayerNorm, new.attention.output.LayerNorm, basis)
        neurons = _largest(measured.neurons[number], small.config.intermediate_size)
        _reads(old.intermediate.dense, new.intermediate.dense, basis, neurons)
        _writes(old.output.dense, new.output.dense, basis, neurons)
        _normalisation(old.output.LayerNorm, new.output.LayerNorm, basis)
    kept = _largest(measured.pooler * model.classifier.weight.pow(2).sum(0), small.config.hidden_size)
    _reads(wide.pooler.dense, thin.pooler.dense, basis, kept)
    small.classifier.weight.copy_(model.classifier.weight[:, kept])
    small.classifier.bias.copy_(model.classifier.bias)


def _largest(values: Tensor, count: int) -> Tensor:
    """Places of the `count` largest values, in their own order."""
    return values.topk(count).indices.sort().values


def _reads(old: nn.Linear, new: nn.Linear, basis: Tensor, kept: Tensor) -> None:
    """A layer from the stream to some of its own neurons."""
    new.weight.copy_(old.weight[kept] @ basis)
    new.bias.copy_(old.bias[kept])


def _writes(old: nn.Linear, new: nn.Linear, basis: Tensor, kept: Tensor) -> None:
    """A layer from some neurons to the stream."""
    new.weight.copy_(basis.T @ old.weight[:, kept])
    new.bias.copy_(basis.T @ old.bias)


def _normalisation(old: nn.LayerNorm, new: nn.LayerNorm, basis: Tensor) -> None:
    """Gains and biases. A vector of the same length has more per entry where entries are fewer: √(H/h)."""
    wide, thin = basis.shape
    new.weight.copy_((basis.pow(2) * old.weight[:, None]).sum(0) * math.sqrt(wide / thin))
    new.bias.copy_(basis.T @ old.bias)

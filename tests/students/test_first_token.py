"""The last layer for the first token alone says what the whole model says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compress.students.first_token import FirstTokenBert, is_plain_bert


def bert(layers: int, **changes: Any) -> Any:
    """A classifier in evaluation mode whose answers depend visibly on every token."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(layers)
    config = BertConfig(
        vocab_size=60,
        hidden_size=24,
        num_hidden_layers=layers,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=20,
        initializer_range=0.4,
        num_labels=4,
        attn_implementation="eager",
        **changes,
    )
    return BertForSequenceClassification(config).eval()


def inputs(rows: int, tokens: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Token rows with padding of every length and second texts of every length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.arange(rows) % tokens + 1
    position = torch.arange(tokens)
    mask = (position < lengths[:, None]).long()
    types = (position >= (lengths // 2 + 1)[:, None]).long() * mask
    ids = torch.randint(1, 60, (rows, tokens), generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (2, 8), (13, 13), (20, 20)])
def test_the_same_logits_whatever_the_padding_and_type_ids(layers: int, rows: int, tokens: int) -> None:
    model, given = bert(layers), inputs(rows, tokens)
    with torch.no_grad():
        whole = model(**given).logits
        first = FirstTokenBert(model).eval()(*given.values())
    assert whole.std() > 0.05  # else anything would agree
    torch.testing.assert_close(first, whole, rtol=1e-4, atol=1e-5)


def test_what_stands_under_the_padding_changes_nothing() -> None:
    model, given = FirstTokenBert(bert(2)).eval(), inputs(12, 12)
    noise = given["input_ids"] + (1 - given["attention_mask"]) * 7
    with torch.no_grad():
        plain, noisy = model(*given.values()), model(noise, given["attention_mask"], given["token_type_ids"])
    torch.testing.assert_close(plain, noisy, rtol=1e-5, atol=1e-6)


def test_type_ids_are_read() -> None:
    model, given = FirstTokenBert(bert(2)).eval(), inputs(12, 12)
    with torch.no_grad():
        plain = model(*given.values())
        other = model(given["input_ids"], given["attention_mask"], torch.zeros_like(given["token_type_ids"]))
    assert (plain - other).abs().max() > 1e-3


def test_a_model_without_type_ids_takes_two_inputs() -> None:
    """A BERT under a tokenizer of another family, which gives none: all tokens are of type 0."""
    model, given = bert(2), inputs(6, 9)
    del given["token_type_ids"]
    with torch.no_grad():
        torch.testing.assert_close(FirstTokenBert(model)(*given.values()), model(**given).logits, rtol=1e-4, atol=1e-5)


def test_only_models_that_read_the_first_token_alone_are_taken() -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    assert is_plain_bert(bert(1))
    assert not is_plain_bert(bert(1, position_embedding_type="relative_key"))
    config = DistilBertConfig(vocab_size=30, dim=8, n_layers=1, n_heads=2, hidden_dim=8)
    assert not is_plain_bert(DistilBertForSequenceClassification(config))

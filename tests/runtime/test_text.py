"""Text becomes ids the same way everywhere, whatever the tokenizer brings along."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compress.errors import IntegrityError, RecipeError
from compress.runtime.text import TextEncoder
from tests.tiny import tiny_tokenizer_json

PAD, UNK, CLS, SEP = range(4)


def test_one_text_has_its_special_tokens_and_type_zero() -> None:
    ids, types, truncated = TextEncoder(tiny_tokenizer_json(), max_length=12).encode(["red shoe", "usb"])
    assert [row.tolist() for row in ids] == [[CLS, 4, 6, SEP], [CLS, 10, SEP]]
    assert all(not row.any() for row in types)
    assert truncated == 0
    assert ids[0].dtype == types[0].dtype == np.int32


def test_type_ids_give_each_special_token_to_the_text_before_it() -> None:
    _, types, _ = TextEncoder(tiny_tokenizer_json(), max_length=12).encode(["red shoe"], ["blue"])
    assert types[0].tolist() == [0, 0, 0, 0, 1, 1]


def test_type_ids_and_separator_without_a_template() -> None:
    encoder = TextEncoder(tiny_tokenizer_json(template=False), max_length=12, separator=" [SEP]")
    ids, types, _ = encoder.encode(["red shoe"], ["blue kettle"])
    assert types[0].tolist() == [0] * (len(types[0]) - 2) + [1, 1]
    single, _, _ = encoder.encode(["red shoe"])
    assert len(single[0]) < len(ids[0]) - 2, "the separator belongs to pairs only"


def test_the_longer_text_is_cut_first_and_cut_rows_are_counted() -> None:
    encoder = TextEncoder(tiny_tokenizer_json(), max_length=8)
    ids, types, truncated = encoder.encode(["red " * 20, "red"], ["blue shoe", "blue"])
    assert len(ids[0]) == 8
    assert types[0].sum() == 3, "both words of the short text and its end stay"
    assert truncated == 1


def test_the_tokenizers_own_padding_and_truncation_are_not_used() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tiny_tokenizer_json())
    tokenizer.enable_padding(length=30)
    tokenizer.enable_truncation(3)
    ids, _, _ = TextEncoder(tokenizer.to_str(), max_length=12).encode(["red running shoes"])
    assert len(ids[0]) == 5


def test_arrays_pad_to_the_longest_row() -> None:
    encoder = TextEncoder(tiny_tokenizer_json(), max_length=12, pad_id=PAD)
    ids, types, _ = encoder.encode(["red shoe", "usb"])
    feed = encoder.arrays(ids, types, ["attention_mask", "input_ids"])
    assert feed["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert feed["input_ids"].tolist() == [[CLS, 4, 6, SEP], [CLS, 10, SEP, PAD]]
    assert set(feed) == {"attention_mask", "input_ids"}
    assert {array.dtype for array in feed.values()} == {np.dtype(np.int64)}


def test_one_thread_gives_the_same_rows_as_many() -> None:
    texts, pairs = ["red shoe", "usb charger for coffee"] * 9, ["blue", "65 w"] * 9
    many = TextEncoder(tiny_tokenizer_json(), max_length=8).encode(texts, pairs)
    one = TextEncoder(tiny_tokenizer_json(), max_length=8, parallel=False).encode(texts, pairs)
    assert [row.tolist() for row in many[0]] == [row.tolist() for row in one[0]]
    assert [row.tolist() for row in many[1]] == [row.tolist() for row in one[1]]


def test_a_max_length_without_room_for_text_is_refused() -> None:
    with pytest.raises(RecipeError, match="max_length is 4"):
        TextEncoder(tiny_tokenizer_json(), max_length=4)


@pytest.mark.parametrize("content", ["", "{}", "not json", json.dumps({"model": {"type": "Nothing"}})])
def test_what_is_not_a_tokenizer_is_refused(content: str) -> None:
    with pytest.raises(IntegrityError, match=r"tokenizer\.json"):
        TextEncoder(content, max_length=12)


def test_an_unknown_model_input_is_refused() -> None:
    with pytest.raises(IntegrityError, match="pixel_values"):
        TextEncoder(tiny_tokenizer_json(), max_length=12).arrays([], [], ["pixel_values"])

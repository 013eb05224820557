"""Tokens that are kept are those that a tokenizer gives anew, whatever comes beside a text."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from compress.runtime.text import TextEncoder
from compress.runtime.text_cache import LONGEST, CachingEncoder, KnownTokens, whole_tokens
from tests.tiny_models import CORPUS, byte_bpe, unigram_json, wordpiece_json

END = ("<|endoftext|>", 0)
WORDS = [*" ".join(CORPUS).split(), "é", "漢字", "👟", "", " "]


def with_processor(processor: object) -> str:
    tokenizer: Tokenizer = byte_bpe()
    tokenizer.post_processor = processor
    return str(tokenizer.to_str())


TOKENIZERS: dict[str, Callable[[], str]] = {
    "wordpiece with a template": wordpiece_json,
    "bytes without a template": lambda: str(byte_bpe().to_str()),
    "unigram, two separators": unigram_json,
    "as RoBERTa": lambda: with_processor(processors.RobertaProcessing(END, END)),
    "as GPT-2": lambda: with_processor(processors.ByteLevel(trim_offsets=False)),
}


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_same_tokens_as_without(name: str, apart: bool) -> None:
    content, draw = TOKENIZERS[name](), random.Random(1)  # noqa: S311  # the same texts each time
    for max_length in (16, 17):  # even and odd: the longer text is cut first, and one of two long ones gets the rest
        plain = TextEncoder(content, max_length=max_length, separator=" / ", apart=apart)
        caching = CachingEncoder(content, texts=8, max_length=max_length, separator=" / ", apart=apart)
        for _ in range(30):
            texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 30))) for _ in range(6)]
            for arguments in ((texts[:3], texts[3:]), (texts, None), (texts[:3], texts[3:])):
                wanted, found = plain.encode(*arguments), caching.encode(*arguments)
                assert found[2] == wanted[2]
                for ours, theirs in zip((*found[0], *found[1]), (*wanted[0], *wanted[1]), strict=True):
                    assert ours.dtype == theirs.dtype
                    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_known_tokens_are_those_of_the_tokenizer(name: str, apart: bool) -> None:
    """As first text, as second, cut or not, empty, and longer than what is kept."""
    content, draw = TOKENIZERS[name](), random.Random(2)  # noqa: S311  # the same texts each time
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 30))) for _ in range(20)] + ["", "x" * 300, "é " * 200]
    for max_length in (16, 17):
        plain = TextEncoder(content, max_length=max_length, apart=apart)
        known = KnownTokens(texts, *whole_tokens(plain.tokenizer, texts))
        knowing = CachingEncoder(content, texts=8, max_length=max_length, apart=apart, known=known)
        for arguments in ((texts, texts[::-1]), (texts, None), (["new"] * len(texts), texts)):
            wanted, found = plain.encode(*arguments), knowing.encode(*arguments)
            assert found[2] == wanted[2]
            for ours, theirs in zip((*found[0], *found[1]), (*wanted[0], *wanted[1]), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_a_text_is_tokenised_once_and_what_is_kept_is_bounded() -> None:
    encoder = CachingEncoder(wordpiece_json(), texts=2, max_length=16)
    encoder.encode(["red", "red", "blue"], ["blue", "red", "red"])
    assert (encoder.cache_info().misses, encoder.cache_info().hits) == (2, 4)
    encoder.encode(["a", "b", "c", "x" * (LONGEST + 1)])
    assert encoder.cache_info().currsize == 2
    assert encoder.cache_info().misses == 5  # the long one is not looked up

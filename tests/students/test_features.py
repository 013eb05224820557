"""Overlap, pooling and comparison of two texts by hand."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.students.features import masked_max, overlap
from tests.students.rows import batch

SPECIAL = torch.tensor([0, 1, 2, 3])
TOKENS = st.lists(st.integers(0, 9), max_size=8)


def test_overlap_by_hand() -> None:
    """[CLS] 7 8 7 [SEP] | 7 9 [SEP] [PAD]: the sevens, and nothing else; not the separators, not padding."""
    ids, mask, segments = batch([([2, 7, 8, 7, 3], [7, 9, 3])], 9)
    flags = overlap(ids, segments, mask.float(), SPECIAL)
    assert flags.tolist() == [[0, 1, 0, 1, 0, 1, 0, 0, 0]]


def test_overlap_without_special_tokens() -> None:
    """A tokenizer may have none; then every token counts."""
    ids, mask, segments = batch([([4, 5], [4, 6])], 4)
    flags = overlap(ids, segments, mask.float(), torch.tensor([], dtype=torch.int64))
    assert flags.tolist() == [[1, 0, 1, 0]]


def test_the_same_token_within_one_text_is_no_overlap() -> None:
    """Repetition is not agreement."""
    ids, mask, segments = batch([([2, 7, 7, 3], [9, 9, 3])], 7)
    assert not overlap(ids, segments, mask.float(), SPECIAL).any()


@settings(deadline=None)
@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=4), st.integers(1, 3))
def test_overlap_is_that_of_sets(rows: list[tuple[list[int], list[int]]], padding: int) -> None:
    """Whatever the tokens, repeated, special or none at all: each is looked up in the other text."""
    length = max(len(first) + len(second) for first, second in rows) + padding
    ids, mask, segments = batch(rows, length)
    special = set(SPECIAL.tolist())
    expected = [
        [float(token in set(other) - special) for own, other in (row, row[::-1]) for token in own] for row in rows
    ]
    found = overlap(ids, segments, mask.float(), SPECIAL)
    for flags, right in zip(found.tolist(), expected, strict=True):
        assert flags == right + [0.0] * (length - len(right))


def test_maximum_over_tokens() -> None:
    """Padding never wins, however low the tokens; a row without tokens gives zeros."""
    states = torch.tensor([[[-5.0], [-3.0], [9.0]], [[1.0], [2.0], [3.0]]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert masked_max(states, mask).tolist() == [[-3.0], [0.0]]

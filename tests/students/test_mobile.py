"""The convolution student: no answer depends on padding or neighbours; pair features by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compress.recipe import MobileStudent
from compress.students.mobile import MobileEncoder, masked_max, overlap

PAD, SEP = 0, 3
SPECIAL = torch.tensor([0, 1, 2, 3])


def encoder(*, pairs: bool, special_ids: tuple[int, ...] = (0, 1, 2, 3)) -> MobileEncoder:
    """A student whose batch normalisation has seen data: statistics and biases are not what it starts with."""
    torch.manual_seed(0)
    section = MobileStudent(kind="mobile", width=16, blocks=3)
    model = MobileEncoder(section, vocabulary=50, classes=3, pairs=pairs, special_ids=special_ids).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    return model


def batch(rows: list[list[int]], second: list[int], length: int) -> list[Tensor]:
    """Rows padded to a length; the second text starts at the given positions."""
    ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    segments = torch.tensor(
        [[int(start <= i < len(row)) for i in range(length)] for row, start in zip(rows, second, strict=True)]
    )
    return [ids, mask, segments]


@pytest.mark.parametrize("pairs", [False, True])
def test_answer_depends_on_the_row_alone(pairs: bool) -> None:
    """More padding, other neighbours, another order: the same logits and hidden states."""
    model = encoder(pairs=pairs)
    rows = [[2, 7, 8, 9, 3, 7, 8, 3], [2, 11, 3, 12, 3], [2, 30, 31, 3, 30, 31, 32, 33, 34, 35, 3]]
    second = [5, 3, 4]
    used = len(model.input_names)
    alone = [
        model(*batch([row], [start], len(row))[:used], hidden=(1, 3)) for row, start in zip(rows, second, strict=True)
    ]
    for length in (11, 12, 40):
        logits, hidden = model(*batch(rows, second, length)[:used], hidden=(1, 3))
        torch.testing.assert_close(logits, torch.cat([one for one, _ in alone]), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(hidden, torch.cat([one for _, one in alone]), atol=1e-5, rtol=1e-5)
    reverse = model(*batch(rows[::-1], second[::-1], 11)[:used])
    torch.testing.assert_close(reverse, torch.cat([one for one, _ in alone]).flip(0), atol=1e-5, rtol=1e-5)


def test_what_stands_in_the_padding_does_not_matter() -> None:
    """Another padding token, other type ids behind the end."""
    model = encoder(pairs=True)
    ids, mask, segments = batch([[2, 7, 8, 3, 8, 9, 3]], [4], 10)
    expected = model(ids, mask, segments)
    torch.testing.assert_close(model(torch.where(mask == 1, ids, 8), mask, segments), expected)
    torch.testing.assert_close(model(ids, mask, torch.where(mask == 1, segments, 1)), expected)


def test_overlap_by_hand() -> None:
    """[CLS] 7 8 7 [SEP] | 7 9 [SEP] [PAD]: the sevens, and nothing else; not the separators, not padding."""
    ids, mask, segments = batch([[2, 7, 8, 7, 3, 7, 9, 3]], [5], 9)
    flags = overlap(ids, segments, mask.float(), SPECIAL)
    assert flags.tolist() == [[0, 1, 0, 1, 0, 1, 0, 0, 0]]


def test_overlap_without_special_tokens() -> None:
    """A tokenizer may have none; then every token counts, and the model answers."""
    ids, mask, segments = batch([[4, 5, 4, 6]], [2], 4)
    flags = overlap(ids, segments, mask.float(), torch.tensor([], dtype=torch.int64))
    assert flags.tolist() == [[1, 0, 1, 0]]
    assert encoder(pairs=True, special_ids=())(ids, mask, segments).shape == (1, 3)


def test_the_same_token_within_one_text_is_no_overlap() -> None:
    """Repetition is not agreement."""
    ids, mask, segments = batch([[2, 7, 7, 3, 9, 9, 3]], [4], 7)
    assert not overlap(ids, segments, mask.float(), SPECIAL).any()


def test_order_of_a_pair_matters() -> None:
    """(a, b) is not (b, a): query and title are different things."""
    model = encoder(pairs=True)
    one = model(*batch([[2, 7, 8, 3, 9, 3]], [4], 6))
    other = model(*batch([[2, 9, 3, 7, 8, 3]], [3], 6))
    assert (one - other).abs().max() > 1e-3


def test_maximum_over_tokens() -> None:
    """Padding never wins, however low the tokens; a row without tokens gives zeros."""
    states = torch.tensor([[[-5.0], [-3.0], [9.0]], [[1.0], [2.0], [3.0]]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert masked_max(states, mask).tolist() == [[-3.0], [0.0]]


def test_an_empty_second_text() -> None:
    """All of the second text cut away: finite numbers."""
    assert torch.isfinite(encoder(pairs=True)(*batch([[2, 7, 3]], [3], 3))).all()


def test_it_learns_from_a_batch_of_one_row() -> None:
    """The last batch of an epoch may hold one row."""
    model = encoder(pairs=True).train()
    model(*batch([[2, 7, 8, 3, 8, 3]], [4], 6)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())

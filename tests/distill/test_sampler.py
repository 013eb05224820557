"""Batches of like length: complete, repeatable, fresh each epoch, little padding."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.batch import Ints
from compress.distill.sampler import epoch_batches, steps_per_epoch


def padding(batches: list[Ints], lengths: Ints) -> int:
    """Padding tokens of an epoch."""
    return sum(int(len(rows) * lengths[rows].max() - lengths[rows].sum()) for rows in batches)


@settings(max_examples=50)
@given(st.integers(1, 3000), st.integers(1, 40), st.integers(0, 9), st.integers(0, 2000))
def test_every_row_once(rows: int, size: int, seed: int, epoch: int) -> None:
    """Every row in exactly one batch, no batch empty or too large, as many as promised, the same each time."""
    lengths = np.random.default_rng(rows).integers(2, 64, rows)
    batches = epoch_batches(lengths, size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert len(batches) == steps_per_epoch(rows, size)
    again = epoch_batches(lengths, size, seed=seed, epoch=epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


@settings(max_examples=25)
@given(st.integers(200, 3000), st.integers(4, 40), st.integers(0, 9))
def test_little_padding(rows: int, size: int, seed: int) -> None:
    """Less than half of the padding of random batches, where lengths differ."""
    lengths = np.random.default_rng(seed).integers(2, 64, rows)
    order = np.random.default_rng(seed).permutation(rows)
    at_random = [order[i : i + size] for i in range(0, rows, size)]
    assert 2 * padding(epoch_batches(lengths, size, seed=seed, epoch=0), lengths) < padding(at_random, lengths)


def test_epochs_and_seeds_differ() -> None:
    """Another epoch or another seed: other company and another order, not only shuffled batches."""
    lengths = np.random.default_rng(0).integers(2, 64, 500)
    first = epoch_batches(lengths, 16, seed=1, epoch=0)
    for other in (epoch_batches(lengths, 16, seed=1, epoch=1), epoch_batches(lengths, 16, seed=2, epoch=0)):
        shared = {frozenset(rows.tolist()) for rows in first} & {frozenset(rows.tolist()) for rows in other}
        assert len(shared) <= 2


def test_long_and_short_batches_alternate() -> None:
    """Batches do not come in the order of their lengths, which would bias the end of an epoch."""
    lengths = np.arange(1000) % 64 + 2
    means = [float(lengths[rows].mean()) for rows in epoch_batches(lengths, 10, seed=0, epoch=0)]
    assert abs(float(np.corrcoef(means, np.arange(len(means)))[0, 1])) < 0.4

"""Batches of like length: complete, repeatable, fresh each epoch, little padding."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.batch import Ints
from compress.distill.sampler import Sampler, epoch_batches, steps_per_epoch


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


# ---------------------------------------------------------------- groups

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=60)


@settings(deadline=None, max_examples=50)
@given(SIZES, st.integers(2, 16), st.integers(0, 9), st.integers(0, 2000))
def test_groups_stay_together(sizes: list[int], size: int, seed: int, epoch: int) -> None:
    """Every row once; a group in one batch, or, where it is larger than one, in as few as hold it; repeatable."""
    generator = np.random.default_rng(seed)
    groups = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    lengths = generator.integers(2, 64, len(groups))
    sampler = Sampler(lengths, size, seed, groups)
    batches = sampler.batches(0, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(groups)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert sampler.steps(0, epoch) == len(batches)
    for group, rows in enumerate(sizes):
        parts = [int((groups[batch] == group).sum()) for batch in batches if (groups[batch] == group).any()]
        assert len(parts) <= -(-rows // size)
        assert rows > size or parts == [rows]
        assert max(parts) - min(parts) <= 1
    again = Sampler(lengths, size, seed, groups).batches(0, epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_a_large_group_is_dealt_anew_each_epoch() -> None:
    """40 rows in batches of 16: other company in the next epoch and the next stage."""
    sampler = Sampler(np.full(40, 5), 16, 1, np.zeros(40, np.int64))
    first = {frozenset(batch.tolist()) for batch in sampler.batches(0, 0)}
    assert [len(rows) for rows in sorted(first, key=len)] == [13, 13, 14]
    for other in (sampler.batches(0, 1), sampler.batches(1, 0)):
        assert not first & {frozenset(batch.tolist()) for batch in other}


def test_groups_of_like_length_share_a_batch() -> None:
    """Less padding than groups in the order that they come in."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), 4)
    lengths = np.repeat(generator.integers(4, 64, 300), 4) + generator.integers(0, 4, 1200)
    by_length = Sampler(lengths, 16, 0, groups).batches(0, 0)
    as_they_come = [np.arange(i, i + 16) for i in range(0, 1200, 16)]
    assert 2 * padding(by_length, lengths) < padding(as_they_come, lengths)


def test_without_groups_a_sampler_gives_the_batches_of_rows() -> None:
    lengths = np.random.default_rng(0).integers(2, 64, 300)
    sampler = Sampler(lengths, 16, 3)
    expected = epoch_batches(lengths, 16, seed=3, epoch=2005)
    assert all(np.array_equal(a, b) for a, b in zip(sampler.batches(2, 5), expected, strict=True))
    assert sampler.steps(2, 5) == len(expected)

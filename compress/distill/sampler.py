"""Batches of like length in a seeded order: little padding, yet a fresh shuffle each epoch."""

from __future__ import annotations

import numpy as np

from compress.batch import Ints

POOL_BATCHES = 50


def epoch_batches(lengths: Ints, batch_size: int, *, seed: int, epoch: int) -> list[Ints]:
    """Rows of each step of an epoch, every row once.

    Rows are shuffled, sorted by length within pools of POOL_BATCHES batches, cut, and the batches shuffled
    again; the order depends on seed and epoch alone, so a resumed run sees the same batches.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    pool = batch_size * POOL_BATCHES
    batches: list[Ints] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    generator.shuffle(batches)
    return batches


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Batches that `epoch_batches` gives."""
    pool = batch_size * POOL_BATCHES
    full, rest = divmod(rows, pool)
    return full * POOL_BATCHES + -(-rest // batch_size)

"""Batches of like length in a seeded order: little padding, yet a fresh shuffle each epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.batch import Ints

POOL_BATCHES = 50


def epoch_batches(lengths: Ints, batch_size: int, *, seed: int, epoch: int, groups: Ints | None = None) -> list[Ints]:
    """Rows of each step of an epoch, every row once.

    Rows are shuffled, sorted by length within pools of POOL_BATCHES batches, cut, and the batches shuffled
    again; the order depends on seed and epoch alone, so a resumed run sees the same batches. With `groups`, a number
    for each row, rows of one group stand in one batch, and their number of batches differs from epoch to epoch. A
    group of more rows than a batch is dealt anew each epoch to as few batches as hold it, in like parts.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    batches = (
        _batches_of_rows(order, lengths, batch_size)
        if groups is None
        else _batches_of_groups(order, lengths, groups, batch_size)
    )
    generator.shuffle(batches)
    return batches


def _batches_of_rows(order: Ints, lengths: Ints, batch_size: int) -> list[Ints]:
    pool = batch_size * POOL_BATCHES
    batches: list[Ints] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return batches


def _batches_of_groups(order: Ints, lengths: Ints, groups: Ints, batch_size: int) -> list[Ints]:
    """Groups in the order of their first row, by longest row within pools, filled one after the other."""
    parts = _parts(order, groups, batch_size)
    longest = [int(lengths[part].max()) for part in parts]
    batches: list[Ints] = []
    start = 0
    while start < len(parts):
        end, rows = start, 0
        while end < len(parts) and rows < batch_size * POOL_BATCHES:
            rows += len(parts[end])
            end += 1
        batches += _filled([parts[i] for i in sorted(range(start, end), key=longest.__getitem__)], batch_size)
        start = end
    return batches


def _parts(order: Ints, groups: Ints, batch_size: int) -> list[Ints]:
    """The rows of each group, those of a large one in parts of at most a batch."""
    _, first, members = np.unique(groups[order], return_index=True, return_inverse=True)
    arrival = np.argsort(np.argsort(first))[members]
    together = order[np.argsort(arrival, kind="stable")]
    whole = np.split(together, np.cumsum(np.bincount(arrival))[:-1])
    return [part for rows in whole for part in np.array_split(rows, -(-len(rows) // batch_size))]


def _filled(parts: list[Ints], batch_size: int) -> list[Ints]:
    batches: list[list[Ints]] = []
    room = 0
    for part in parts:
        if len(part) > room:
            batches.append([])
            room = batch_size
        batches[-1].append(part)
        room -= len(part)
    return [np.concatenate(batch) for batch in batches]


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Batches that `epoch_batches` gives without groups."""
    pool = batch_size * POOL_BATCHES
    full, rest = divmod(rows, pool)
    return full * POOL_BATCHES + -(-rest // batch_size)


@dataclass(frozen=True)
class Sampler:
    """The batches of a whole training: see `epoch_batches`."""

    lengths: Ints
    batch_size: int
    seed: int
    groups: Ints | None = None

    def batches(self, stage: int, epoch: int) -> list[Ints]:
        """Rows of each step of an epoch of a stage."""
        number = 1000 * stage + epoch
        return epoch_batches(self.lengths, self.batch_size, seed=self.seed, epoch=number, groups=self.groups)

    def steps(self, stage: int, epoch: int) -> int:
        """How many batches those are."""
        if self.groups is None:
            return steps_per_epoch(len(self.lengths), self.batch_size)
        return len(self.batches(stage, epoch))

"""Fractional splits: seeded, reproducible, stratified by label or by whole groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from compress.batch import Ints, codes_of

# scikit-learn's splitters do not fit: StratifiedShuffleSplit refuses fewer held-out rows than classes and may
# take the last row of a class away from training; GroupShuffleSplit's share counts groups, not rows.
Mask = npt.NDArray[np.bool_]


def hold_out(
    labels: Sequence[Hashable] | Ints, groups: Sequence[str] | None, count: float, seed: int
) -> tuple[Ints, Ints]:
    """Cut about `count` rows out: by whole groups when there are groups, else stratified by label.

    Every label keeps at least one row on the side that stays, so nothing held out has an unknown label.

    Args:
        labels: label of each row, or whatever else shall stand in like shares on both sides.
        groups: group of each row; no group stands on both sides.
        count: rows to hold out.
        seed: of the draw.

    Returns:
        Rows that stay and rows held out, each ascending.
    """
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    out = _stratified(codes, count, rng) if groups is None else _grouped(codes, groups, count, rng)
    return np.flatnonzero(~out), np.flatnonzero(out)


def _stratified(codes: Ints, count: float, rng: np.random.Generator) -> Mask:
    sizes = np.bincount(codes)
    order = rng.permutation(len(sizes))  # so that no class gains from rounding by its name
    share = np.minimum(sizes[order] * (count / len(codes)), sizes[order] - 1)
    ends = np.floor(np.cumsum(share) + 0.5)
    quota = np.zeros(len(sizes), np.int64)
    quota[order] = np.minimum(np.diff(ends, prepend=0), sizes[order] - 1)
    shuffled = rng.permutation(len(codes))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    out = np.zeros(len(codes), bool)
    out[by_class[rank < np.repeat(quota, sizes)]] = True
    return out


def _grouped(codes: Ints, groups: Sequence[str], count: float, rng: np.random.Generator) -> Mask:
    members = codes_of(groups)
    left = np.bincount(codes)
    rows_of = np.split(np.argsort(members, kind="stable"), np.cumsum(np.bincount(members))[:-1])
    out = np.zeros(len(codes), bool)
    taken = 0
    for group in rng.permutation(len(rows_of)):
        if taken > count - 0.5:
            break
        rows = rows_of[group]
        present, sizes = np.unique(codes[rows], return_counts=True)
        nearer = abs(taken + len(rows) - count) < abs(taken - count)
        if nearer and (left[present] > sizes).all():
            out[rows] = True
            left[present] -= sizes
            taken += len(rows)
    return out

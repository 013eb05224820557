"""Training rows dealt to folds, so that each can be answered by a model that has not seen it (cross-fitting)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from compress.batch import Examples, Ints, codes_of
from compress.errors import DataError

# scikit-learn's StratifiedGroupKFold takes time in labels × groups × folds, minutes for thousands of labels.


def deal_folds(rows: Examples, folds: int, seed: int, *, names: Sequence[str], key: str) -> Ints:
    """The fold of each row, int64 [N], 0 up to `folds`: whole groups, equal texts together, labels in like shares.

    Two texts count as equal in either order. Rows that belong together are dealt by their rarest label, larger ones
    first, in turn to the folds. Number labels are not looked at. names: of labels. key: where the recipe has `folds`.

    Raises:
        DataError: more folds than rows of a label, or than groups, counting as one what belongs together.
    """
    units = _units(rows)
    sizes = np.bincount(units)
    strata = _strata(rows, units, folds, names, key)
    if len(sizes) < folds:
        raise DataError(
            f"{key} is {folds}, but the training rows are {len(sizes)} groups or different texts: set it to "
            f"{len(sizes)} or less, or leave it out"
        )
    drawn = np.random.default_rng(seed).permutation(len(sizes))
    order = drawn[np.lexsort((-sizes[drawn], strata[drawn]))]
    dealt = np.empty(len(sizes), np.int64)
    dealt[order] = np.arange(len(sizes)) % folds
    return np.asarray(dealt[units], np.int64)


def _units(rows: Examples) -> Ints:
    """A number for each row, equal for rows that are of one group or have the same texts, directly or by others."""
    second = rows.pairs or [""] * len(rows)
    texts = codes_of(["\0".join(sorted(both)) for both in zip(rows.texts, second, strict=True)])
    if rows.groups is None:
        return texts
    groups = codes_of(rows.groups)
    count, width = int(texts.max()) + 1, int(groups.max()) + 1
    links = coo_array((np.ones(len(rows)), (texts, count + groups)), shape=(count + width, count + width))
    return np.asarray(connected_components(links, directed=False)[1][texts], np.int64)


def _strata(rows: Examples, units: Ints, folds: int, names: Sequence[str], key: str) -> Ints:
    """The rarest label of each unit; 0 for all where labels are numbers."""
    labels, count = rows.labels, int(units.max()) + 1
    if labels is None or labels.dtype.kind == "f":
        return np.zeros(count, np.int64)
    known = np.flatnonzero(labels >= 0)
    both = np.unique(np.stack([labels[known].astype(np.int64), units[known]], 1), axis=0)
    present, frequency = np.unique(both[:, 0], return_counts=True)
    if len(frequency) and frequency.min() < folds:
        raise DataError(
            f"{key} is {folds}, but the label {names[present[frequency.argmin()]]!r} has {frequency.min()} training "
            "rows, equal texts and groups counted once, so that a fold's model may never see it: set it lower, join "
            "rare labels, or leave it out"
        )
    rarest = np.zeros(count, np.int64)
    # The last writer of a unit stays: that is its rarest label.
    for place in np.argsort(-frequency[np.searchsorted(present, both[:, 0])], kind="stable"):
        rarest[both[place, 1]] = both[place, 0]
    return rarest

"""The types that travel between data, teachers, students and training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compress.texts import Extended, Joined, Picked, row_numbers

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
TokenRow = npt.NDArray[np.int32]
Labels = Ints | Numbers
"""int64: index into the task's labels, -1 where there is none or training never saw it; float64: NaN for none."""


def no_labels(count: int, like: Labels | None) -> Labels:
    """The labels of `count` rows without any, of the kind of others."""
    if like is not None and like.dtype.kind == "f":
        return np.full(count, np.nan)
    return np.full(count, -1, np.int64)


def codes_of(names: Sequence[str]) -> Ints:
    """The place of each name among the different ones in alphabetical order: int64 [N], from 0.

    Names may be whole texts, of which a numpy array would make each as wide as the longest.
    """
    code = {name: place for place, name in enumerate(sorted(set(names)))}
    return np.fromiter((code[name] for name in names), np.int64, len(names))


@dataclass(frozen=True)
class Examples:
    """Rows of one split, column by column; all sequences have the same length.

    Columns of texts may be read from disk when they are asked for (`compress.texts`): go through them in order, in
    pieces, and keep none. labels: see `Labels`. groups: rows of equal group belong together; for ranking, they are
    those of one query. privileged, privileged_pairs: what the teacher alone reads after a row's text and second text,
    empty where a row has nothing; given in all splits of a run or in none. slices: of test rows, the columns that the
    certificate is sliced by, a JSON list a row, which no model reads.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    pairs: Sequence[str] | None = None
    labels: Labels | None = None
    groups: Sequence[str] | None = None
    weights: Floats | None = None
    privileged: Sequence[str] | None = None
    privileged_pairs: Sequence[str] | None = None
    slices: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def group_codes(self) -> Ints | None:
        """A number for each row, equal where the group is; None without groups."""
        return None if self.groups is None else codes_of(self.groups)

    @property
    def for_teacher(self) -> Examples:
        """The rows as the teacher reads them: privileged texts are part of the texts, after a space.

        Privileged features distillation, Xu et al. 2020 (https://arxiv.org/abs/1907.05171); learning using privileged
        information, Vapnik and Vashist 2009 (https://doi.org/10.1016/j.neunet.2009.06.042).
        """
        if self.privileged is None and self.privileged_pairs is None:
            return self
        return replace(
            self,
            texts=_extended(self.texts, self.privileged),
            pairs=None if self.pairs is None else _extended(self.pairs, self.privileged_pairs),
            privileged=None,
            privileged_pairs=None,
        )

    def take(self, rows: Sequence[int] | Ints) -> Examples:
        """The given rows, in the given order."""
        picked = row_numbers(rows, len(self))

        def pick(column: Sequence[str] | None) -> Sequence[str] | None:
            return None if column is None else Picked(column, picked)

        return Examples(
            ids=Picked(self.ids, picked),
            texts=Picked(self.texts, picked),
            pairs=pick(self.pairs),
            labels=None if self.labels is None else self.labels[picked],
            groups=pick(self.groups),
            weights=None if self.weights is None else self.weights[picked],
            privileged=pick(self.privileged),
            privileged_pairs=pick(self.privileged_pairs),
            slices=pick(self.slices),
        )


def _extended(texts: Sequence[str], more: Sequence[str] | None) -> Sequence[str]:
    return texts if more is None else Extended(texts, more)


def chained(first: Sequence[str] | None, second: Sequence[str] | None) -> Sequence[str] | None:
    """A column of two sets, one after the other; None where one of them lacks it."""
    return None if first is None or second is None else Joined(first, second)


@dataclass(frozen=True)
class Splits:
    """All data of a run.

    labels: label names; position is the class index. For number labels the name of a model's one output.
    fingerprint: SHA-256 (hex) of everything in it; the data's hash in artifact keys.
    notes: sentences that must be shown with the figures (overlap between splits, simulated data …).
    """

    train: Examples
    validation: Examples
    test: Examples
    unlabeled: Examples | None
    labels: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def for_teacher(self) -> Splits:
        """All data as the teacher reads them."""
        return replace(
            self,
            train=self.train.for_teacher,
            validation=self.validation.for_teacher,
            test=self.test.for_teacher,
            unlabeled=None if self.unlabeled is None else self.unlabeled.for_teacher,
        )

    @property
    def transfer(self) -> Examples:
        """Rows that the teacher answers for distillation: training rows, then the transfer set."""
        if self.unlabeled is None:
            return self.train
        hard = self.train.labels if self.train.labels is not None else no_labels(len(self.train), None)
        weights = None
        if self.train.weights is not None:
            weights = np.concatenate([self.train.weights, np.ones(len(self.unlabeled), np.float32)])
        return Examples(
            ids=Joined(self.train.ids, self.unlabeled.ids),
            texts=Joined(self.train.texts, self.unlabeled.texts),
            pairs=chained(self.train.pairs, self.unlabeled.pairs),
            labels=np.concatenate([hard, no_labels(len(self.unlabeled), hard)]),
            groups=chained(self.train.groups, self.unlabeled.groups),
            weights=weights,
            privileged=chained(self.train.privileged, self.unlabeled.privileged),
            privileged_pairs=chained(self.train.privileged_pairs, self.unlabeled.privileged_pairs),
        )


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows of one split.

    ids, type_ids: one int32 array a row, special tokens included; type_ids tell the first text (0) from the second (1).
    lengths: tokens of each row.
    """

    ids: Sequence[TokenRow]
    type_ids: Sequence[TokenRow]
    lengths: Ints
    pad_id: int
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class TeacherOutputs:
    """What the teacher says about rows.

    logits float16 [B, C]: temperature never applied. Where classes int32 [B, K] are given, [B, K + 1]: the logits of
    these classes, the K largest, and the log-sum-exp of all others.
    hidden float16 [B, L, H]: mean over the tokens of each mapped layer.
    """

    logits: npt.NDArray[np.float16]
    hidden: npt.NDArray[np.float16] | None = None
    classes: npt.NDArray[np.int32] | None = None

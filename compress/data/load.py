"""All data of a recipe: read, split, checked against each other, and turned into examples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np

from compress.batch import Examples, Labels, Splits, chained
from compress.data.labelling import Labelling, labelling_of
from compress.data.overlap import overlapping, without_overlap
from compress.data.privileged import privileged_notes
from compress.data.rows import Role
from compress.data.splits import hold_out
from compress.data.table import Table, read_table
from compress.errors import DataError, RecipeError
from compress.progress import reporter
from compress.recipe import FilesData, Fraction, LoadedRecipe, Recipe, TableSource, Task, Transfer
from compress.texts import ROWS_A_PIECE, Joined


def load_splits(loaded: LoadedRecipe, cache_dir: Path) -> Splits:
    """Read and check everything under `data`, and warn of what must be known about the figures.

    Args:
        loaded: the recipe and where its relative paths start.
        cache_dir: folder for Arrow files; made when it is not there, and safe to delete.

    Raises:
        RecipeError: columns, labels or fractions that do not fit together.
        DataError: a file, row or label that cannot be used, with its place.
        EnvironmentProblem: a hub cannot be reached, or the disk is full.
    """
    recipe = loaded.recipe
    if isinstance(recipe.data, FilesData):
        splits = _from_files(loaded, recipe.data, cache_dir)
    else:
        from compress.data.simulate import simulate

        splits = simulate(recipe.data, recipe.task, recipe.seed)
    return _with_transfer(splits, recipe.data.transfer, recipe)


def _with_transfer(splits: Splits, section: Transfer, recipe: Recipe) -> Splits:
    if not (section.variants or section.random_pairs or section.hard_pairs):
        return splits
    from compress.data.transfer import make_transfer

    made, notes = make_transfer(section, splits, recipe.seed, grouped=recipe.task.grouped)
    for note in notes:
        reporter.warn(note)
    unlabeled = made if splits.unlabeled is None else _joined(splits.unlabeled, made)
    every = [splits.train, splits.validation, splits.test, unlabeled]
    return replace(
        splits, unlabeled=unlabeled, fingerprint=fingerprint(splits.labels, every), notes=(*splits.notes, *notes)
    )


def _joined(first: Examples, second: Examples) -> Examples:
    """Two sets without labels, one after the other."""
    return Examples(
        ids=Joined(first.ids, second.ids),
        texts=Joined(first.texts, second.texts),
        pairs=chained(first.pairs, second.pairs),
        groups=chained(first.groups, second.groups),
        privileged=chained(first.privileged, second.privileged),
        privileged_pairs=chained(first.privileged_pairs, second.privileged_pairs),
    )


def _from_files(loaded: LoadedRecipe, data: FilesData, cache_dir: Path) -> Splits:
    recipe = loaded.recipe
    reader = _Reader(data, loaded.data_root(), cache_dir, recipe.task)
    train, validation, test, notes = _three(reader, data, recipe.seed)
    labels = reader.labelling.read(train, {"validation": validation, "test": test})
    notes += labels.notes
    unlabeled = reader.unlabeled()
    if unlabeled is not None:
        unlabeled = _transfer_without_leak(unlabeled, validation, test, data.overlap, notes)
    tables = {"train": train, "validation": validation, "test": test}
    splits = {name: _examples(table, labels.of[name]) for name, table in tables.items()}
    transfer = None if unlabeled is None else _examples(unlabeled, None)
    if data.privileged_columns:
        every = splits if transfer is None else splits | {"unlabeled": transfer}
        notes += privileged_notes(data.privileged_columns, every)
    for note in notes:
        reporter.warn(note)
    return Splits(
        **splits,
        unlabeled=transfer,
        labels=labels.names,
        fingerprint=fingerprint(labels.names, [*splits.values(), transfer]),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Reader:
    data: FilesData
    root: Path
    cache_dir: Path
    task: Task

    def read(self, source: TableSource, role: Role, key: str, first: int = 0) -> Table:
        table = read_table(
            source,
            self.data.train,
            role,
            root=self.root,
            cache_dir=self.cache_dir,
            task=self.task,
            key=key,
            first=first,
            slices=self.data.slices if self._holds_test(role) else (),
        )
        reporter.detail(f"  data: {len(table):,} {role} rows")
        return self.labelling.grouped(table)

    def _holds_test(self, role: Role) -> bool:
        """Whether rows of a table are test rows, or become some."""
        return role == "test" or (role == "train" and isinstance(self.data.test, Fraction))

    @property
    def labelling(self) -> Labelling:
        """How this task's labels are read."""
        return labelling_of(self.task)

    def unlabeled(self) -> Table | None:
        given = self.data.unlabeled
        if isinstance(given, TableSource):
            return self.read(given, "unlabeled", "data.unlabeled")
        tables: list[Table] = []
        for place, source in enumerate(given or []):
            first = sum(len(table) for table in tables)
            tables.append(self.read(source, "unlabeled", f"data.unlabeled.{place}", first))
        return _concatenated(tables) if tables else None


def _concatenated(tables: Sequence[Table]) -> Table:
    starts = np.cumsum([0, *(len(table.origins) for table in tables)])
    return Table(
        ids=Joined(*(table.ids for table in tables)),
        texts=Joined(*(table.texts for table in tables)),
        pairs=None if tables[0].pairs is None else Joined(*(table.pairs or [] for table in tables)),
        labels=None,
        groups=None if tables[0].groups is None else Joined(*(table.groups or [] for table in tables)),
        weights=None,
        files=np.concatenate([table.files + start for table, start in zip(tables, starts, strict=False)]),
        lines=np.concatenate([table.lines for table in tables]),
        origins=tuple(origin for table in tables for origin in table.origins),
        privileged=_chained([table.privileged for table in tables]),
        privileged_pairs=_chained([table.privileged_pairs for table in tables]),
    )


def _chained(columns: Sequence[Sequence[str] | None]) -> Sequence[str] | None:
    return reduce(chained, columns)


# ---------------------------------------------------------------- splits


def _three(reader: _Reader, data: FilesData, seed: int) -> tuple[Table, Table, Table, list[str]]:
    """train, validation and test, and what must be said about them."""
    shares = [split.fraction for split in (data.validation, data.test) if isinstance(split, Fraction)]
    if sum(shares) >= 1:
        raise RecipeError(
            f"the fractions of data.validation and data.test add up to {sum(shares):g}: leave rows to train"
        )
    read = reader.read(data.train, "train", "data.train")
    drop = data.overlap == "drop"
    train, test = _cut(reader, data.test, read, "test", len(read), seed)
    dropped = {"training": 0, "validation": 0}
    if drop:
        train, dropped["training"] = without_overlap(train, test)
        _some_left(train, "train")
    # a share of what is left when leaked rows are gone, but not of what the test split took
    base = len(read) - dropped["training"]
    train, validation = _cut(reader, data.validation, train, "validation", base, seed + 1)
    if drop:
        validation, dropped["validation"] = without_overlap(validation, test)
        train, repeated = without_overlap(train, validation)
        notes = _dropped(dropped, repeated)
    else:
        notes = _overlaps(train, validation, test)
    for table, role in ((train, "train"), (validation, "validation")):
        _some_left(table, role)
    return train, validation, test, notes


def _some_left(table: Table, role: str) -> None:
    if not len(table):
        raise DataError(
            f"data.overlap: drop leaves no row for data.{role}, since all of its rows also stand in another "
            "split: check that the splits are not the same file"
        )


def _cut(
    reader: _Reader, split: TableSource | Fraction, train: Table, role: Role, base: int, seed: int
) -> tuple[Table, Table]:
    """What stays for training, and the split: read from its own table, or cut from the training rows."""
    if isinstance(split, TableSource):
        return train, reader.read(split, role, f"data.{role}")
    stay, out = hold_out(reader.labelling.strata(train), train.groups, split.fraction * base, seed)
    if not len(out):
        whole = " and groups are kept whole" if train.groups is not None else ""
        raise DataError(
            f"data.{role}.fraction {split.fraction:g} of {base:,} training rows holds out no row, because "
            f"training keeps a row of every label{whole}: give more rows or another fraction"
        )
    return train.take(stay), train.take(out)


def _transfer_without_leak(
    unlabeled: Table, validation: Table, test: Table, overlap: str, notes: list[str]
) -> Table | None:
    """The transfer set: without the texts of validation and test, or with a note of how many stand there."""
    found = {"validation": len(overlapping(unlabeled, validation)), "test": len(overlapping(unlabeled, test))}
    kept = unlabeled
    if overlap == "drop":
        for table in (validation, test):
            kept, _ = without_overlap(kept, table)
    for name, count in found.items():
        if not count:
            continue
        rows = f"{count:,} of {len(unlabeled):,} unlabeled rows"
        if overlap == "drop":
            notes.append(f"{rows} were dropped because their texts also stand in the {name} split")
        else:
            notes.append(
                f"{rows} have texts that also stand in the {name} split: the student sees the teacher's answers to "
                "them, so figures on it look better than they are; data.overlap: drop removes them"
            )
    return kept if len(kept) else None


def _overlaps(train: Table, validation: Table, test: Table) -> list[str]:
    notes = []
    for table, name in ((train, "training"), (validation, "validation")):
        found = len(overlapping(table, test))
        if found:
            notes.append(
                f"{found:,} of {len(table):,} {name} rows have texts that also stand in the test split, so "
                "figures on it look better than they are; data.overlap: drop removes them"
            )
    repeated = len(overlapping(train, validation))
    if repeated:
        notes.append(
            f"{repeated:,} of {len(train):,} training rows have texts that also stand in the validation split, which "
            "picks checkpoints and thresholds; data.overlap: drop removes them"
        )
    return notes


def _dropped(dropped: dict[str, int], repeated: int) -> list[str]:
    notes = [
        f"{count:,} {name} rows were dropped because their texts also stand in the test split"
        for name, count in dropped.items()
        if count
    ]
    if repeated:
        notes.append(f"{repeated:,} training rows were dropped because their texts also stand in the validation split")
    return notes


# ---------------------------------------------------------------- examples


def _examples(table: Table, labels: Labels | None) -> Examples:
    return Examples(
        ids=table.ids,
        texts=table.texts,
        pairs=table.pairs,
        labels=labels,
        groups=table.groups,
        weights=table.weights,
        privileged=table.privileged,
        privileged_pairs=table.privileged_pairs,
        slices=table.slices,
    )


def fingerprint(labels: Sequence[str], splits: Sequence[Examples | None]) -> str:
    """SHA-256 (hex) over label names and every column of every split, whatever files they came from."""
    state = hashlib.sha256(json.dumps(list(labels)).encode())
    for split in splits:
        state.update(b"split" if split is None else f"split of {len(split)}".encode())
        for column in () if split is None else (split.ids, split.texts, split.pairs, split.groups):
            _hash_texts(state, column)
        for numbers in () if split is None else (split.labels, split.weights):
            state.update(b"none" if numbers is None else numbers.tobytes())
        for name in () if split is None else ("privileged", "privileged_pairs"):
            if (texts := getattr(split, name)) is not None:
                state.update(name.encode())
                _hash_texts(state, texts)
    return state.hexdigest()


def _hash_texts(state: hashlib._Hash, column: Sequence[str] | None) -> None:
    """Piece by piece: a column may be as large as memory."""
    if column is None:
        state.update(b"none")
        return
    for start in range(0, len(column), ROWS_A_PIECE):
        state.update(json.dumps(column[start : start + ROWS_A_PIECE]).encode())

"""What teachers have said, kept for all runs of a folder, by the digest of what they were asked. Imports no torch.

    <runs>/.cache/outputs/<key>.lock        held while the entry is filled, taken or removed
    <runs>/.cache/outputs/<key>/entry.json  what was asked, by which run; its time is that of the last use
                                .work/      shards, until all are there
                                outputs/    the arrays and their hashes; published by rename, never changed afterwards

A run's own `outputs/` are hard links to the arrays, so that they take room once and outlive the entry.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from compress.artifacts import (
    MANIFEST,
    Artifact,
    damage,
    free_bytes,
    link_or_copy,
    list_files,
    publishing,
    read_artifact,
    remove,
    sweep_temporaries,
    write_json,
)
from compress.errors import EnvironmentProblem, IntegrityError
from compress.locks import hold
from compress.progress import reporter
from compress.recipe import digest
from compress.teachers.arrays import HIDDEN, select_layers

ENTRIES, ENTRY, OUTPUTS, WORK = "outputs", "entry.json", "outputs", ".work"
SHORT = 12
"""Characters of a key that people are shown and may give."""

Fill = Callable[[Path, Path], dict[str, Any]]
"""Asks the teacher: keeps shards in the first folder, writes arrays into the second, returns what it found."""


class Question(BaseModel):
    """All that the teacher's answers depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: dict[str, str]
    """SHA-256 of each file of the teacher: weights, configuration, tokenizer."""
    reading: dict[str, Any]
    """How texts become tokens and outputs labels: max_length, separator, labels … of its model.json."""
    texts: str
    """SHA-256 of the rows' texts in their order."""
    layers: tuple[int, ...]
    """Layers from 1 whose states are kept, in this order."""
    top_k: int | None
    """How many logits of a row are kept; None for all."""
    arithmetic: Literal["fp32", "bf16"]
    """In which the teacher computes."""
    version: int = 1
    """Raised when the same question is answered with other numbers."""

    @property
    def key(self) -> str:
        """SHA-256 (hex)."""
        return digest(self.model_dump(mode="json"))

    def answers(self, other: Question) -> bool:
        """Whether the outputs for this question hold all that the other asks for."""
        alike = self.model_copy(update={"layers": other.layers}) == other
        return alike and set(other.layers) <= set(self.layers)


class Entry(BaseModel):
    """One entry, as its `entry.json` has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Question
    name: str
    """The teacher, as the recipe names it."""
    rows: int
    run: str
    """The run that fills it: its folder's name."""
    recipe_digest: str


def lock_of(root: Path, key: str) -> Path:
    """The lock of an entry; it stands beside the entry, so that whoever removes that can hold it."""
    return root / f"{key}.lock"


def guarded(key: str) -> str:
    """An entry in words."""
    return f"the cache entry {key[:SHORT]} of the teacher's outputs"


def read_entries(root: Path) -> dict[str, Entry]:
    """Every entry of a cache by its key.

    Raises:
        IntegrityError: what it says of itself is not what its key stands for.
    """
    found = {}
    for path in sorted(root.glob(f"*/{ENTRY}")):
        try:
            found[path.parent.name] = _read_entry(path)
        except FileNotFoundError:  # removed a moment ago
            continue
    return found


def _read_entry(path: Path) -> Entry:
    try:
        entry = Entry.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise IntegrityError(f"{path} does not describe a cache entry; delete {path.parent} to make it anew") from error
    if entry.question.key != path.parent.name:
        raise IntegrityError(
            f"{path} describes the entry {entry.question.key[:SHORT]}, not {path.parent.name[:SHORT]}; "
            f"delete {path.parent} to make it anew"
        )
    return entry


def take(root: Path, asked: Entry, out: Path, fill: Fill) -> dict[str, Any]:
    """Put the outputs for a question into the folder `out`, as hard links; `fill` asks the teacher if nobody has yet.

    A second process with the same question waits for the first. Of an entry with more layers the wanted ones are
    copied; with fewer, all are asked anew, since the teacher must be run again for any that is missing.

    Returns: what `fill` found.

    Raises:
        IntegrityError: the entry is damaged.
        EnvironmentProblem: the disk has no room.
    """
    key = asked.question.key
    folder = root / key
    root.mkdir(parents=True, exist_ok=True)
    with hold(lock_of(root, key), guarded(key)):
        sweep_temporaries(folder)
        found = read_artifact(folder / OUTPUTS)
        if found is None:
            write_json(folder / ENTRY, asked.model_dump(mode="json"))
            found = _from_larger(root, asked) or _filled(folder, asked, fill)
        else:
            _check(root, key, found)
            reporter.say(f"  teacher outputs: {asked.rows:,} rows from the cache ({key[:SHORT]}); nothing is asked")
        remove(folder / WORK)
        out.mkdir(parents=True, exist_ok=True)
        for name in found.files:
            link_or_copy(folder / OUTPUTS / name, out / name)
        os.utime(folder / ENTRY)
    return found.metrics


def _check(root: Path, key: str, found: Artifact) -> None:
    wrong = damage(root / key / OUTPUTS, found) if found.key == key else f"it is the entry {found.key[:SHORT]}"
    if wrong is not None:
        raise IntegrityError(
            f"{guarded(key)} cannot be used: {wrong}; kdc cache rm {key[:SHORT]} --runs {root.parent.parent} removes "
            "it, and the same command asks the teacher again"
        )


def _filled(folder: Path, asked: Entry, fill: Fill) -> Artifact:
    work = folder / WORK
    work.mkdir(exist_ok=True)
    sweep_temporaries(work)
    with publishing(folder / OUTPUTS) as temporary:
        temporary.mkdir()
        found = fill(work, temporary)
        return _sealed(temporary, asked, found)


def _sealed(folder: Path, asked: Entry, found: dict[str, Any]) -> Artifact:
    artifact = Artifact(
        kind="teacher-outputs",
        key=asked.question.key,
        recipe_digest=asked.recipe_digest,
        files=list_files(folder),
        metrics=found,
    )
    (folder / MANIFEST).write_text(artifact.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return artifact


def _from_larger(root: Path, asked: Entry) -> Artifact | None:
    """The entry made of one that has all the layers wanted, and more; None where no such one stands."""
    for key, entry in read_entries(root).items():
        if key == asked.question.key or not entry.question.answers(asked.question):
            continue
        with hold(lock_of(root, key), guarded(key)):
            source = root / key / OUTPUTS
            found = read_artifact(source)
            if found is None:  # not finished, or removed a moment ago
                continue
            wrong = damage(source, found)
            if wrong is not None:
                reporter.warn(f"{guarded(key)} is not used: {wrong}")
                continue
            reporter.say(f"  teacher outputs: {asked.rows:,} rows from those of more layers ({key[:SHORT]})")
            columns = [entry.question.layers.index(layer) for layer in asked.question.layers]
            with publishing(root / asked.question.key / OUTPUTS) as temporary:
                temporary.mkdir()
                _check_room(source, len(columns), len(entry.question.layers))
                select_layers(source, temporary, columns)
                return _sealed(temporary, asked, found.metrics)
    return None


def _check_room(source: Path, wanted: int, held: int) -> None:
    needed = (source / HIDDEN).stat().st_size * wanted // held
    if needed > free_bytes(source):
        raise EnvironmentProblem(
            f"hidden states of {wanted} of {held} layers need {needed:,} bytes, but only {free_bytes(source):,} are "
            f"free at {source}; free some space (kdc cache ls)"
        )

"""`kdc cache`: what the runs of a folder share on disk, which of them use it, and its removal when asked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from compress.artifacts import CACHE, MANIFEST, read_artifact, remove
from compress.errors import EnvironmentProblem, RecipeError
from compress.locks import LOCK, hold, holder
from compress.teachers.cache import ENTRIES, ENTRY, OUTPUTS, SHORT, Entry, guarded, lock_of, read_entries


@dataclass(frozen=True)
class Kept:
    """One entry of the cache of teachers' outputs.

    layers: whose hidden states it has. top_k: logits of a row, None for all. last_used: when a run last took it, UTC.
    runs: folders of the runs that have it among their stages, or, as long as it is not finished, of the run that
    fills it. held_by: number of a process that is at work on it or on one of these runs.
    """

    key: str
    teacher: str
    rows: int
    layers: tuple[int, ...]
    top_k: int | None
    max_length: int
    arithmetic: str
    size_bytes: int
    finished: bool
    last_used: str
    runs: tuple[str, ...]
    held_by: str | None


def entries_of(runs: Path) -> Path:
    """Folder of the entries that the runs of a folder share."""
    return runs / CACHE / ENTRIES


def kept(runs: Path) -> list[Kept]:
    """Every entry, the one used last first; no hash is checked.

    Raises:
        IntegrityError: an entry or a run's record of its outputs cannot be read.
    """
    users = _users(runs)
    root = entries_of(runs)
    found = [_kept(runs, key, entry, users.get(key, [])) for key, entry in read_entries(root).items()]
    return sorted(found, key=lambda entry: entry.last_used, reverse=True)


def _users(runs: Path) -> dict[str, list[str]]:
    """Key of an entry -> names of the runs whose outputs, or measures of several teachers, came from it."""
    users: dict[str, set[str]] = {}
    for manifest in (*runs.glob(f"*/outputs/{MANIFEST}"), *runs.glob(f"*/teacher/{MANIFEST}")):
        artifact = read_artifact(manifest.parent)
        metrics = {} if artifact is None else artifact.metrics
        for key in (*metrics.get("entries", ()), *([metrics["entry"]] if "entry" in metrics else ())):
            users.setdefault(key, set()).add(manifest.parent.parent.name)
    return {key: sorted(names) for key, names in users.items()}


def _kept(runs: Path, key: str, entry: Entry, users: list[str]) -> Kept:
    root = entries_of(runs)
    finished = (root / key / OUTPUTS / MANIFEST).is_file()
    if not finished and (runs / entry.run).is_dir():
        users = sorted({*users, entry.run})
    locks = [lock_of(root, key), *(runs / user / LOCK for user in users)]
    used = datetime.fromtimestamp((root / key / ENTRY).stat().st_mtime, UTC)
    return Kept(
        key=key,
        teacher=entry.name,
        rows=entry.rows,
        layers=entry.question.layers,
        top_k=entry.question.top_k,
        max_length=int(entry.question.reading["max_length"]),
        arithmetic=entry.question.arithmetic,
        size_bytes=sum(file.st_size for file in _files(root / key)),
        finished=finished,
        last_used=used.isoformat(timespec="microseconds"),
        runs=tuple(users),
        held_by=next((process for lock in locks if (process := holder(lock))), None),
    )


def _files(folder: Path) -> list[os.stat_result]:
    """Size and names of each file; a run at work may take one away meanwhile."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found.append(Path(place, name).stat())
    return found


def _freed(files: Sequence[os.stat_result]) -> int:
    """Bytes that are free when these names of files are gone: of files that have no other name."""
    names = Counter((file.st_dev, file.st_ino) for file in files)
    last = {(file.st_dev, file.st_ino): file for file in files}
    return sum(file.st_size for place, file in last.items() if names[place] == file.st_nlink)


def forget(runs: Path, keys: Sequence[str], *, unused: bool = False, every: bool = False) -> tuple[list[Kept], int]:
    """Remove entries: those named by keys (or how keys begin), those that no run uses, or all.

    Either all that were meant are removed, or none. Runs keep their own outputs.

    Returns: what was removed, and the bytes that this set free: arrays that a run still has take their room on.

    Raises:
        RecipeError: a key that names no entry, or several.
        EnvironmentProblem: a running command uses an entry.
    """
    found = kept(runs)
    if unused:
        chosen = [entry for entry in found if not entry.runs and entry.held_by is None]
    else:
        named = {_named(key, found, runs).key for key in keys}
        chosen = [entry for entry in found if every or entry.key in named]
    root = entries_of(runs)
    with ExitStack() as held:
        for entry in chosen:
            if entry.held_by is not None:
                raise EnvironmentProblem(
                    f"{guarded(entry.key)} is in use by process {entry.held_by}; wait until it ends, or stop it, "
                    "and try again: nothing was removed"
                )
            held.enter_context(hold(lock_of(root, entry.key), guarded(entry.key), wait=False))
        freed = _freed([file for entry in chosen for file in _files(root / entry.key)])
        for entry in chosen:
            # without it, what a kill leaves behind is no finished entry
            remove(root / entry.key / OUTPUTS / MANIFEST)
            remove(root / entry.key)
            remove(lock_of(root, entry.key))
    return chosen, freed


def _named(key: str, found: Sequence[Kept], runs: Path) -> Kept:
    meant = [entry for entry in found if entry.key.startswith(key)]
    if len(meant) == 1:
        return meant[0]
    there = ", ".join(entry.key[:SHORT] for entry in found)
    if meant:
        among = ", ".join(entry.key[:SHORT] for entry in meant)
        raise RecipeError(f"{key} is how {len(meant)} keys in {entries_of(runs)} begin ({among}): give more of it")
    what = f"there are {there}" if found else "there is none"
    raise RecipeError(f"{key} is the key of no entry in {entries_of(runs)}; {what} (kdc cache ls)")

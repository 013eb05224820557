"""The members of a bundle's file or folder, counted and measured before any is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from compress.errors import RecipeError
from compress.runtime.archive import MAX_MEMBERS, MalformedArchive, unpack

MAX_BYTES = 2**31 - 1
"""Largest bundle; beyond it a zip changes its format, and ONNX cannot hold the weights in one file anyway."""
MAX_FOLDERS = 64
"""Folders in an unpacked bundle."""


def read_members(path: Path) -> dict[str, bytes]:
    """Name -> bytes of what is packed into a file, or lies below a folder.

    Raises:
        RecipeError: it is neither.
        MalformedArchive: it is no such archive or folder, or too large.
        OSError: it cannot be read.
    """
    return _read_folder(path) if path.is_dir() else _read_file(path)


def _check_limits(count: int, size: int) -> None:
    if count > MAX_MEMBERS:
        raise MalformedArchive(f"it has more than {MAX_MEMBERS} members")
    if size > MAX_BYTES:
        raise MalformedArchive(f"it has {size:,} bytes, {MAX_BYTES:,} are allowed")


def _read_file(path: Path) -> dict[str, bytes]:
    if not path.is_file():
        raise RecipeError(f"{path} is neither a file nor a folder; give the path of a bundle")
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        _check_limits(0, size)
        return unpack(stream, size)


def _read_folder(folder: Path) -> dict[str, bytes]:
    found: dict[str, int] = {}
    for name, size in _measured(folder):
        found[name] = size
        _check_limits(len(found), sum(found.values()))
    return {name: _content(folder, name, found[name]) for name in sorted(found)}


def _measured(folder: Path) -> Iterator[tuple[str, int]]:
    """Relative name and size of every file below a folder."""
    folders = [folder]
    for current in folders:  # grows on the way
        with os.scandir(current) as entries:
            for entry in entries:
                name = Path(entry.path).relative_to(folder).as_posix()
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield name, entry.stat(follow_symlinks=False).st_size
                else:
                    raise MalformedArchive(f"{name!r} is a link or not a plain file")
                if len(folders) > MAX_FOLDERS:
                    raise MalformedArchive(f"it has more than {MAX_FOLDERS} folders")


def _content(folder: Path, name: str, size: int) -> bytes:
    """A file's bytes, never more than were counted."""
    with (folder / name).open("rb") as stream:
        content = stream.read(size + 1)
    if len(content) != size:
        raise MalformedArchive(f"the size of {name!r} changed while it was read")
    return content

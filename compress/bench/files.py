"""Bench results on disk: JSON lines that are only ever appended to, each with what was measured, where and when."""

from __future__ import annotations

import datetime
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import compress
from compress.artifacts import is_disk_full
from compress.errors import DataError, EnvironmentProblem, RecipeError

SCHEMA = 1
"""Version of the lines; another one is refused, since its figures may mean something else."""
SUFFIX = ".jsonl"
"""Ending of files of results, which no artifact has."""
NEEDED = ("artifact", "target", "scenario", "threads", "batch", "status")
Row = dict[str, Any]


def origin(device: Mapping[str, Any]) -> Row:
    """What all rows of one command have in common: schema, date (UTC), version and commit of kdc, the machine.

    `commit` is None where kdc was not started from a checkout.
    """
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "kdc": compress.__version__,
        "commit": _commit(),
        "device": dict(device),
    }


def check_writable(path: Path, option: str) -> None:
    """Refuse, before any work, a file that could not be written after it; makes the folders above it.

    Raises:
        RecipeError: something above it is no folder. EnvironmentProblem: the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") if path.exists() else TemporaryFile(dir=path.parent):
            pass
    except (NotADirectoryError, FileExistsError) as error:
        raise RecipeError(f"{option} {path} lies below {path.parent}, which is no folder; name another path") from error
    except OSError as error:
        raise EnvironmentProblem(f"{option} {path} cannot be written ({error.strerror}); name another path") from error


def append_results(path: Path, rows: Iterable[Mapping[str, Any]], made: Mapping[str, Any]) -> None:
    """Add rows to a results file, whole or not at all; what stands there is not touched. made: see `origin`.

    Raises:
        EnvironmentProblem: the disk is full, or the file cannot be written.
    """
    try:
        _append(path, rows, made)
    except OSError as error:
        why = "the disk is full" if is_disk_full(error) else f"the system refuses ({error.strerror})"
        remedy = "free some space and try again" if is_disk_full(error) else "name another path"
        raise EnvironmentProblem(f"{why}: {path} could not be written; {remedy}") from error


def _append(path: Path, rows: Iterable[Mapping[str, Any]], made: Mapping[str, Any]) -> None:
    added = "".join(json.dumps({**made, **row}, ensure_ascii=False) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        if end and os.pread(stream.fileno(), 1, end - 1) != b"\n":
            added = b"\n" + added  # the last line lacks its end, as some editors leave it
        try:
            if stream.write(added) != len(added):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            stream.truncate(end)
            raise


def check_appendable(path: Path) -> None:
    """Refuse, before any work, a file that rows could not be added to, or that `kdc bench` would not read as results.

    Raises:
        DataError: it is there and holds something else than results of this schema; names file and line.
        RecipeError: its name ends otherwise. EnvironmentProblem: it cannot be written.
    """
    if path.exists():
        read_results(path)
    if path.suffix.lower() != SUFFIX:
        raise RecipeError(f"-o {path} does not end in {SUFFIX}, which tells files of results from artifacts; rename it")
    check_writable(path, "-o")


def read_results(path: Path) -> list[Row]:
    """All rows of a results file.

    Raises:
        DataError: it cannot be read, or a line is no result of this schema.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} cannot be read ({why}); give a file that `kdc bench -o` wrote") from error
    return [_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(
            f"{where} is not JSON ({error}); take the line out where it was cut short, or give a file that "
            "`kdc bench -o` wrote"
        ) from error
    if not isinstance(row, dict) or "schema" not in row:
        raise DataError(f"{where} is no bench result: it has no schema; give a file that `kdc bench -o` wrote")
    if row["schema"] != SCHEMA:
        raise DataError(
            f"{where} is a bench result of schema {row['schema']!r}, this kdc reads {SCHEMA}; measure again into "
            "another file, or use the kdc that wrote it"
        )
    missing = [key for key in NEEDED if key not in row]
    if missing:
        raise DataError(f"{where} is no bench result: it has no {missing[0]!r}; give a file that `kdc bench -o` wrote")
    return row


@cache
def _commit() -> str | None:
    root, git = Path(compress.__file__).resolve().parents[1], shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    done = subprocess.run([git, "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None

"""What every benchmark's row says of its origin, and the append-only files that the rows go into."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compress.bench.machine import describe
from compress.errors import KdcError
from compress.extras import version

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
RECORDED = ("benchmarks/results", "docs")
"""What a benchmark itself changes: its rows, and the page and pictures that are drawn from them."""


def origin(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Date (UTC), commit, whether tracked files differ from it, and the machine with its load and versions.

    What is `RECORDED` does not count as a difference.

    packages: distributions whose versions are told besides those of `compress.bench.machine`.
    """
    machine = describe()
    machine["versions"] |= {name: version(name) for name in packages}
    recorded = [f":(exclude){path}" for path in RECORDED]
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *recorded)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed": None if changes is None else bool(changes),
        "machine": machine,
    }


@contextmanager
def exit_codes(name: str) -> Iterator[None]:
    """End with the exit code of a KdcError, and its sentence on stderr; `name` is the benchmark's."""
    try:
        yield
    except KdcError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to a file of JSON lines; what stands there is never touched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of an append-only file; none when it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _git(*arguments: str) -> str | None:
    """What git says, or None outside a checkout and without git."""
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None

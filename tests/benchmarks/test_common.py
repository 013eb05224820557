"""Where rows come from: what counts as a difference from the commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import common
from benchmarks.common import origin


def git(folder: Path, *arguments: str) -> None:
    named = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *named, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("path", "changed"),
    [("benchmarks/results/web.jsonl", False), ("docs/results.md", False), ("compress/loop.py", True)],
)
def test_what_a_benchmark_writes_itself_is_no_change(
    path: str, changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So all rows of `python -m benchmarks all` in a clean clone are of its commit."""
    monkeypatch.setattr(common, "ROOT", tmp_path)
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text("before")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    assert origin()["changed"] is False
    file.write_text("after")
    assert origin()["changed"] is changed

"""Publishing: whole or not at all, and never at the price of what stood there before."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from compress.artifacts import publishing, sweep_temporaries
from compress.errors import EnvironmentProblem


def folder(path: Path, content: str) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_text(content)
    return path


def test_an_older_folder_is_replaced(tmp_path: Path) -> None:
    target = folder(tmp_path / "made", "old")
    with publishing(target) as temporary:
        folder(temporary, "new")
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_failed_rename_leaves_the_older_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = folder(tmp_path / "made", "old")
    rename = os.replace

    def refuse(source: Path, goal: Path) -> None:
        if goal == target and (Path(source) / "file").read_text() == "new":
            raise OSError(errno.ENOSPC, "no room", str(goal))
        rename(source, goal)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(EnvironmentProblem, match="the disk is full"), publishing(target) as temporary:
        folder(temporary, "new")
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older folder was moved aside and the new one never came: sweeping puts it back."""
    target = folder(tmp_path / "made-of-parts", "old")
    rename = os.replace
    aside: list[Path] = []

    class Killed(BaseException):
        """Nothing after it runs."""

    def die(source: Path, goal: Path) -> None:
        rename(source, goal)
        aside.append(Path(goal))
        raise Killed

    monkeypatch.setattr(os, "replace", die)
    monkeypatch.setattr("compress.artifacts.remove", lambda path: None)
    with pytest.raises(Killed), publishing(target) as temporary:
        folder(temporary, "new")
    monkeypatch.undo()
    assert not target.exists()
    sweep_temporaries(tmp_path)
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["made-of-parts"]


def test_what_was_replaced_is_swept_when_the_new_one_stands(tmp_path: Path) -> None:
    folder(tmp_path / "made", "new")
    folder(tmp_path / ".old-12-ab34cd56-made", "old")
    sweep_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]

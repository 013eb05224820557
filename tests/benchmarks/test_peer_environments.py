"""A benchmark that goes on in a peer's environment: what it is started with, what it sees there, what fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import peer_environments
from benchmarks.common import ROOT
from benchmarks.peer_environments import PINS, enter
from tests.tiny_wheel import wheel

PROGRAM = """
import sys
from pathlib import Path
from benchmarks import peer_environments
peer_environments.PINS["again"] = (sys.argv[1],)
missing = peer_environments.enter("again", "program", place=Path(sys.argv[2]))
import againpeer, numpy
print(missing, againpeer.ANSWER, sys.argv[3:], Path(sys.prefix).name)
sys.exit(7)
"""


def test_it_goes_on_there_with_its_arguments_and_exit_code(tmp_path: Path) -> None:
    """The peer and the project's packages are both there."""
    (tmp_path / "program.py").write_text(PROGRAM)
    paths = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [
        sys.executable,
        "-m",
        "program",
        str(wheel(tmp_path, "againpeer")),
        str(tmp_path / "peers"),
        "--rounds",
        "1",
    ]
    done = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("None 42 ['--rounds', '1'] again\n", 7), done.stderr


def test_the_command_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[object]()
    monkeypatch.setattr(peer_environments, "environment", lambda name, place: place / name / "bin" / "python")
    monkeypatch.setattr(os, "execve", lambda *given: started.extend(given))
    monkeypatch.setenv("PYTHONPATH", "mine")
    enter("textbrewer", "benchmarks.training", ["--rounds", "1"], tmp_path)
    python = str(tmp_path / "textbrewer" / "bin" / "python")
    assert started[:2] == [python, [python, "-m", "benchmarks.training", "--rounds", "1"]]
    assert started[2] == os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), "mine"])}


def test_what_cannot_be_installed_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PINS, "again", (str(tmp_path / "again-1.0-py3-none-any.whl"),))
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("it was started"))
    assert str(enter("again", "program", [], tmp_path)).startswith("again could not be installed: ")


def test_all_peers_are_pinned() -> None:
    assert all("==" in pin for pins in PINS.values() for pin in pins)

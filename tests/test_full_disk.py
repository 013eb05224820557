"""A disk that is full at any moment of a run: exit code 4, nothing half made, and the same command goes on."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.tiny_project import kdc, leftovers, published, recipe_of, write_recipe


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of so many kilobytes; asked again, the same one made larger."""
    point = tmp_path / "disk"
    point.mkdir()

    def sized(kilobytes: int) -> Path:
        mounted = os.path.ismount(point)
        options = f"{'remount,' if mounted else ''}size={kilobytes}k"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"not run: no small file system can be mounted ({done.stderr.strip()}); run it as root")
        return point

    yield sized
    if os.path.ismount(point):
        subprocess.run(["umount", "--lazy", str(point)], check=True)


@pytest.mark.parametrize(("command", "step"), [("distill", 64), pytest.param("run", 96, marks=pytest.mark.long)])
def test_a_full_disk_is_4_and_the_same_command_goes_on_with_more_room(
    project: Path, small_disk: Callable[[int], Path], command: str, step: int
) -> None:
    runs = small_disk(8) / "runs"
    recipe = write_recipe(project, recipe_of("classification", "transformer"))
    full_at: list[set[str]] = []
    for kilobytes in range(16, 8000, step):
        small_disk(kilobytes)
        done = kdc(command, recipe, "--runs", runs, "--json")
        if done.exit_code == 0:
            break
        assert done.exit_code == 4, done.stderr
        told = [line for line in done.stderr.splitlines() if line.startswith("kdc: ")]
        assert len(told) == 1
        assert re.search("disk.*full|bytes.* free at", told[0]), told[0]
        assert "free some space" in told[0]
        assert list(runs.glob("*/.tmp-*")) == []
        full_at.append(published(runs))
    found = json.loads(done.stdout)
    reused = {row["stage"] for row in found["stages"] if row["status"] == "reused"}
    again = {"bench", "bundle"}  # a busy machine times again, and the bundle carries what was timed
    assert reused | again == full_at[-1] | again
    assert all(earlier <= later for earlier, later in pairwise(full_at))  # what was finished stayed
    assert len({len(stages) for stages in full_at}) > 2  # it was full in different stages
    assert leftovers(runs) == []

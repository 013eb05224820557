"""Entries of the cache: found again by what was asked, finished after a kill, filled once, never used when damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.errors import EnvironmentProblem, IntegrityError
from compress.locks import holder
from compress.teachers import cache
from compress.teachers.cache import Entry, Question, lock_of, take

ROWS, WIDTH = 6, 4
QUESTION: dict[str, Any] = {
    "teacher": {"model.safetensors": "w", "tokenizer.json": "t"},
    "reading": {"max_length": 32},
    "texts": "x",
    "layers": (2, 4, 6),
    "top_k": None,
    "arithmetic": "fp32",
}


def asked(**changes: Any) -> Entry:
    """An entry to take."""
    question = Question(**(QUESTION | changes))
    return Entry(question=question, name="bert", rows=ROWS, run="shop-1", recipe_digest="d")


def states(layers: tuple[int, ...]) -> np.ndarray:
    """Hidden states that tell row and layer."""
    return np.arange(ROWS).reshape(-1, 1, 1) + 100.0 * np.array(layers).reshape(1, -1, 1) + np.zeros(WIDTH)


def filling(entry: Entry) -> Any:
    """A teacher that answers at once."""

    def fill(work: Path, out: Path) -> dict[str, Any]:
        layers = entry.question.layers
        np.save(out / "logits.npy", np.ones((ROWS, 3), np.float16))
        if layers:
            np.save(out / "hidden.npy", states(layers).astype(np.float16))
        return {"truncated": 1}

    return fill


def never(work: Path, out: Path) -> dict[str, Any]:
    """A teacher that must not be asked."""
    raise AssertionError("asked again")


def size_of(root: Path) -> int:
    return len(cache.read_entries(root))


def test_the_same_question_is_asked_once(tmp_path: Path) -> None:
    """What the second run gets are the same files, and what was found out with them."""
    root, entry = tmp_path / "cache", asked()
    first = take(root, entry, tmp_path / "one", filling(entry))
    os.utime(root / entry.question.key / "entry.json", (1, 1))
    assert take(root, entry, tmp_path / "two", never) == first == {"truncated": 1}
    for name in ("logits.npy", "hidden.npy"):
        assert (tmp_path / "one" / name).samefile(tmp_path / "two" / name)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["hidden.npy", "logits.npy"]
    assert (root / entry.question.key / "entry.json").stat().st_mtime > time.time() - 60


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": {"model.safetensors": "w", "tokenizer.json": "other"}},
        {"teacher": {"model.safetensors": "other", "tokenizer.json": "t"}},
        {"reading": {"max_length": 16}},
        {"texts": "other"},
        {"layers": (2, 4, 5)},
        {"layers": (2, 4, 6, 8)},
        {"top_k": 2},
        {"arithmetic": "bf16"},
        {"version": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_question_is_asked(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Whatever the answers depend on."""
    root, entry, other = tmp_path / "cache", asked(), asked(**changes)
    take(root, entry, tmp_path / "one", filling(entry))
    with pytest.raises(AssertionError, match="asked again"):
        take(root, other, tmp_path / "two", never)
    take(root, other, tmp_path / "two", filling(other))
    assert size_of(root) == 2


@pytest.mark.parametrize("layers", [(6,), (6, 2), ()])
def test_some_of_the_layers_are_taken_from_those_of_more(tmp_path: Path, layers: tuple[int, ...]) -> None:
    """They have the bytes that the teacher would have given; the logits take no room again."""
    root, entry, fewer = tmp_path / "cache", asked(), asked(layers=layers)
    take(root, entry, tmp_path / "more", filling(entry))
    assert take(root, fewer, tmp_path / "fewer", never) == {"truncated": 1}
    filling(fewer)(tmp_path, tmp_path)
    assert (tmp_path / "fewer" / "logits.npy").samefile(tmp_path / "more" / "logits.npy")
    assert (tmp_path / "fewer" / "hidden.npy").exists() == bool(layers)
    if layers:
        assert (tmp_path / "fewer" / "hidden.npy").read_bytes() == (tmp_path / "hidden.npy").read_bytes()
    take(root, fewer, tmp_path / "again", never)


def test_a_damaged_entry_of_more_layers_is_said_and_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, entry, fewer = tmp_path / "cache", asked(), asked(layers=(6,))
    take(root, entry, tmp_path / "more", filling(entry))
    damage(root / entry.question.key / "outputs" / "hidden.npy")
    take(root, fewer, tmp_path / "fewer", filling(fewer))
    assert "is not used" in capsys.readouterr().err
    np.testing.assert_array_equal(np.load(tmp_path / "fewer" / "hidden.npy"), states((6,)))


def test_no_room_for_the_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, entry, fewer = tmp_path / "cache", asked(), asked(layers=(6,))
    take(root, entry, tmp_path / "more", filling(entry))
    monkeypatch.setattr(cache, "free_bytes", lambda folder: 10)
    with pytest.raises(EnvironmentProblem, match=r"of 1 of 3 layers need \d+ bytes, but only 10 are free"):
        take(root, fewer, tmp_path / "fewer", never)


def damage(path: Path) -> None:
    """Change the last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_entry_is_refused(tmp_path: Path) -> None:
    root, entry = tmp_path / "runs" / ".cache" / "outputs", asked()
    key = entry.question.key
    take(root, entry, tmp_path / "one", filling(entry))
    damage(root / key / "outputs" / "logits.npy")
    with pytest.raises(IntegrityError, match=r"logits\.npy is damaged: sha256 is .*; kdc cache rm .* --runs .*/runs "):
        take(root, entry, tmp_path / "two", never)
    assert not (tmp_path / "two").exists()


def test_an_entry_under_the_key_of_another_is_refused(tmp_path: Path) -> None:
    """As after files were copied by hand."""
    root, entry, other = tmp_path / "cache", asked(), asked(texts="other")
    take(root, entry, tmp_path / "one", filling(entry))
    (root / entry.question.key).rename(root / other.question.key)
    with pytest.raises(IntegrityError, match=f"it is the entry {entry.question.key[:12]}"):
        take(root, other, tmp_path / "two", never)
    with pytest.raises(IntegrityError, match=f"describes the entry {entry.question.key[:12]}, not"):
        cache.read_entries(root)


PROCESS = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from compress.teachers.cache import take
from tests.teachers.test_cache import asked, filling

place, how = Path(sys.argv[1]), sys.argv[2]

def fill(work, out):
    (work / "shard-00000.npz").write_bytes(b"answers")
    (work / ".tmp-shard-00001.npz-1-x").write_bytes(b"half")
    (out / "logits.npy").write_bytes(b"half")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while not (place / "go").exists():
        time.sleep(0.01)
    return filling(asked())(work, out)

take(place / "cache", asked(), place / f"out-{os.getpid()}", fill)
"""


class Others:
    """Processes that take the same entry; their stderr is in `<number>.log`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, how: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", PROCESS, str(self.place), how]
        with self.log(len(self.processes)).open("w") as log:
            process = subprocess.Popen(command, env=environment, stderr=log, text=True)
        self.processes.append(process)
        return process

    def log(self, number: int) -> Path:
        return self.place / f"{number}.log"


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Others]:
    """None outlives its test."""
    started = Others(tmp_path)
    yield started
    for process in started.processes:
        process.kill()
        process.wait()


def test_what_a_killed_process_has_finished_is_kept(tmp_path: Path, others: Others) -> None:
    """The next one, of whatever run, finds its shards, and nothing half written."""
    root, entry, seen = tmp_path / "cache", asked(), []
    assert others.start("die").wait(60) == -signal.SIGKILL
    assert holder(lock_of(root, entry.question.key)) is None

    def fill(work: Path, out: Path) -> dict[str, Any]:
        seen.extend(path.name for path in work.iterdir())
        assert list(out.iterdir()) == []
        return dict(filling(entry)(work, out))

    take(root, entry, tmp_path / "out", fill)
    assert seen == ["shard-00000.npz"]
    left = sorted(path.name for path in (root / entry.question.key).iterdir())
    assert left == ["entry.json", "outputs"]


def test_a_second_process_waits_and_asks_nothing(tmp_path: Path, others: Others) -> None:
    """It says for whom it waits."""
    entry = asked()
    lock = lock_of(tmp_path / "cache", entry.question.key)
    first = others.start("wait")
    until(lambda: holder(lock) == str(first.pid))
    second = others.start("wait")
    what = f"the cache entry {entry.question.key[:12]} of the teacher's outputs"
    until(lambda: f"{what} is in use by process {first.pid}; waiting until it ends" in others.log(1).read_text())
    (tmp_path / "go").touch()
    assert first.wait(60) == second.wait(60) == 0
    assert f"{ROWS} rows from the cache" in others.log(1).read_text()
    one, two = (tmp_path / f"out-{process.pid}" / "logits.npy" for process in (first, second))
    assert one.samefile(two)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)

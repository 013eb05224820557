"""Some thousand damaged and forged bundles for every run of the tests; the script notices what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import fuzz_bundle
from benchmarks.bundle_mutations import KINDS
from benchmarks.fuzz_bundle import Fuzz, Watch, honest_bundles

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")  # of zipfile, which makes some of the inputs


@pytest.fixture
def fuzz(tmp_path: Path) -> Fuzz:
    (tmp_path / "inputs").mkdir()
    return Fuzz(honest_bundles(tmp_path), tmp_path / "inputs", 7, Watch())


def test_the_reader_refuses_or_opens_and_does_nothing_else(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz_bundle", "--inputs", "4000", "--seed", "1"]
    out = tmp_path / "fuzz.jsonl"
    done = subprocess.run([*command, "--results", out], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert (row["inputs"], row["broken"]) == (4000, [])
    assert sum(row["ends"].values()) == 4000
    assert {end.partition(":")[0] for end in row["ends"]} == {kind.__name__ for kind in KINDS}
    assert row["ends"]["claimed: opened"] > 0  # forged fields reach the model, too
    assert row["growth_mib"] < row["bound_mib"]
    assert [path.name for path in tmp_path.iterdir()] == ["fuzz.jsonl"]


def test_an_input_is_the_same_each_time(fuzz: Fuzz) -> None:
    for number in range(2 * len(KINDS)):
        assert fuzz.content(number) == fuzz.content(number)
    assert fuzz.content(0) != fuzz.content(len(KINDS) * len(fuzz.honest))


def test_a_reader_that_breaks_a_rule_is_noticed(fuzz: Fuzz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: Path) -> str:
        raise ValueError("a bug")

    monkeypatch.setattr(fuzz_bundle, "read", crash)
    assert fuzz.one(0) == "flipped 0 ends in ValueError: a bug"
    monkeypatch.setattr(fuzz_bundle, "read", lambda path: "opened")
    assert fuzz.one(0) == "flipped 0 was opened, though its bytes are nobody's"
    watch = fuzz.watch
    watch.looking = True
    for event, arguments in (
        ("open", (str(tmp_path / "x"), "w", 577)),
        ("os.rename", ("a", "b")),
        ("open", ("x", "r", 0)),
    ):
        watch.hook(event, arguments)
    watch.looking = False
    assert [line.split()[0] for line in watch.written] == ["open", "os.rename"]
    assert (fuzz.one(5) or "").startswith("claimed 5 wrote: open")

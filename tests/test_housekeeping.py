"""The cache of teachers' outputs: what another recipe takes over; and `kdc cache`, which lists and removes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.artifacts import list_files, read_artifact
from compress.locks import hold
from compress.steps import answers
from compress.teachers.cache import lock_of
from tests import tiny_models
from tests.tiny_project import ROWS, kdc, kdc_json, recipe_of, rows_of, statuses, write_csv, write_recipe

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
QUICK = ("--set", "distill.control=false", "--set", "distill.stages.0.epochs=1")


@pytest.fixture(scope="module")
def project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one's own."""
    copy = tmp_path_factory.mktemp("cache") / "project"
    shutil.copytree(tiny_project, copy, ignore=shutil.ignore_patterns("runs"))
    return copy


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The layers of each time that the teacher is asked."""
    times: list[tuple[int, ...]] = []
    real = answers.compute_outputs

    def compute(*args: Any, **options: Any) -> None:
        times.append(tuple(options["layers"]))
        real(*args, **options)

    monkeypatch.setattr(answers, "compute_outputs", compute)
    return times


def distilled(project: Path, runs: Path, student: str = "mobile", *changes: str, **sections: Any) -> Path:
    """The folder of a run up to the student."""
    recipe = write_recipe(project, recipe_of("classification", student, **sections))
    options = [option for change in changes for option in ("--set", change)]
    found = kdc_json("distill", recipe, "--runs", runs, *QUICK, *options)
    assert statuses(found)["student"] == "done"
    return Path(found["run"])


def entries(runs: Path) -> list[dict[str, Any]]:
    """What `kdc cache ls --json` lists."""
    found: list[dict[str, Any]] = kdc_json("cache", "ls", "--runs", runs)["entries"]
    return found


HELD_OUT = {"validation": {"path": "classification-test.csv"}}
"""Another validation split."""
SOFT = {"stages": [{"name": "imitate", "epochs": 1}], "batch_size": 16, "precision": "fp32"}
"""Without hidden states, so that a run is quick."""


def test_another_recipe_takes_over_what_the_same_teacher_said(
    project: Path, tmp_path: Path, asked: list[tuple[int, ...]]
) -> None:
    """Another name, student, seed, schedule and validation split; and a student of fewer layers."""
    runs = tmp_path / "runs"
    one = distilled(project, runs)
    changes = ("name=other", "student.width=24", "seed=11", "distill.stages.1.epochs=2")
    two = distilled(project, runs, "residual", *changes, data=recipe_of("classification")["data"] | HELD_OUT)
    assert asked == [(1, 2)]
    assert (one / "outputs" / "hidden.npy").samefile(two / "outputs" / "hidden.npy")
    three = distilled(project, runs, "static", "name=third")
    assert asked == [(1, 2)]
    both, last = (np.load(run / "outputs" / "hidden.npy") for run in (one, three))
    np.testing.assert_array_equal(last, both[:, 1:])
    shutil.rmtree(one)  # what another run has taken over does not go with the first
    assert [entry["runs"] for entry in entries(runs)] == [[three.name], [two.name]]
    distilled(project, runs, "mobile", "name=fourth")
    assert asked == [(1, 2)]


def test_what_the_answers_depend_on_is_asked_anew(project: Path, tmp_path: Path, asked: list[tuple[int, ...]]) -> None:
    """Length, arithmetic, texts, tokenizer; labels and identifiers are nothing to the teacher."""
    place, runs = tmp_path / "project", tmp_path / "runs"
    shutil.copytree(project, place)

    def times(*changes: str) -> int:
        distilled(place, runs, "static", *changes, distill=SOFT)
        return len(asked)

    assert times() == 1
    rows = rows_of("classification", ROWS["train"], 0)
    rows[0], rows[1] = rows[0] | {"nr": "neu"}, rows[1] | {"kategorie": rows[2]["kategorie"]}
    write_csv(place / "classification-train.csv", rows)
    assert times() == 1
    assert times("teacher.max_length=24") == 2
    assert times("distill.precision=bf16") == 3
    assert times("distill.top_k=2") == 4
    assert times("distill.top_k=3") == 4  # all there are
    rows[5] = rows[5] | {"titel": rows[5]["titel"] + " neu"}
    write_csv(place / "classification-train.csv", rows)
    assert times() == 5
    tokenizer = place / "teacher-classification" / "tokenizer.json"
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    pieces = content["model"]["vocab"]
    first, second = [name for name in pieces if len(name) > 2 and name[0] not in "[#"][:2]
    pieces[first], pieces[second] = pieces[second], pieces[first]
    tokenizer.write_text(json.dumps(content), encoding="utf-8")
    assert times() == 6
    assert len(entries(runs)) == 6


def test_the_largest_logits_teach(project: Path, tmp_path: Path) -> None:
    """Two files instead of one, and a student that learns from them."""
    run = distilled(project, tmp_path / "runs", "static", "distill.top_k=1", distill=SOFT)
    logits, classes = (np.load(run / "outputs" / name) for name in ("logits.npy", "classes.npy"))
    assert (logits.shape, classes.shape) == ((ROWS["train"], 2), (ROWS["train"], 1))
    artifact = read_artifact(run / "student")
    assert artifact is not None
    assert np.isfinite(artifact.metrics["validation"]["macro_f1"])


def test_a_damaged_entry_ends_with_6_until_it_is_removed(
    project: Path, tmp_path: Path, asked: list[tuple[int, ...]]
) -> None:
    runs = tmp_path / "runs"
    one = distilled(project, runs, "static", distill=SOFT)
    before = list_files(one / "outputs")
    (entry,) = entries(runs)
    path = runs / ".cache" / "outputs" / entry["key"] / "outputs" / "logits.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    recipe = write_recipe(project, recipe_of("classification", "static", distill=SOFT))
    command = ("distill", recipe, "--runs", runs, *QUICK, "--set", "name=other", "--set", "seed=4")
    refused = kdc(*command)
    assert refused.exit_code == 6
    assert f"{path} is damaged: sha256 is " in refused.stderr
    advice = f"kdc cache rm {entry['key'][:12]} --runs {runs}"
    assert advice in refused.stderr
    assert kdc(*advice.split()[1:]).exit_code == 0
    two = Path(kdc_json(*command)["run"])
    assert len(asked) == 2
    assert list_files(two / "outputs") == before


# ---------------------------------------------------------------- kdc cache


@pytest.fixture
def runs(project: Path, tmp_path: Path) -> Path:
    """Two entries, one of them of a run that is gone."""
    place = tmp_path / "runs"
    distilled(project, place, "static", "name=kept", distill=SOFT)
    shutil.rmtree(distilled(project, place, "static", "name=gone", "teacher.max_length=16", distill=SOFT))
    return place


def test_ls_and_rm(runs: Path) -> None:
    """What is listed, what cannot be meant, what is removed, and what stays."""
    gone, here = entries(runs)
    (run,) = here["runs"]
    assert run.startswith("kept-")
    assert gone["runs"] == []
    assert {"teacher": "teacher-classification", "rows": ROWS["train"], "layers": [], "max_length": 32} == {
        key: here[key] for key in ("teacher", "rows", "layers", "max_length")
    }
    assert (here["arithmetic"], here["top_k"], here["finished"], here["held_by"]) == ("fp32", None, True, None)
    files = list((runs / ".cache" / "outputs" / here["key"]).rglob("*.*"))
    assert here["size_bytes"] == sum(path.stat().st_size for path in files)
    shown = kdc("cache", "ls", "--runs", runs).stdout
    assert all(text in shown for text in (here["key"][:12], gone["key"][:12], run, "teacher-classification"))

    unknown = kdc("cache", "rm", "nope", "--runs", runs)
    assert unknown.exit_code == 2
    assert f"nope is the key of no entry in {runs}/.cache/outputs; there are " in unknown.stderr
    assert here["key"][:12] in unknown.stderr
    for wrong in ((), ("--all", "--unused"), (here["key"], "--all")):
        assert kdc("cache", "rm", *wrong, "--runs", runs).exit_code == 2
    both = kdc("cache", "rm", here["key"], "nope", "--runs", runs)
    assert both.exit_code == 2
    assert len(entries(runs)) == 2

    removed = kdc_json("cache", "rm", "--unused", "--runs", runs)
    assert removed == {"removed": [gone["key"]], "freed_bytes": gone["size_bytes"]}
    assert [entry["key"] for entry in entries(runs)] == [here["key"]]
    logits = runs / run / "outputs" / "logits.npy"
    removed = kdc_json("cache", "rm", here["key"][:5], here["key"], "--runs", runs)
    assert removed["removed"] == [here["key"]]
    assert removed["freed_bytes"] == here["size_bytes"] - logits.stat().st_size  # the run has it still
    assert entries(runs) == []
    assert list((runs / ".cache" / "outputs").iterdir()) == []
    assert f"no teacher's outputs are kept in {runs}/.cache/outputs" in kdc("cache", "ls", "--runs", runs).stdout
    assert kdc("cache", "rm", "--all", "--runs", runs).exit_code == 0
    assert "there is none" in kdc("cache", "rm", "x", "--runs", runs).stderr


def test_what_a_running_command_uses_is_not_removed(runs: Path) -> None:
    """Neither while the entry is filled or taken, nor while a run that has it is at work; all or nothing."""
    gone, here = entries(runs)
    root = runs / ".cache" / "outputs"
    for lock in (lock_of(root, here["key"]), runs / here["runs"][0] / ".lock"):
        with hold(lock, "it"):
            assert [entry["held_by"] is not None for entry in entries(runs)] == [False, True]
            refused = kdc("cache", "rm", "--all", "--runs", runs)
        assert refused.exit_code == 4
        assert f"the cache entry {here['key'][:12]} of the teacher's outputs is in use by process" in refused.stderr
        assert len(entries(runs)) == 2
    with hold(lock_of(root, gone["key"]), "it"):
        assert kdc_json("cache", "rm", "--unused", "--runs", runs)["removed"] == []


def test_an_entry_that_is_not_finished_belongs_to_the_run_that_fills_it(runs: Path) -> None:
    _, here = entries(runs)
    folder = runs / ".cache" / "outputs" / here["key"]
    (folder / "outputs" / "artifact.json").unlink()
    shutil.rmtree(runs / here["runs"][0] / "outputs")
    unfinished = next(entry for entry in entries(runs) if entry["key"] == here["key"])
    assert (unfinished["finished"], unfinished["runs"]) == (False, here["runs"])
    assert "(not finished)" in kdc("cache", "ls", "--runs", runs).stdout
    assert here["key"] not in kdc_json("cache", "rm", "--unused", "--runs", runs)["removed"]

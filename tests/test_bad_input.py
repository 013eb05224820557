"""Bad input to the commands: one sentence that names the place, the right exit code, nothing half made."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from compress.artifacts import MANIFEST, list_files, read_artifact
from compress.bundle.write import write_bundle
from tests.tiny import tiny_deployable, tiny_requests
from tests.tiny_project import (
    LABELS,
    POSITIONS,
    ROWS,
    kdc,
    kdc_json,
    leftovers,
    recipe_of,
    rows_of,
    write_csv,
    write_recipe,
)

Prepare = Callable[[Path], None]


@pytest.fixture
def project(tiny_project: Path, tmp_path: Path) -> Path:
    """A project of one's own to damage."""
    copy = tmp_path / "project"
    shutil.copytree(tiny_project, copy, ignore=shutil.ignore_patterns("runs"))
    return copy


def refused(code: int, message: str, *arguments: object) -> None:
    """The command ends with the code and one sentence that matches, as text and as JSON."""
    done = kdc(*arguments)
    told = [line for line in done.stderr.splitlines() if line.startswith("kdc: ")]
    assert done.exit_code == code, done.stderr
    assert len(told) == 1
    assert done.stderr.endswith(told[0] + "\n")  # the sentence is one line, and the last one
    assert re.search(message, told[0]), told[0]
    assert done.stdout == ""
    answer = json.loads(kdc(*arguments, "--json").stdout)
    assert answer == {"error": told[0].removeprefix("kdc: "), "exit_code": code}


def published(runs: Path) -> set[str]:
    """Stages that stand in a runs folder, all of them whole."""
    for manifest in runs.glob(f"*/*/{MANIFEST}"):
        artifact = read_artifact(manifest.parent)
        assert artifact is not None
        assert artifact.files == list_files(manifest.parent)
    return {manifest.parent.name for manifest in runs.glob(f"*/*/{MANIFEST}")}


# ---------------------------------------------------------------- data


def _line(name: str, number: int, content: bytes) -> Prepare:
    """Put other bytes into a line, counted from 1."""

    def prepare(project: Path) -> None:
        lines = (project / name).read_bytes().split(b"\r\n")
        lines[number - 1] = content
        (project / name).write_bytes(b"\r\n".join(lines))

    return prepare


def _nothing(project: Path) -> None:
    """The data are as they should be."""


def _empty(project: Path) -> None:
    (project / "classification-train.csv").write_bytes(b"")


def _two_labels(project: Path) -> None:
    for seed, split in enumerate(ROWS):
        rows = [row for row in rows_of("classification", ROWS[split], seed) if row["kategorie"] != "strom"]
        write_csv(project / f"classification-{split}.csv", rows)


def _other_labels(project: Path) -> None:
    for seed, split in enumerate(ROWS):
        rows = rows_of("classification", ROWS[split], seed)
        write_csv(project / f"classification-{split}.csv", [r | {"kategorie": r["kategorie"].upper()} for r in rows])


DATA: list[tuple[str, Prepare, list[str], str]] = [
    ("missing-file", _nothing, ["data.train.path=weg.csv"], r"weg\.csv does not exist \(data\.train\.path\)"),
    (
        "missing-column",
        _nothing,
        ["data.train.columns.text=title"],
        r"no column 'title' \(data\.train\.columns\.text\); it has 'nr', 'titel', 'kategorie'.*did you mean 'titel'\?",
    ),
    ("empty-file", _empty, [], r"classification-train\.csv is empty \(0 bytes\)"),
    (
        "unseen-label",
        _line("classification-test.csv", 3, b"2-1,Akkuschrauber,werkzeug"),
        [],
        r"label.*werkzeug.*task\.unseen_labels: wrong",
    ),
    (
        "empty-text",
        _line("classification-test.csv", 7, b"2-5,  ,schuhe"),
        [],
        r"classification-test\.csv:7 has an empty text \(column 'titel'",
    ),
    (
        "invalid-utf-8",
        _line("classification-validation.csv", 5, b"1-3,K\xfcche,schuhe"),
        [],
        r"classification-validation\.csv:5 is not valid UTF-8 \(0xfc at byte 6\)",
    ),
    ("fewer-labels-than-the-head", _two_labels, [], r"teacher\.model: the head of .* has 3 outputs .* have 2 labels"),
    (
        "labels-that-the-head-does-not-know",
        _other_labels,
        [],
        r"teacher\.model: the head of .* does not know the labels KÜCHE, SCHUHE, STROM; it knows",
    ),
]


@pytest.mark.parametrize(("prepare", "changes", "message"), [case[1:] for case in DATA], ids=[c[0] for c in DATA])
def test_bad_data_is_3_and_leaves_no_stage(project: Path, prepare: Prepare, changes: list[str], message: str) -> None:
    prepare(project)
    recipe = write_recipe(project, recipe_of("classification"))
    options = [option for change in changes for option in ("--set", change)]
    refused(3, message, "run", recipe, "--runs", project / "runs", *options)
    assert published(project / "runs") == set()
    assert leftovers(project / "runs") == []
    refused(3, message, "check", recipe, "--runs", project / "runs", *options)


def test_unseen_labels_can_be_counted_as_wrong(project: Path) -> None:
    _line("classification-test.csv", 3, b"2-1,Akkuschrauber,werkzeug")(project)
    recipe = write_recipe(project, recipe_of("classification"))
    found = kdc_json("teach", recipe, "--runs", project / "runs", "--set", "task.unseen_labels=wrong")
    accuracy = found["models"]["teacher"]["quality"]["accuracy"]
    assert 0 < accuracy <= 1 - 1 / ROWS["test"]
    assert any("werkzeug" in note for note in found["notes"])


def _scores(project: Path, change: Callable[[list[dict[str, str]]], None]) -> Path:
    """A file of scores and the recipe that learns from it."""
    rows = []
    for seed, (_, count) in enumerate(ROWS.items()):
        for row in rows_of("classification", count, seed):
            rows.append({"id": row["nr"]} | {label: "0.8" if label == row["kategorie"] else "0.1" for label in LABELS})
    change(rows)
    write_csv(project / "noten.csv", rows)
    recipe = recipe_of("classification", teacher={"kind": "scores", "path": "noten.csv"})
    recipe["student"] |= {"init": "random", "vocabulary": {"train": 300}}
    recipe["distill"] = {"stages": [{"name": "imitate", "epochs": 1}]}
    return write_recipe(project, recipe)


@pytest.mark.parametrize("value", ["nan", "inf", ""])
def test_a_score_that_is_no_number_is_3(project: Path, value: str) -> None:
    recipe = _scores(project, lambda rows: rows[10].update({"schuhe": value}))
    refused(
        3, r"noten\.csv:12: score .* of id '0-10' is not a finite number", "run", recipe, "--runs", project / "runs"
    )
    assert published(project / "runs") <= {"baseline"}


def test_a_score_file_that_lacks_a_label_or_a_row_is_3(project: Path) -> None:
    def without_a_label(rows: list[dict[str, str]]) -> None:
        for row in rows:
            del row["strom"]

    recipe = _scores(project, without_a_label)
    refused(
        3, r"noten\.csv: no score column for strom; there are id, küche, schuhe", "run", recipe, "--runs", project / "r"
    )
    recipe = _scores(project, lambda rows: rows.pop(5))
    refused(3, r"no scores for 1 of 160 rows of train, first id '0-5'", "run", recipe, "--runs", project / "r")
    (project / "noten.csv").unlink()
    refused(3, r"teacher\.path: there is no file .*noten\.csv", "run", recipe, "--runs", project / "r")


# ---------------------------------------------------------------- recipes


def _renamed(recipe: dict[str, Any]) -> None:
    recipe["studnet"] = recipe.pop("student")


RECIPES: list[tuple[str, Callable[[dict[str, Any]], None], list[str], str]] = [
    ("misspelt", _renamed, [], r"studnet: unknown key \(did you mean student\?\)"),
    (
        "misspelt-inside",
        lambda r: None,
        ["distill.bach_size=8"],
        r"distill\.bach_size: unknown key \(did you mean batch_size\?",
    ),
    (
        "out-of-range",
        lambda r: None,
        ["distill.batch_size=0"],
        r"distill\.batch_size: must be greater than or equal to 1, not 0",
    ),
    ("wrong-type", lambda r: None, ["seed=sieben"], r"seed: must be a whole number, not 'sieben'"),
    (
        "wrong-kind",
        lambda r: None,
        ["student.kind=mobil"],
        r"student\.kind: must be one of transformer, mobile.*mobile\?",
    ),
    (
        "beyond-the-positions",
        lambda r: None,
        ["teacher.max_length=64"],
        rf"teacher\.max_length is 64, but .* {POSITIONS}",
    ),
]


@pytest.mark.parametrize(("change", "sets", "message"), [case[1:] for case in RECIPES], ids=[c[0] for c in RECIPES])
def test_a_bad_recipe_is_2(
    project: Path, change: Callable[[dict[str, Any]], None], sets: list[str], message: str
) -> None:
    given = recipe_of("classification")
    change(given)
    recipe = write_recipe(project, given)
    options = [option for text in sets for option in ("--set", text)]
    for command in ("check", "run"):
        refused(2, message, command, recipe, "--runs", project / "runs", *options)
    assert not (project / "runs").exists()


def test_a_student_cut_from_its_teacher_has_no_more_positions(project: Path) -> None:
    recipe = write_recipe(project, recipe_of("classification", "transformer"))
    for command in ("check", "run"):
        options = ("--runs", project / "runs", "--set", "student.max_length=64")
        refused(2, r"student\.max_length is 64, but .* 40", command, recipe, *options)
    assert not (project / "runs").exists()


# ---------------------------------------------------------------- teachers


def _without_weights(teacher: Path) -> None:
    (teacher / "model.safetensors").unlink()


def _pickled(teacher: Path) -> None:
    (teacher / "model.safetensors").rename(teacher / "pytorch_model.bin")


def _cut_short(teacher: Path) -> None:
    path = teacher / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _without_config(teacher: Path) -> None:
    (teacher / "config.json").unlink()


def _without_tokenizer(teacher: Path) -> None:
    for path in teacher.glob("*token*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_weights, r"teacher\.model: .*teacher-classification has no weights \(\*\.safetensors\)"),
        (_pickled, r"has only pickled weights \(pytorch_model\.bin\), which can run code.*safe_serialization=True"),
        (_cut_short, r"model\.safetensors is cut short: [\d,]+ bytes of [\d,]+"),
        (_without_config, r"has no config\.json"),
        (_without_tokenizer, r"teacher\.model: .*tokenizer"),
        (shutil.rmtree, r"teacher\.model: there is no directory .*teacher-classification"),
    ],
)
def test_a_teacher_that_cannot_be_used_is_3(project: Path, damage: Prepare, message: str) -> None:
    damage(project / "teacher-classification")
    recipe = write_recipe(project, recipe_of("classification"))
    refused(3, message, "run", recipe, "--runs", project / "runs")
    assert published(project / "runs") <= {"baseline"}


# ---------------------------------------------------------------- machine and bundle


@pytest.mark.parametrize("section", [{"export": [{"to": "onnx"}]}, {}])
def test_an_engine_without_its_package_is_4_with_the_command_that_installs_it(
    project: Path, section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import compress.check

    monkeypatch.setattr(compress.check, "available", lambda package: package != "tensorrt")
    recipe = write_recipe(project, recipe_of("classification", **section))
    for command in ("check", "run"):
        refused(
            4,
            r"export\.0\.to: tensorrt needs the package 'tensorrt'.*pip install 'kdc\[tensorrt\]'$",
            *(command, recipe, "--runs", project / "runs", "--set", "export.0.to=tensorrt"),
        )
    assert not (project / "runs").exists()


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
            pytest.skip(f"not run: a small file system cannot be mounted here ({done.stderr.strip()})")
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


def test_a_bundle_with_one_byte_changed_is_6_wherever_it_is(tmp_path: Path) -> None:
    bundle = write_bundle(
        tiny_deployable(tmp_path / "model"),
        tmp_path / "m.kdc",
        name="m",
        golden=tiny_requests(),
        metrics={},
        provenance={},
    )
    intact = bundle.read_bytes()
    assert kdc("verify", bundle).exit_code == 0
    (tmp_path / "fragen.csv").write_text("text\nred shoe\n")
    for position in range(0, len(intact), len(intact) // 20):
        changed = bytearray(intact)
        changed[position] ^= 0x20
        bundle.write_bytes(changed)
        for command in (["verify", bundle], ["predict", bundle, tmp_path / "fragen.csv"]):
            done = kdc(*command)
            assert done.exit_code == 6, (position, done.stdout, done.stderr)
            assert done.stderr.startswith(f"kdc: {bundle}")


def test_the_data_of_these_tests_are_right(project: Path) -> None:
    """Each case above changes one thing of a project in which nothing is wrong."""
    recipe = write_recipe(project, recipe_of("classification"))
    found = kdc_json("check", recipe, "--runs", project / "runs")
    assert found["data"]["train"] == ROWS["train"]
    with (project / "classification-test.csv").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == ROWS["test"]


def test_runs_that_cannot_be_a_folder_is_2(project: Path) -> None:
    """A file in its place: a sentence and no traceback."""
    (project / "afile").write_text("")
    recipe = write_recipe(project, recipe_of("classification"))
    for runs in (project / "afile", project / "afile" / "below"):
        refused(2, r"afile.* is a file, or lies below one, but a folder is needed", "run", recipe, "--runs", runs)

"""Bad recipes, teachers and bundles: one sentence that names the place, the right exit code, nothing half made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.bundle.write import write_bundle
from tests.tiny import tiny_deployable, tiny_requests
from tests.tiny_project import POSITIONS, kdc, published, recipe_of, refused, write_recipe

Prepare = Callable[[Path], None]


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


def test_runs_that_cannot_be_a_folder_is_2(project: Path) -> None:
    """A file in its place: a sentence and no traceback."""
    (project / "afile").write_text("")
    recipe = write_recipe(project, recipe_of("classification"))
    for runs in (project / "afile", project / "afile" / "below"):
        refused(2, r"afile.* is a file, or lies below one, but a folder is needed", "run", recipe, "--runs", runs)

"""What makes a finished stage be made anew, and that a damaged one is never used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from compress.artifacts import read_artifact
from tests import tiny_models
from tests.tiny_project import ROWS, kdc, kdc_json, recipe_of, rows_of, statuses, write_csv, write_recipe

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)


def test_seed_data_and_teacher_are_what_a_teacher_depends_on(project: Path) -> None:
    recipe = write_recipe(project, recipe_of("classification"))
    runs = project / "runs"

    def taught(*changes: str) -> dict[str, str]:
        options = [option for change in changes for option in ("--set", change)]
        return statuses(kdc_json("teach", recipe, "--runs", runs, *options))

    assert taught() == {"baseline": "done", "teacher": "done"}
    assert taught("student.width=64", "gates.p99_ms=9", "quantize.calibration=32") == {
        "baseline": "reused",
        "teacher": "reused",
    }
    assert taught("seed=4") == {"baseline": "done", "teacher": "done"}
    assert taught("teacher.max_length=24") == {"baseline": "reused", "teacher": "done"}
    rows = [row | {"titel": row["titel"] + " neu"} for row in rows_of("classification", ROWS["train"], 0)]
    write_csv(project / "classification-train.csv", rows)
    assert taught() == {"baseline": "done", "teacher": "done"}
    tokenizer = project / "teacher-classification" / "tokenizer_config.json"
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"model_max_length": 39}))
    assert taught() == {"baseline": "reused", "teacher": "done"}


def test_the_seed_decides_the_weights_of_a_new_head(project: Path) -> None:
    recipe = write_recipe(
        project,
        recipe_of("pairs", teacher={"model": "teacher-classification", "max_length": 32, "train": {"epochs": 1}}),
    )
    shas = []
    for seed, runs in ((3, "one"), (3, "two"), (4, "three")):
        found = kdc_json("teach", recipe, "--runs", project / runs, "--set", f"seed={seed}")
        artifact = read_artifact(Path(found["run"]) / "teacher")
        assert artifact is not None
        shas.append(artifact.files["model.safetensors"].sha256)
    assert shas[0] == shas[1] != shas[2]


def test_a_damaged_artifact_is_never_used(project: Path) -> None:
    recipe, runs = write_recipe(project, recipe_of("classification")), project / "runs"
    first = Path(kdc_json("teach", recipe, "--runs", runs)["run"])
    path = first / "teacher" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused = kdc("teach", recipe, "--runs", runs)
    assert refused.exit_code == 6
    assert f"{path} is damaged" in refused.stderr
    assert f"delete {first / 'teacher'}" in refused.stderr
    other = kdc("teach", recipe, "--runs", runs, "--set", "student.width=24", "--json")
    assert statuses(json.loads(other.stdout)) == {"baseline": "reused", "teacher": "done"}
    assert "teacher is not taken over" in other.stderr
    shutil.rmtree(first / "teacher")
    assert statuses(kdc_json("teach", recipe, "--runs", runs)) == {"baseline": "reused", "teacher": "reused"}

"""`kdc inspect` of each kind of path."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from compress.artifacts import SPEC, TOKENIZER
from compress.errors import IntegrityError, RecipeError
from compress.paths import inspect_path
from tests.tiny_artifacts import VOCABULARY, damage


def test_inspecting_each_kind(built: dict[str, Path], run: Path, bare: Path, tmp_path: Path) -> None:
    found = inspect_path(run)
    assert (found["kind"], found["name"], set(found["stages"])) == (
        "run folder",
        "shop",
        {"onnx", "quantized"},
    )
    assert inspect_path(run / "summary.json")["notes"] == ["simulated"]
    assert inspect_path(run / "onnx")["stage"] == "onnx"
    assert inspect_path(run / "quantized")["artifact"]["metrics"]["quality"] == {"macro_f1": 0.9}
    student = inspect_path(built["mobile"])
    assert student["kind"] == "student folder"
    assert student["parameters"] > VOCABULARY
    file = inspect_path(bare)
    assert file["inputs"]["input_ids"] == "int64 [batch, sequence]"
    assert (file["opsets"], file["quantization"], file["operators"]["Gemm"]) == ({"ai.onnx": 17}, "none", 1)
    teacher = tmp_path / "teacher"
    shutil.copytree(built["transformer"], teacher)
    (teacher / SPEC).unlink()
    assert inspect_path(teacher)["labels"] == ["shoes", "power", "kitchen"]
    assert all(json.dumps(inspect_path(path)) for path in (run, bare, teacher, built["exported"]))


def test_inspecting_what_kdc_does_not_know(run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "other.json").write_text("{}")
    for path in (tmp_path / "notes.txt", tmp_path / "other.json", tmp_path / "runs"):
        with pytest.raises(RecipeError, match="ONNX file"):
            inspect_path(path)
    with pytest.raises(RecipeError, match="there is no"):
        inspect_path(tmp_path / "nowhere")
    damage(run / "onnx" / "teacher" / TOKENIZER)
    with pytest.raises(IntegrityError, match="damaged"):
        inspect_path(run)

"""Artifacts that the commands on paths are given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.artifacts import write_json
from compress.paths import export_path
from tests.tiny import WORDS, tiny_deployable, tiny_onnx
from tests.tiny_artifacts import as_stage, student_folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student folder of each kind, and the transformer's export."""
    root = tmp_path_factory.mktemp("students")
    students = {kind: student_folder(root / kind, kind) for kind in ("transformer", "mobile", "residual", "static")}
    exported = root / "exported"
    export_path(students["transformer"], exported, to=["onnx"], gpus=[], precision="fp16")
    return students | {"exported": exported}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The smallest exported model."""
    return tiny_deployable(tmp_path / "model")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An .onnx file with nothing beside it."""
    (tmp_path / "bare").mkdir()
    return tiny_onnx(tmp_path / "bare" / "net.onnx", 3)


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """Requests in a file."""
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps({"text": f"{a} {b}"}) + "\n" for a in WORDS for b in WORDS))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with an exported student and a quantized model."""
    folder = tmp_path / "runs" / "shop-1"
    tiny_deployable(folder / "onnx" / "student")
    tiny_deployable(folder / "onnx" / "teacher")
    as_stage(folder / "onnx", "onnx")
    quality = {"quality": {"macro_f1": 0.9}, "certificate": {"rows": 3, "comparisons": []}}
    parents = {"teacher": "t", "student": "s", "outputs": "o"}
    as_stage(tiny_deployable(folder / "quantized"), "quantized", metrics=quality, parents=parents)
    (folder / "recipe.yaml").write_text("name: shop\nseed: 7\n")
    summary = {
        "run": str(folder),
        "name": "shop",
        "stages": [],
        "models": {"teacher": {}},
        "notes": ["simulated"],
        "recipe": {"data": {"train": {"path": "a.csv", "columns": {"text": ["title", "brand"]}}}},
    }
    write_json(folder / "summary.json", summary)
    return folder

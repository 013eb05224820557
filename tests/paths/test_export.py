"""`kdc export` of a path: models, engines, folders that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from compress.artifacts import ONNX, SPEC, TOKENIZER
from compress.errors import DataError, EnvironmentProblem, IntegrityError, RecipeError
from compress.paths import export_path, inspect_path

# ---------------------------------------------------------------- export


def test_an_exported_student_is_deployable(built: dict[str, Path], tmp_path: Path) -> None:
    found = export_path(built["transformer"], tmp_path / "out", to=["onnx"], gpus=[], precision="fp16")
    assert found["onnx"]["parity"]["max_logit_difference"] < 1e-3
    assert found["engines"] == {}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [SPEC, ONNX, TOKENIZER]
    with pytest.raises(RecipeError, match="ONNX already"):
        export_path(tmp_path / "out", tmp_path / "again", to=["onnx"], gpus=[], precision="fp16")


def test_a_student_whose_files_do_not_fit_is_damaged(built: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(built["mobile"], broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="cut short"):
        export_path(broken, tmp_path / "out", to=["onnx"], gpus=[], precision="fp16")
    shutil.copyfile(built["transformer"] / "model.safetensors", weights)
    with pytest.raises(IntegrityError, match="do not fit"):
        export_path(broken, tmp_path / "out", to=["onnx"], gpus=[], precision="fp16")
    (broken / SPEC).write_text('{"task": 1')
    with pytest.raises(IntegrityError, match=SPEC):
        export_path(broken, tmp_path / "out", to=["onnx"], gpus=[], precision="fp16")
    assert not (tmp_path / "out").exists()


def test_a_hugging_face_folder_is_exported(built: dict[str, Path], tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(built["transformer"], teacher)
    (teacher / SPEC).unlink()
    found = export_path(teacher, tmp_path / "out", to=["onnx"], gpus=[], precision="fp16")
    assert "one text or two" in found["notes"][0]
    assert set(inspect_path(tmp_path / "out")["inputs"]) >= {"input_ids", "attention_mask"}
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    with pytest.raises(RecipeError, match="without a trained classification head"):
        export_path(teacher, tmp_path / "other", to=["onnx"], gpus=[], precision="fp16")
    (teacher / "model.safetensors").rename(teacher / "pytorch_model.bin")
    with pytest.raises(DataError, match="pickled"):
        export_path(teacher, tmp_path / "other", to=["onnx"], gpus=[], precision="fp16")


@pytest.mark.parametrize(
    ("to", "gpus", "precision", "says"),
    [
        (["tflite"], [], "fp16", "known are onnx"),
        (["onnx"], ["sm89"], "fp16", "no effect"),
        (["tensorrt-rtx"], [], "fp16", "--gpu sm89"),
        (["tensorrt-rtx"], ["sm12"], "fp16", "--gpu"),
        (["tensorrt"], [], "fp4", "--precision"),
    ],
)
def test_options_of_engines_are_checked_before_any_work(
    model: Path, tmp_path: Path, to: list[str], gpus: list[str], precision: str, says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        export_path(model, tmp_path / "out", to=to, gpus=gpus, precision=precision)


def test_engines_stand_beside_the_model_they_come_from(
    built: dict[str, Path], bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.export import tensorrt
    from compress.paths import engines

    def build(onnx: Path, out: Path, **options: Any) -> dict[str, Any]:
        assert onnx.is_file()
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(b"engine")
        return options

    monkeypatch.setattr(engines, "require", lambda *args, **named: None)
    monkeypatch.setattr(tensorrt, "build_engine", build)
    formats, name = ["onnx", "tensorrt-rtx"], "tensorrt-rtx-fp16-sm89.engine"
    found = export_path(built["transformer"], tmp_path / "out", to=formats, gpus=["sm89"], precision="fp16")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [SPEC, ONNX, name, TOKENIZER]
    assert found["engines"]["tensorrt-rtx-fp16-sm89"]["max_length"] == 128
    # A folder can be its own target when only engines are added.
    export_path(tmp_path / "out", tmp_path / "out", to=["tensorrt"], gpus=[], precision="fp32")
    assert (tmp_path / "out" / "tensorrt-fp32.engine").is_file()
    export_path(bare, tmp_path / "bare", to=["tensorrt"], gpus=[], precision="fp32")
    with pytest.raises(RecipeError, match="calibrated"):
        export_path(bare, tmp_path / "bare", to=["tensorrt"], gpus=[], precision="int8")


def test_a_missing_tensorrt_names_the_command_that_installs_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.extras.available", lambda package: False)
    with pytest.raises(EnvironmentProblem, match=r"kdc\[tensorrt-rtx\]"):
        export_path(model, tmp_path / "out", to=["tensorrt-rtx"], gpus=["sm89"], precision="fp16")

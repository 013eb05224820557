"""The stage `engines` of a run: an engine for each that the recipe names, and what its ONNX is worth on test."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from compress.distill.judge import Judge
from compress.errors import DataError
from compress.recipe import ClassificationTask, OnnxExport, Quantize, TensorRTExport
from compress.steps.shipping import engines
from tests.tiny import tiny_deployable
from tests.tiny_models import splits

pytestmark = pytest.mark.usefixtures("tensorrt_rtx")


def test_every_engine_of_a_recipe_is_built_and_its_onnx_measured(tmp_path: Path) -> None:
    data = splits(rows=64)
    task = ClassificationTask(kind="classification")
    sections = [
        TensorRTExport.model_validate({"to": "tensorrt-rtx", "precision": precision, "gpus": ["sm89"]})
        for precision in ("fp16", "bf16", "fp8-fp16")
    ]
    recipe = SimpleNamespace(export=(OnnxExport(to="onnx"), *sections), quantize=Quantize(calibration=16), seed=3)
    tiny_deployable(tmp_path / "onnx" / "student")
    run = SimpleNamespace(
        recipe=recipe, splits=data, judge=Judge(data, task), at=lambda stage: tmp_path / stage, cache=tmp_path / "cache"
    )
    (tmp_path / "work").mkdir()
    found = engines(run, tmp_path / "engines", tmp_path / "work")
    names = [f"tensorrt-rtx-{section.precision}-sm89" for section in sections]
    assert list(found) == names
    assert sorted(path.name for path in (tmp_path / "engines").iterdir()) == sorted(f"{name}.engine" for name in names)
    for name in names[0], names[2]:
        assert found[name]["max_length"] == 12
        assert found[name]["source"]["quality"].keys() >= {"accuracy", "macro_f1"}
        assert found[name]["source"]["parity"]["argmax_agreement"] > 0.9
    assert found[names[1]]["source"] == "not run: onnxruntime cannot run bf16 on the CPU"


def test_nothing_to_quantize_ends_with_what_was_looked_for(tmp_path: Path) -> None:
    data = splits(rows=64)
    section = TensorRTExport.model_validate({"to": "tensorrt-rtx", "precision": "int4", "gpus": ["sm89"]})
    tiny_deployable(tmp_path / "onnx" / "student")
    run = SimpleNamespace(
        recipe=SimpleNamespace(export=(section,), quantize=Quantize(), seed=3),
        splits=data,
        judge=None,
        at=lambda stage: tmp_path / stage,
        cache=tmp_path / "cache",
    )
    (tmp_path / "work").mkdir()
    with pytest.raises(DataError, match="nothing to quantize"):
        engines(run, tmp_path / "engines", tmp_path / "work")

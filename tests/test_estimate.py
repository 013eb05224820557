"""The plan of `kdc check`: the stages that the run will make, by the same names, with a time and a size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.estimate import stages
from compress.recipe.file import resolve
from compress.stages import STAGES
from compress.steps.context import Run
from tests.tiny_models import splits
from tests.tiny_project import recipe_of

SCORES = {"kind": "scores", "path": "scores.csv"}
ANEW = {"kind": "mobile", "init": "random", "vocabulary": {"train": 300}}
ENGINES = [{"to": "tensorrt"}, {"to": "tensorrt-rtx", "gpus": ["sm89", "sm120"]}]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"teacher": {"model": "teacher", "train": {"epochs": 2}}},
        {"teacher": SCORES, "student": ANEW, "distill": {"stages": [{"name": "imitate"}], "control": False}},
        {"export": [{"to": "onnx"}, *ENGINES]},
    ],
    ids=["trained", "taught", "scores", "engines"],
)
def test_the_plan_names_the_stages_of_the_run(changes: dict[str, Any]) -> None:
    loaded = resolve(recipe_of("classification") | changes, Path("recipe.yaml"))
    run = Run(loaded, Path(), splits())
    plan = stages(loaded.recipe, {"parameters": 1000, "layers": 2, "hidden": 32}, splits(), 20.0, 20.0)
    assert [row["stage"] for row in plan] == [rule.name for rule in STAGES if rule.wanted(run) is None]
    assert all(row["seconds"] >= 0 and row["disk_bytes"] >= 0 for row in plan)


def test_fine_tuning_takes_longer_than_measuring_and_engines_count_by_gpu() -> None:
    def planned(**changes: Any) -> dict[str, Any]:
        recipe = resolve(recipe_of("classification") | changes, Path("recipe.yaml")).recipe
        return {row["stage"]: row for row in stages(recipe, {}, splits(), 20.0, 20.0)}

    measured = planned()["teacher"]["seconds"]
    taught = planned(teacher={"model": "teacher", "train": {"epochs": 4}})["teacher"]["seconds"]
    assert taught > 4 * measured
    engines = planned(export=ENGINES)["engines"]
    assert (engines["seconds"], engines["what"]) == (180, "tensorrt fp16; tensorrt-rtx fp16 sm89 sm120")

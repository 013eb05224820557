"""The plan of `kdc check`: the stages that the run will make, by the same names, with a time and a size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.estimate import Size, stages, student_size
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


def test_pairs_of_neighbours_count_in_the_size() -> None:
    """As many embeddings as buckets, of the student's width, 4 bytes a number."""

    def size(**changes: Any) -> Size:
        section = {"kind": "static", "width": 16, "vocabulary": {"keep": 500}, **changes}
        return student_size(resolve(recipe_of("classification") | {"student": section}, Path("r.yaml")).recipe, {})

    assert size(bigrams=1000).bytes - size().bytes == 1000 * 16 * 4
    assert size(bigrams=1000).body == size().body


def test_each_of_several_teachers_and_of_its_folds_counts() -> None:
    def planned(teacher: dict[str, Any]) -> dict[str, Any]:
        facts = {"parameters": 1000, "layers": 2, "hidden": 32}
        found = facts | {"members": [facts] * len(teacher.get("members", [0]))}
        recipe = resolve(recipe_of("classification", teacher=teacher), Path("recipe.yaml")).recipe
        return {row["stage"]: row for row in stages(recipe, found, splits(), 20.0, 20.0)}

    one = {"model": "teacher", "train": {"epochs": 4}}
    alone, both = planned(one), planned({"kind": "several", "members": [one | {"seed": 1}, one | {"seed": 2}]})
    assert both["teacher"]["seconds"] == pytest.approx(2 * alone["teacher"]["seconds"], abs=0.1)
    assert both["outputs"]["seconds"] == pytest.approx(2 * alone["outputs"]["seconds"], abs=0.1)
    assert both["outputs"]["disk_bytes"] > alone["outputs"]["disk_bytes"]
    folded = planned(one | {"train": {"epochs": 4, "folds": 5}})
    # the model of all rows, and five that learn from four fifths each
    assert 5 * alone["teacher"]["seconds"] - 1 < folded["teacher"]["seconds"] < 6 * alone["teacher"]["seconds"] + 1
    assert "and 5 more on all but a fold each" in folded["teacher"]["what"]

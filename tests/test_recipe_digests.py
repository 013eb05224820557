"""How a recipe is written: newer fields leave the digests of recipes without them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.errors import RecipeError
from compress.recipe.file import resolve
from tests.recipe_sections import MINIMAL, stage


def test_schedules_are_written_as_they_are_read() -> None:
    """Also through --set and in the schema, where `from` is called so."""
    losses = {"soft": {"from": 1, "to": 0.2}, "hidden": 0.1}
    given = stage(temperature={"from": 4, "to": 1, "shape": "cosine"}, losses=losses, confidence=True)
    recipe = resolve({**MINIMAL, **given}, Path("r.yaml")).recipe
    dumped = recipe.dump()["distill"]["stages"][0]
    assert dumped["temperature"] == {"from": 4.0, "to": 1.0, "shape": "cosine"}
    assert dumped["losses"]["soft"] == {"from": 1.0, "to": 0.2, "shape": "linear"}
    assert dumped["confidence"]
    assert "weighting" not in dumped
    assert resolve(recipe.dump(), Path("r.yaml")).recipe == recipe
    assert "from" in recipe.model_json_schema()["$defs"]["Schedule"]["properties"]


def test_a_stage_without_the_newer_fields_is_written_as_before_they_came() -> None:
    """So digests of recipes, folders of runs and keys of finished students stay the same."""
    written = resolve({**MINIMAL, **stage()}, Path("r.yaml")).recipe.dump()["distill"]["stages"][0]
    losses = {"soft": 1.0, "hidden": 0.0, "hard": 0.0}
    assert written == {"name": "a", "epochs": 3, "learning_rate": 3e-4, "temperature": 2.0, "losses": losses}


def test_section_with_all_lines_commented_out_is_its_default() -> None:
    loaded = resolve({**MINIMAL, "gates": None, "quantize": None}, Path("r.yaml"))
    assert loaded.recipe.gates.size_mb is None


def test_newer_fields_of_static_students_leave_the_digests_of_other_recipes_alone() -> None:
    plain = resolve({**MINIMAL, "student": {"kind": "static"}}, Path("r.yaml")).recipe
    assert not {"bigrams", "embedding_std"} & set(plain.dump()["student"])
    newer = {"bigrams": 4096, "embedding_std": 0.5}
    recipe = resolve({**MINIMAL, "student": {"kind": "static", **newer}}, Path("r.yaml")).recipe
    assert recipe.dump()["student"] == {**plain.dump()["student"], **newer}
    assert resolve(recipe.dump(), Path("r.yaml")).recipe == recipe


def test_items_of_a_bundle_leave_the_digests_of_other_recipes_alone() -> None:
    pairs = {**MINIMAL, "task": {"kind": "pairs"}}
    plain = resolve(pairs, Path("r.yaml")).recipe
    assert plain.dump()["bundle"] == {"targets": ["python"], "licenses": []}
    recipe = resolve({**pairs, "bundle": {"items": "items.csv"}}, Path("r.yaml")).recipe
    assert recipe.dump()["bundle"] == {**plain.dump()["bundle"], "items": "items.csv"}
    assert resolve(recipe.dump(), Path("r.yaml")).recipe == recipe


def test_ranking_terms_leave_the_digests_of_other_recipes_alone() -> None:
    """A term of weight 0 is not in the dump, so folders and keys of finished runs keep their names."""
    section = {"stages": [{"name": "a", "losses": {"soft": 1.0, "hidden": 0.1}}]}
    plain = resolve({**MINIMAL, "distill": section}, Path("r.yaml")).recipe
    assert plain.dump()["distill"]["stages"][0]["losses"] == {"soft": 1.0, "hidden": 0.1, "hard": 0.0}
    ranked = {**MINIMAL, "task": {"kind": "ranking"}, "data": {"kind": "simulated-shop"}}
    stages = {"stages": [{"name": "a", "losses": {"listwise": 1.0}}]}
    recipe = resolve({**ranked, "distill": stages}, Path("r.yaml")).recipe
    assert recipe.distill.stages[0].losses.terms == {"listwise": 1.0}
    assert resolve(recipe.dump(), Path("r.yaml")).recipe == recipe


def test_privileged_columns_leave_the_digests_of_other_recipes_alone() -> None:
    columns: dict[str, Any] = {"text": "title", "label": "kind"}
    data: dict[str, Any] = {"train": {"path": "a.csv", "columns": columns}}
    plain = resolve({**MINIMAL, "data": data}, Path("r.yaml")).recipe
    assert plain.data.privileged_columns == {}
    assert set(plain.dump()["data"]["train"]["columns"]) == {"id", "text", "text_pair", "label", "group", "weight"}
    data["train"]["columns"] = {**columns, "privileged": ["clicks", "price"]}
    read = resolve({**MINIMAL, "data": data}, Path("r.yaml")).recipe
    assert read.data.privileged_columns == {"text": ("clicks", "price")}
    assert read.data.joined_columns == {"text": ("title",)}
    assert read.dump()["data"]["train"]["columns"]["privileged"] == ["clicks", "price"]
    assert resolve(read.dump(), Path("r.yaml")).recipe == read


def test_keeping_the_largest_logits_is_off_and_for_labels_alone() -> None:
    plain = resolve(MINIMAL, Path("r.yaml")).recipe
    assert "top_k" not in plain.dump()["distill"]
    kept = resolve({**MINIMAL, "distill": {"top_k": 5}}, Path("r.yaml")).recipe
    assert kept.dump()["distill"]["top_k"] == 5
    assert resolve(kept.dump(), Path("r.yaml")).recipe == kept
    ranked = {"task": {"kind": "ranking"}, "data": {"kind": "simulated-shop"}, "distill": {"top_k": 5}}
    with pytest.raises(RecipeError, match=r"distill\.top_k keeps the largest logits .* a ranking has one number"):
        resolve({**MINIMAL, **ranked}, Path("r.yaml"))
    weighed = {"stages": [{"name": "a", "losses": {"soft": 1.0}, "confidence": True}], "top_k": 5}
    with pytest.raises(RecipeError, match=r"stages\.0\.confidence needs .* of every label, of which top_k keeps"):
        resolve({**MINIMAL, "distill": weighed}, Path("r.yaml"))

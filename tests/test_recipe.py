"""Recipes: what loads, --set, files that are none, recipes without a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from compress.commands.templates import write_starter
from compress.errors import RecipeError
from compress.recipe import (
    FilesData,
    LoadedRecipe,
    MobileStudent,
    ResidualStudent,
    StaticStudent,
    TransformerStudent,
)
from compress.recipe.file import load_recipe, parse_student, recipe_from_paths
from tests.recipe_sections import MINIMAL

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A minimal recipe file."""
    path = tmp_path / "shop.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_loads_and_is_named_after_its_file(path: Path) -> None:
    assert load_recipe(path).recipe.name == path.stem


def test_there_are_the_recipes_that_the_readme_names() -> None:
    wanted = {
        *("quickstart", "smoke", "abt-buy", "amazon-google", "walmart-amazon", "mwpd-category"),
        *("pricerunner-category", "qbqtc"),
    }
    assert wanted <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("task", ["classification", "pairs"])
def test_starter_loads_and_is_not_overwritten(tmp_path: Path, task: str) -> None:
    written = write_starter(tmp_path / "new", task)
    assert load_recipe(written[0]).recipe.task.kind == task
    with pytest.raises(RecipeError, match="not overwritten"):
        write_starter(tmp_path / "new", task)


def test_relative_paths_start_at_the_file(recipe: Path) -> None:
    loaded = load_recipe(recipe, ["data.root=sub"])
    assert loaded.folder == recipe.parent
    assert loaded.data_root() == recipe.parent / "sub"


def test_scalars_mean_what_they_look_like(recipe: Path) -> None:
    stages = [{"name": "a", "losses": {"soft": 1}}]
    text = recipe.read_text().replace("category", "no") + f"distill: {{stages: {stages}}}\n"
    recipe.write_text(text)
    loaded = load_recipe(recipe, ["distill.stages.0.learning_rate=5e-4", "student.layers=2"])
    assert loaded.recipe.distill.stages[0].learning_rate == 5e-4
    assert isinstance(loaded.recipe.data, FilesData)
    assert loaded.recipe.data.train.columns is not None
    assert loaded.recipe.data.train.columns.label == "no"


# ---------------------------------------------------------------- --set


def test_overrides_reach_lists_and_make_missing_mappings(recipe: Path) -> None:
    loaded = load_recipe(
        recipe,
        ["export=[{to: onnx}]", "export.0.opset=18", "gates.p99_ms=5", "student.vocabulary.keep=8000"],
    ).recipe
    assert loaded.export[0].model_dump() == {"to": "onnx", "opset": 18}
    assert loaded.gates.p99_ms == 5
    assert loaded.student.vocabulary.keep == 8000


def test_overrides_reach_into_lists_that_the_file_leaves_to_their_defaults(recipe: Path) -> None:
    changed = load_recipe(recipe, ["export.0.to=tensorrt", "distill.stages.1.epochs=9", "bench.threads.0=2"]).recipe
    plain = load_recipe(recipe).recipe
    assert [export.to for export in changed.export] == ["tensorrt"]
    assert [stage.epochs for stage in changed.distill.stages] == [plain.distill.stages[0].epochs, 9]
    assert changed.distill.stages[1].losses == plain.distill.stages[1].losses
    assert changed.bench.threads == (2,)


def test_override_with_null_unsets(recipe: Path) -> None:
    loaded = load_recipe(recipe, ["gates=null", "data.train.columns.label=null", "export.0=null"])
    assert loaded.recipe.gates.p99_ms is None
    assert isinstance(loaded.recipe.data, FilesData)
    assert loaded.recipe.data.train.columns is not None
    assert loaded.recipe.data.train.columns.label is None
    assert loaded.recipe.export == ()


def test_override_changes_the_digest(recipe: Path) -> None:
    assert load_recipe(recipe).recipe.digest != load_recipe(recipe, ["seed=8"]).recipe.digest


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "key.path=value"),
        ("=3", "key.path=value"),
        ("data..root=x", "key.path=value"),
        ("export.1.to=onnx", "not an index"),
        ("name.x=3", "name is 'shop', which has no key 'x'"),
        ("data.train.path=[a, b", "--set data.train.path"),
    ],
)
def test_impossible_override(recipe: Path, override: str, expected: str) -> None:
    import re

    assert re.search(expected, refused(recipe, override))


def test_index_out_of_range(recipe: Path) -> None:
    message = refused(recipe, "export=[{to: onnx}]", "export.1.to=onnx")
    assert "export is a list of 1; '1' is not an index (0 to 0)" in message


def test_data_root_on_the_command_line_may_be_meant_from_here(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recipe.parent / "here" / "data").mkdir(parents=True)
    monkeypatch.chdir(recipe.parent / "here")
    assert load_recipe(recipe, ["data.root=data"]).data_root() == recipe.parent / "here" / "data"


# ---------------------------------------------------------------- files that are no recipes


def test_missing_file(tmp_path: Path) -> None:
    assert "no such recipe file" in refused(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nseed: [1", ":2"),
        ("name: a\nseed: 1\nname: b\n", ":3: the key 'name' stands twice"),
        ("- name\n", "is a list"),
        ("", "is empty"),
        ("name: !!python/object:os.system x\n", ":1"),
    ],
)
def test_not_a_recipe(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert expected in refused(path)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    assert "not UTF-8" in refused(path)


# ---------------------------------------------------------------- without a file


def test_student_from_a_short_form() -> None:
    assert parse_student("transformer:layers=3") == {"kind": "transformer", "layers": 3}
    assert parse_student("mobile:width=96,vocabulary.keep=8000") == {
        "kind": "mobile",
        "width": 96,
        "vocabulary": {"keep": 8000},
    }
    assert parse_student("mobile") == {"kind": "mobile"}


def from_paths(student: str) -> LoadedRecipe:
    return recipe_from_paths(
        teacher="t",
        train="train.csv",
        student=student,
        task="pairs",
        columns={"text": "query", "text_pair": "title", "label": "2"},
    )


def test_recipe_from_options() -> None:
    loaded = from_paths("mobile:width=64")
    assert isinstance(loaded.recipe.student, MobileStudent)
    assert isinstance(loaded.recipe.data, FilesData)
    assert loaded.recipe.data.train.columns is not None
    assert loaded.recipe.data.train.columns.label == 2
    assert loaded.folder == Path()
    assert isinstance(from_paths("transformer:layers=2").recipe.student, TransformerStudent)
    assert from_paths("static:width=64").recipe.student == StaticStudent(kind="static", width=64)
    assert from_paths("residual:kernel=5").recipe.student == ResidualStudent(kind="residual", kernel=5)


def test_wrong_student_in_options() -> None:
    kinds = "transformer, mobile, residual, static, two-tower"
    with pytest.raises(RecipeError, match=rf"student.kind: must be one of {kinds}, not 'lstm'"):
        from_paths("lstm")


@pytest.mark.parametrize(
    ("columns", "joined"),
    [
        (None, {}),
        ({"text": "text"}, {}),
        ({"text": "title"}, {"text": ("title",)}),
        ({"text": ["title", "brand"]}, {"text": ("title", "brand")}),
        ({"text": ["title", 3], "label": 1}, {}),
        ({"text": "query", "text_pair": ["title", "brand"]}, {"text": ("query",), "text_pair": ("title", "brand")}),
    ],
)
def test_columns_that_make_up_a_text(columns: dict[str, Any] | None, joined: dict[str, tuple[str, ...]]) -> None:
    """What a bundle must know of them: names other than the field's own, and no positions."""
    data = FilesData.model_validate({"train": {"path": "a.csv", "columns": columns}})
    assert data.joined_columns == joined

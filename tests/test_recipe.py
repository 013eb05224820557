"""Recipes: what loads, what is refused, and the sentence that says why."""

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
from compress.recipe.file import load_recipe, parse_student, recipe_from_paths, resolve

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
MINIMAL: dict[str, Any] = {
    "name": "shop",
    "task": {"kind": "classification"},
    "data": {"train": {"path": "train.csv", "columns": {"text": "title", "label": "category"}}},
    "teacher": {"model": "teacher"},
    "student": {"kind": "transformer"},
}


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


def refused_section(**sections: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        resolve({**MINIMAL, **sections}, Path("r.yaml"))
    return str(caught.value)


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


# ---------------------------------------------------------------- one sentence about what is wrong


def test_unknown_key_names_the_nearest_and_all() -> None:
    message = refused_section(data={"train": {"path": "a", "columns": {"txt": 1}}})
    assert message == (
        "r.yaml: data.train.columns.txt: unknown key (did you mean text?); "
        "allowed: group, id, label, privileged, privileged_pair, text, text_pair, weight"
    )


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"gatess": 1, "seed": "x"}, "gatess: unknown key (did you mean gates?)"),
        ({"gatess": 1, "seed": "x"}, "(and 1 more)"),
        ({"data": {**MINIMAL["data"], "unlabeled": [{"pth": 1}]}}, "data.unlabeled.0.pth: unknown key"),
        ({"data": {**MINIMAL["data"], "unlabeled": {"pth": 1}}}, "data.unlabeled.pth: unknown key"),
        ({"data": {**MINIMAL["data"], "validation": {"fraction": 2}}}, "must be less than 1, not 2"),
        ({"data": {"kind": "simulatd"}}, "data.kind: must be one of files, simulated-shop, not 'simulatd'"),
        ({"task": {}}, "task.kind: is missing (The kind of task); allowed: classification, pairs"),
        ({"task": "pairs"}, "task: must be a mapping of keys, not 'pairs'"),
        (
            {"task": {"kind": "pairs", "positive": 1}},
            "task.positive: must be a string, not 1; put it in quotes",
        ),
        ({"export": [{"to": "onx"}]}, "export.0.to: must be one of onnx, tensorrt, tensorrt-rtx, not 'onx'"),
        ({"export": [{"too": "onnx"}]}, "export.0.to: is missing"),
        ({"student": {"kind": "mobile", "kernel": 4}}, "student: kernel must be odd, not 4"),
        ({"student": {"kind": "residual", "kernel": 4}}, "student: kernel must be odd, not 4"),
        (
            {"student": {"kind": "mobile", "blocks": 3, "layer_map": [2, 4]}},
            "student: layer_map names 2 layers, but the student has 3",
        ),
        (
            {"student": {"kind": "static", "layer_map": [2, 4]}},
            "student: layer_map names 2 layers, but the student has 1",
        ),
        ({"student": {"kind": "static", "blocks": 4}}, "student.blocks: unknown key"),
        (
            {"student": {"kind": "static", "bigrams": 0}},
            "student.bigrams: must be greater than or equal to 256, not 0",
        ),
        ({"student": {"kind": "mobile", "bigrams": 4096}}, "student.bigrams: unknown key"),
        ({"student": {"kind": "static", "embedding_std": 0}}, "student.embedding_std: must be greater than 0, not 0"),
        (
            {"student": {"kind": "static"}, "quantize": {"method": "static"}},
            "quantize.method: static measures the ranges of convolutions, and a static student has none; "
            "set it to dynamic",
        ),
        ({"student": {"kind": "transformer", "layers": "three"}}, "student.layers: must be a whole number"),
        (
            {"student": {"kind": "transformer", "layers": True}},
            "student.layers: must be text or a number, not true",
        ),
        ({"gates": {"p99_ms": float("nan")}}, "gates.p99_ms: must be a finite number, not nan"),
        (
            {"gates": {"quality": {"metric": "f2", "retain": 1}}},
            "gates.quality.metric: must be one of accuracy",
        ),
        ({"name": "a b"}, "name: must match pattern"),
        ({"task": {"kind": "ranking", "metric": "ndcg"}}, "task.metric: must match pattern"),
        ({"task": {"kind": "ranking", "loss": "triplet"}}, "task.loss: must be one of pointwise, listwise"),
        ({"task": {"kind": "regression", "metric": "f1"}}, "task.metric: must be one of rmse, mae, spearman, not 'f1'"),
        (
            {"distill": {"stages": [{"name": "a", "losses": {"soft": 1, "listwise": 1}}]}},
            "distill.stages.0.losses.listwise compares the rows of a query, which only task.kind: ranking has",
        ),
        (
            {
                "task": {"kind": "regression"},
                "distill": {"stages": [{"name": "a", "losses": {"soft": 1, "reverse_kl": 1}}]},
            },
            "distill.stages.0.losses.reverse_kl compares the probabilities of labels, which task.kind: regression does",
        ),
        (
            {"task": {"kind": "regression"}, "data": {"kind": "simulated-shop"}},
            "the simulated shop has no numbers to learn",
        ),
        (
            {"task": {"kind": "ranking"}, "teacher": {"model": "m", "train": {"swap_pairs": True}}},
            "teacher.train.swap_pairs: a query and a document cannot change places",
        ),
        (
            {
                "task": {"kind": "regression"},
                "teacher": {"kind": "scores", "path": "x", "scale": "logits"},
                "student": {"kind": "mobile", "init": "random", "vocabulary": {"train": 500}},
            },
            "teacher.scale is for scores of labels",
        ),
        ({"name": None}, "name: is missing"),
        ({"teacher": {"kind": "scores", "path": "x"}}, "needs a teacher model"),
        (
            {
                "teacher": {"kind": "scores", "path": "x"},
                "student": {"kind": "mobile", "init": "random", "vocabulary": {"train": 500}},
                "distill": {"stages": [{"name": "a", "losses": {"soft": 1, "hidden_cosine": 1}}]},
            },
            "a file of scores has no hidden states: set losses.hidden and losses.hidden_cosine to 0",
        ),
        ({"distill": {"stages": []}}, "distill.stages: must have at least 1 item"),
    ],
)
def test_sentence(sections: dict[str, Any], expected: str) -> None:
    assert expected in refused_section(**sections)


def stage(**fields: Any) -> dict[str, Any]:
    return {"distill": {"stages": [{"name": "a", **fields}]}}


NUMBERS = {"task": {"kind": "regression"}}


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (stage(losses={"soft": -1}), "distill.stages.0.losses.soft: must be greater than or equal to 0 or a mapping"),
        (
            stage(losses={"soft": {"from": -1, "to": 1}}),
            "distill.stages.0.losses.soft.from: must be greater than or equal to 0, not -1 (Value at the stage's first",
        ),
        (
            stage(losses={"soft": {"from": 1, "two": 1}}),
            "losses.soft.two: unknown key (did you mean to?)",
        ),
        (stage(losses={"hidden": {"from": 1}}), "losses.hidden.to: is missing (Value at its last step"),
        (stage(losses={"soft": {"from": 1, "to": 1}}), "losses.soft: goes from 1 to 1: write 1 alone"),
        (stage(losses={"soft": {"from": True, "to": 0}}), "losses.soft.from: must be text or a number, not true"),
        (stage(temperature={"from": 4, "to": 0}), "distill.stages.0.temperature.to: must be greater than 0, not 0"),
        (stage(temperature={"from": 400, "to": 1}), "temperature.from: must be less than or equal to 100, not 400"),
        (
            stage(temperature={"from": 4, "to": 1, "shape": "cosin"}),
            "temperature.shape: must be one of linear, cosine, not 'cosin' (did you mean cosine?)",
        ),
        (stage(temperature=0), "distill.stages.0.temperature: must be greater than 0 or a mapping of keys, not 0"),
        (
            stage(losses={"hard": 1}, temperature={"from": 4, "to": 1}),
            "distill.stages.0.temperature has a schedule, but no term of losses has a temperature",
        ),
        (
            NUMBERS | stage(losses={"soft": 1}, temperature={"from": 4, "to": 1}),
            "temperature has a schedule, but no term of losses has a temperature for task.kind: regression",
        ),
        (
            stage(losses={"soft": 1}, weighting="uncertainty"),
            "distill.stages.0: weighting: uncertainty weighs terms against each other, and losses has soft alone",
        ),
        (
            stage(losses={"soft": {"from": 1, "to": 0}, "hard": 1}, weighting="uncertainty"),
            "weighting: uncertainty learns the weights, but losses.soft has a schedule",
        ),
        (stage(weighting="learned"), "distill.stages.0.weighting: must be one of fixed, uncertainty, not 'learned'"),
        (
            stage(losses={"hard": 1}, confidence=True),
            "confidence weighs the rows of soft, reverse_kl and jensen_shannon",
        ),
        (
            NUMBERS | stage(confidence=True),
            "distill.stages.0.confidence is the probability of a label, which task.kind:",
        ),
        (stage(losses={"soft": 0}), "distill.stages.0: every loss weight is 0: nothing to learn"),
    ],
)
def test_weights_that_cannot_be(sections: dict[str, Any], expected: str) -> None:
    message = refused_section(**sections)
    assert expected in message
    assert "\n" not in message


RELATED = stage(losses={"soft": 1, "relations": 1})


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (
            {"student": {"kind": "mobile"}},
            "distill.stages.0.losses.relations compares attention, and a mobile student has none: leave it out",
        ),
        (
            {"student": {"kind": "transformer", "vocabulary": {"keep": 4000}}},
            "losses.relations compares tokens with the teacher's, and student.vocabulary.keep gives the student others",
        ),
        (
            {"student": {"kind": "transformer", "vocabulary": {"train": 4000}}},
            "student.vocabulary.train gives the student others: leave one of the two out",
        ),
        (
            {"teacher": {"model": "m", "max_length": 32}, "student": {"kind": "transformer", "max_length": 64}},
            "student.max_length is 64 and teacher.max_length 32: lower the student's",
        ),
        (
            {
                "teacher": {"kind": "scores", "path": "x"},
                "student": {"kind": "transformer", "init": "random", "vocabulary": {"train": 500}},
            },
            "losses.relations compares attention, and a file of scores has none",
        ),
    ],
)
def test_relations_that_cannot_be(sections: dict[str, Any], expected: str) -> None:
    assert expected in refused_section(**RELATED, **sections)
    assert resolve({**MINIMAL, **RELATED}, Path("r.yaml")).recipe.distill.relation_stages == [0]


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

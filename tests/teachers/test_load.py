"""Teachers that cannot be used are refused with a sentence, without being loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from compress.errors import DataError, EnvironmentProblem, RecipeError
from compress.recipe import HuggingFaceTeacher, LoadedRecipe, Recipe, ScoresTeacher, Teach
from compress.teachers.load import (
    check_teacher,
    fingerprint,
    head_labels,
    positions,
    resolve,
    safetensors_parameters,
    weight_files,
)
from tests.tiny_models import bert_folder, edit_json


def recipe(folder: Path, **teacher: Any) -> LoadedRecipe:
    """A recipe in `folder` with the given teacher."""
    student = {"kind": "mobile", "init": "random", "vocabulary": {"train": 256}}
    parsed = Recipe.model_validate(
        {
            "name": "x",
            "task": {"kind": "classification"},
            "data": {"train": {"path": "train.csv"}},
            "teacher": teacher,
            "student": student,
            "distill": {"stages": [{"name": "imitate"}]},
        }
    )
    return LoadedRecipe(recipe=parsed, path=folder / "recipe.yaml")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A BERT classifier's folder, `tmp_path/model`."""
    return bert_folder(tmp_path / "model")


def test_a_good_teacher(model: Path, tmp_path: Path) -> None:
    """Kind, sizes and labels, from headers alone."""
    found = check_teacher(recipe(tmp_path, model="model", max_length=40))
    assert found | {"parameters": 0} == {
        "kind": "bert",
        "parameters": 0,
        "positions": 40,
        "labels": ["a", "b", "c"],
        "hidden": 32,
        "heads": 4,
        "intermediate": 48,
        "layers": 4,
    }
    assert 20_000 < found["parameters"] < 60_000
    training = check_teacher(recipe(tmp_path, model="model", max_length=40, train={}))
    assert training["labels"] is None


def test_where_a_teacher_is(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the recipe, absolute, a hub id, or inside a package."""
    assert resolve("model", tmp_path) == resolve(str(model), Path("/")) == model
    assert resolve("someone/some-model", tmp_path) is None
    for missing in ("./model2", "nothing", "a/b/c"):
        with pytest.raises(DataError, match=r"there is no directory"):
            resolve(missing, tmp_path)
    with pytest.raises(EnvironmentProblem, match=r"'not-there-at-all' is not installed: pip install"):
        resolve("package:not-there-at-all", tmp_path)
    package = tmp_path / "site" / "tiny_packaged"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(DataError, match=r"holds no config.json"):
        resolve("package:tiny-packaged", tmp_path)
    (package / "model").mkdir()
    (package / "model" / "config.json").write_text("{}")
    assert resolve("package:tiny-packaged", tmp_path) == package / "model"
    assert "tiny_packaged" not in sys.modules


def test_pickles_are_not_opened(model: Path, tmp_path: Path) -> None:
    """Named, with the way to make them safe."""
    (model / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"has no weights \(\*.safetensors\)"):
        weight_files(model)
    (model / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataError, match=r"only pickled weights \(pytorch_model.bin\).*safe_serialization"):
        check_teacher(recipe(tmp_path, model="model", max_length=40))


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1])
def test_weights_that_are_cut_short(model: Path, tmp_path: Path, keep: int) -> None:
    """From nothing at all to one byte too few."""
    path = model / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"cut short|damaged"):
        check_teacher(recipe(tmp_path, model="model", max_length=40))


def test_a_damaged_header(tmp_path: Path) -> None:
    """Bytes that are no JSON."""
    path = tmp_path / "model.safetensors"
    path.write_bytes((4).to_bytes(8, "little") + b"{\xff}}")
    with pytest.raises(DataError, match=r"damaged header"):
        safetensors_parameters(path)


def test_configuration(model: Path, tmp_path: Path) -> None:
    """Missing, or not JSON."""
    (model / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config.json is not JSON"):
        check_teacher(recipe(tmp_path, model="model"))
    (model / "config.json").unlink()
    with pytest.raises(DataError, match=r"has no config.json"):
        check_teacher(recipe(tmp_path, model="model"))


def test_more_tokens_than_positions(model: Path, tmp_path: Path) -> None:
    """Both numbers, and what to set."""
    with pytest.raises(RecipeError, match=r"teacher.max_length is 41, but the teacher has 40 positions; set it to 40"):
        check_teacher(recipe(tmp_path, model="model", max_length=41))


def test_positions() -> None:
    """Some families keep two for padding; some have no end."""
    assert positions({"model_type": "bert", "max_position_embeddings": 512}) == 512
    assert positions({"model_type": "roberta", "max_position_embeddings": 514}) == 512
    assert positions({"model_type": "gpt2", "n_positions": 1024}) == 1024
    assert positions({"model_type": "t5"}) is None


def test_head_labels_stand_in_the_order_of_their_numbers() -> None:
    """Keys of JSON are text: "10" comes after "9"."""
    names = {str(i): f"c{i}" for i in reversed(range(11))}
    assert head_labels({"id2label": names}) == [f"c{i}" for i in range(11)]
    assert head_labels({}) == ["LABEL_0", "LABEL_1"]


def test_fingerprint_covers_weights_configuration_and_tokenizer(model: Path) -> None:
    """A changed byte in any of them is another teacher; another folder name is not."""
    section = HuggingFaceTeacher(model="model", train=Teach())
    prints = [fingerprint(section, model)]
    edit_json(model / "config.json", hidden_dropout_prob=0.2)
    prints.append(fingerprint(section, model))
    edit_json(model / "tokenizer.json", truncation=None, version="1.0", padding=None)
    (model / "tokenizer.json").write_text((model / "tokenizer.json").read_text() + " ")
    prints.append(fingerprint(section, model))
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    prints.append(fingerprint(section, model))
    assert len(set(prints)) == 4
    moved = model.rename(model.with_name("moved"))
    assert fingerprint(section, moved) == prints[-1]


def test_a_file_of_scores(tmp_path: Path) -> None:
    """It must be there."""
    loaded = recipe(tmp_path, kind="scores", path="scores.csv")
    assert isinstance(loaded.recipe.teacher, ScoresTeacher)
    with pytest.raises(DataError, match=r"teacher.path: there is no file"):
        check_teacher(loaded)
    (tmp_path / "scores.csv").write_text("id,score\n")
    assert check_teacher(loaded)["kind"] == "scores"
    assert json.dumps(check_teacher(loaded))

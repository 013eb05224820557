"""Whole runs whose teacher is a file of scores, or a decoder with other tokens than its student's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.artifacts import ONNX
from compress.recipe import LoadedRecipe
from compress.recipe.file import load_recipe
from compress.runtime.predictor import Predictor, Request
from tests import tiny_models
from tests.tiny_project import (
    COLOURS,
    LABELS,
    PAIR_HEAD,
    ROWS,
    kdc,
    kdc_json,
    recipe_of,
    rows_of,
    titles,
    write_csv,
    write_recipe,
)

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)


def write_scores(path: Path, task: str, splits: tuple[str, ...]) -> None:
    """A file of probabilities for the labels, sure of the right one."""
    labels, column = (LABELS, "kategorie") if task == "classification" else (sorted(PAIR_HEAD), "gleich")
    rows = []
    for seed, (split, count) in enumerate(ROWS.items()):
        for row in rows_of(task, count, seed) if split in splits else []:
            rest = 0.1 / (len(labels) - 1)
            rows.append({"id": row["nr"]} | {label: 0.9 if row[column] == label else rest for label in labels})
    write_csv(path, rows)


def scores_recipe(path: str) -> dict[str, Any]:
    """A student that starts from nothing but a file of scores."""
    recipe = recipe_of("classification", teacher={"kind": "scores", "path": path})
    recipe["student"] = {
        "kind": "mobile",
        "width": 16,
        "blocks": 2,
        "kernel": 3,
        "init": "random",
        "vocabulary": {"train": 300},
    }
    stages = [{"name": "imitate", "epochs": 3, "learning_rate": 1e-2}]
    recipe["distill"] = {"stages": stages, "batch_size": 8}
    return recipe


@pytest.mark.long
def test_a_file_of_scores_teaches(project: Path) -> None:
    write_scores(project / "noten.csv", "classification", ("train", "validation", "test"))
    recipe = write_recipe(project, scores_recipe("noten.csv"))
    found = kdc_json("run", recipe, "--runs", project / "runs")
    assert found["models"]["teacher"]["quality"]["accuracy"] == 1.0
    assert found["models"]["teacher"]["size_bytes"] is None
    assert found["models"]["student"]["quality"]["accuracy"] > 0.5
    assert found["retention"] == pytest.approx(found["models"]["shipped"]["quality"]["macro_f1"])
    assert found["speedup"] is None
    assert {row["artifact"] for row in found["latency"]} == {"control", "student", "shipped"}
    assert kdc_json("verify", found["bundle"])["ok"]
    assert kdc("inspect", found["run"]).exit_code == 0


def test_scores_of_training_rows_alone_leave_the_teacher_unmeasured(project: Path) -> None:
    write_scores(project / "noten.csv", "classification", ("train",))
    recipe = write_recipe(project, scores_recipe("noten.csv"))
    done = kdc("quantize", recipe, "--runs", project / "runs", "--set", "distill.control=false", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["models"]["teacher"]["quality"] is None
    assert {each["role"] for each in found["certificate"]["comparisons"]} == {"parent"}
    assert found["certificate"]["reason"] == found["models"]["teacher"]["reason"]
    assert "no scores for 48 of 48 rows of validation" in found["models"]["teacher"]["reason"]
    assert found["retention"] is None
    assert "the teacher's quality is not run" in done.stderr


@pytest.mark.long
def test_a_decoder_teaches_a_student_of_other_tokens(project: Path) -> None:
    tiny_models.gpt2_folder(project / "gpt", PAIR_HEAD)
    recipe = recipe_of("pairs", teacher={"model": "gpt", "max_length": 32})
    recipe["student"] = {
        "kind": "transformer",
        "layers": 2,
        "hidden": 16,
        "embedding_size": 8,
        "heads": 2,
        "init": "random",
        "vocabulary": {"train": 300},
    }
    found = kdc_json("run", write_recipe(project, recipe), "--runs", project / "runs")
    folder = Path(found["run"])
    assert (folder / "onnx" / "teacher" / ONNX).is_file()
    assert found["speedup"] > 0
    assert found["models"]["student"]["layer_map"] == [2, 4]
    assert found["models"]["student"]["vocabulary"]["trained"]
    with (folder / "student" / "model.safetensors").open("rb") as stream:
        assert b"word_embeddings.table.weight" in stream.read(100_000)
    request = Request(titles(1, 5)[0][0], f"Laufschuhe {COLOURS[0]}")
    teacher = Predictor.from_folder(folder / "onnx" / "teacher")
    assert teacher.answer([request])[0].label in PAIR_HEAD
    assert said_by_torch(load_recipe(folder / "recipe.yaml"), folder, request) == pytest.approx(
        teacher.logits([request])[0].tolist(), abs=1e-3
    )


def said_by_torch(loaded: LoadedRecipe, folder: Path, request: Request) -> list[float]:
    """The teacher's logits for one pair without ONNX."""
    import torch

    from compress.batch import Examples
    from compress.data.encode import encode_examples
    from compress.predict import predict_logits
    from compress.recipe import HuggingFaceTeacher
    from compress.teachers.huggingface import load_teacher

    assert isinstance(loaded.recipe.teacher, HuggingFaceTeacher)
    section = loaded.recipe.teacher.model_copy(update={"model": str(folder / "teacher")})
    labels = sorted(PAIR_HEAD)
    teacher = load_teacher(section, folder, task="pairs", labels=labels, positive="ja", trained=True)
    rows = Examples(ids=["0"], texts=[request.text], pairs=[request.text_pair or ""])
    logits = predict_logits(teacher.module, encode_examples(teacher.encoder, rows), torch.device("cpu"))
    return [float(value) for value in logits[0]]

"""What cannot work is refused by `kdc check`, and by `kdc run` before any work, not after hours of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import edit_json
from tests.tiny_project import kdc, kdc_json, recipe_of, refused, write_recipe

Change = Callable[[Path, dict[str, Any]], None]


def _scores(folder: Path, recipe: dict[str, Any], text: str) -> None:
    (folder / "scores.csv").write_text(text)
    recipe["teacher"] = {"kind": "scores", "path": "scores.csv"}
    recipe["student"] |= {"init": "random", "vocabulary": {"train": 400}}
    recipe["distill"]["stages"][1]["losses"]["hidden"] = 0.0


def _relate(recipe: dict[str, Any], **student: Any) -> None:
    recipe["student"] = {"kind": "transformer", "layers": 1} | student
    recipe["distill"]["stages"][0]["losses"] = {"relations": 1.0}


MISFITS: list[tuple[str, int, str, Change, str]] = [
    (
        "layers",
        2,
        "transformer",
        lambda _, r: r["student"].update(layers=6),
        r"student\.layers is 6, but the teacher has only 2 to cut from",
    ),
    (
        "layer-map",
        2,
        "transformer",
        lambda _, r: r["student"].update(layer_map=[5]),
        r"layer_map names layer 5, but the teacher has 2",
    ),
    (
        "width",
        2,
        "transformer",
        lambda _, r: r["student"].update(hidden=64),
        r"student\.hidden is 64; heads .* at most 32",
    ),
    (
        "heads-anew",
        2,
        "transformer",
        lambda _, r: r["student"].update(init="random", hidden=100),
        r"student\.hidden is 100, which 3 heads \(student\.heads\) do not divide",
    ),
    (
        "relations-heads",
        2,
        "transformer",
        lambda _, r: _relate(r, init="random", hidden=33, heads=3),
        r"stages\.0\.losses\.relations: the teacher's 2 attention heads do not divide student\.hidden, which is 33",
    ),
    (
        "relations-of-a-decoder",
        2,
        "transformer",
        lambda f, r: (_relate(r), edit_json(f / "teacher-classification" / "config.json", model_type="gpt2")),
        r"losses\.relations needs one of bert, .* as teacher, and this one is gpt2: leave it out",
    ),
    (
        "static-transformer",
        2,
        "transformer",
        lambda _, r: r["quantize"].update(method="static"),
        r"quantize\.method: static measures the ranges of convolutions, .* set it to dynamic",
    ),
    ("metric", 2, "mobile", lambda _, r: r["task"].update(metric="auc"), r"task\.metric is 'auc', which needs pairs"),
    (
        "gate",
        2,
        "mobile",
        lambda _, r: r.update(gates={"quality": {"metric": "auc", "retain": 0.9}}),
        r"gates\.quality\.metric is auc, .* choose one of accuracy, macro_f1, weighted_f1",
    ),
    (
        "latency-gate",
        2,
        "mobile",
        lambda _, r: (r.update(gates={"p99_ms": 5}), r["bench"].update(scenarios=["offline"])),
        r"gates\.p99_ms needs single-stream",
    ),
    ("empty-scores", 3, "mobile", lambda f, r: _scores(f, r, ""), r"scores\.csv could not be read as csv"),
    (
        "scores-of-others",
        3,
        "mobile",
        lambda f, r: _scores(f, r, "id,schuhe,küche,strom\nx,1.5,2,3\n"),
        r"no scores for \d+ of \d+ rows of train",
    ),
    (
        "encoder-decoder",
        3,
        "mobile",
        lambda f, _: edit_json(f / "teacher-classification" / "config.json", is_encoder_decoder=True),
        r"is an encoder-decoder model",
    ),
    (
        "config-of-a-list",
        3,
        "mobile",
        lambda f, _: (f / "teacher-classification" / "config.json").write_text("[]"),
        r"config\.json holds no JSON object",
    ),
    (
        "labels-by-name",
        3,
        "mobile",
        lambda f, _: edit_json(f / "teacher-classification" / "config.json", id2label={"a": "schuhe"}),
        r"id2label in config\.json has the keys a, not 0, 1, 2",
    ),
    (
        "no-tokenizer",
        3,
        "mobile",
        lambda f, _: (f / "teacher-classification" / "tokenizer.json").unlink(),
        r"has no tokenizer \(tokenizer\.json\)",
    ),
]


@pytest.mark.parametrize(
    ("code", "student", "change", "message"), [case[1:] for case in MISFITS], ids=[case[0] for case in MISFITS]
)
def test_a_misfit_is_refused_before_any_work(
    project: Path, code: int, student: str, change: Change, message: str
) -> None:
    recipe = recipe_of("classification", student)
    change(project, recipe)
    path = write_recipe(project, recipe)
    for command in ("check", "run"):
        refused(code, message, command, path, "--runs", project / "runs")
    assert not list(project.glob("runs/*/*/artifact.json"))


def test_towers_are_cut_from_a_bert(project: Path) -> None:
    """Another teacher is refused; a BERT built anew may learn from it."""
    edit_json(project / "teacher-pairs" / "config.json", model_type="distilbert")
    recipe = recipe_of("pairs", "two-tower")
    path = write_recipe(project, recipe)
    for command in ("check", "run"):
        refused(2, "two-tower is cut from BERT teachers only, this one is distilbert", command, path)
    assert kdc("check", path, "--set", "student.init=random").exit_code == 0


def test_a_place_for_runs_that_cannot_be_one(project: Path) -> None:
    recipe = write_recipe(project, recipe_of("classification"))
    refused(2, r"recipe\.yaml is a file, but a folder is needed", "check", recipe, "--runs", recipe)


def test_a_head_without_names_is_taken_in_order_and_said(project: Path) -> None:
    names = {str(i): f"LABEL_{i}" for i in range(3)}
    edit_json(project / "teacher-classification" / "config.json", id2label=names)
    recipe = write_recipe(project, recipe_of("classification"))
    found = kdc_json("check", recipe, "--runs", project / "runs")
    assert any("LABEL_0 as küche" in note and "id2label" in note for note in found["notes"])


def test_a_table_separated_by_semicolons(project: Path) -> None:
    """The message says what to set, and that works."""
    for split in ("train", "validation", "test"):
        path = project / f"classification-{split}.csv"
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, delimiter=";").writerows(rows)
    recipe = write_recipe(project, recipe_of("classification"))
    refused(3, r"separated by ';'.* set data\.train\.format: csv and data\.train\.delimiter: \";\"", "check", recipe)
    found = kdc_json("check", recipe, "--set", 'data.train.delimiter=";"')
    assert found["data"]["labels"] == 3


def test_a_long_description_is_read(project: Path) -> None:
    path = project / "classification-train.csv"
    with path.open("a", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerow(["long", "lampe " * 50_000, "strom"])
    recipe = write_recipe(project, recipe_of("classification"))
    assert kdc("check", recipe, "--runs", project / "runs").exit_code == 0


def test_a_path_and_a_fraction_exclude_each_other(project: Path) -> None:
    recipe = write_recipe(project, recipe_of("classification"))
    done = kdc("check", recipe, "--set", "data.test.fraction=0.1", "--json")
    assert json.loads(done.stdout)["error"].count("cannot stand beside the other keys") == 1

"""The certificate from end to end: in the summary, the bundle, the report, and on the command line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from compress.recipe.file import load_recipe
from compress.runtime.bundle import open_bundle
from tests import tiny_models
from tests.tiny_project import kdc, kdc_json, recipe_of, statuses, write_csv, write_recipe

BRANDS = ("Alpha", "Beta")

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)


def sliced(project: Path, slices: list[str], **data: Any) -> dict[str, Any]:
    """A recipe whose test rows have a brand and a country."""
    with (project / "classification-test.csv").open(encoding="utf-8", newline="") as stream:
        rows = [
            row | {"marke": BRANDS[number % 2], "land": "" if number % 7 else "DE"}
            for number, row in enumerate(csv.DictReader(stream))
        ]
    write_csv(project / "branded-test.csv", rows)
    recipe = recipe_of("classification", "mobile")
    recipe["data"] |= {"test": {"path": "branded-test.csv"}, "slices": slices} | data
    return recipe | {"name": "branded"}


@pytest.fixture(scope="module")
def summary(tiny_project: Path) -> dict[str, Any]:
    """A finished run."""
    recipe = write_recipe(tiny_project, sliced(tiny_project, ["marke", "land"]), "branded.yaml")
    return kdc_json("run", recipe, "--runs", tiny_project / "runs")


def test_models_are_compared_with_parent_and_teacher_in_the_figures_of_the_summary(summary: dict[str, Any]) -> None:
    found = summary["certificate"]
    pairs = {(each["model"], each["reference"]): each for each in found["comparisons"]}
    assert {pair: each["role"] for pair, each in pairs.items()} == {
        ("shipped", "exported"): "parent",
        ("exported", "student"): "parent",
        ("shipped", "teacher"): "teacher",
        ("exported", "teacher"): "teacher",
    }
    assert (found["metric"], found["rows"], found["reason"]) == ("macro_f1", 48, None)
    quality = {name: model["quality"]["macro_f1"] for name, model in summary["models"].items()}
    metric = pairs["shipped", "teacher"]["whole"]["metric"]
    assert (metric["model"], metric["reference"]) == pytest.approx((quality["shipped"], quality["teacher"]))
    assert metric["low"] <= metric["difference"] <= metric["high"]
    exported = pairs["exported", "student"]["whole"]
    assert exported["metric"]["reference"] == pytest.approx(quality["student"])
    assert exported["max_difference"] < summary["parity"]["onnx"]["limit"]
    assert exported["argmax_agreement"] == 1.0


def test_slices_are_by_label_frequency_length_and_the_named_columns(summary: dict[str, Any]) -> None:
    slices = summary["certificate"]["comparisons"][0]["slices"]
    by = {kind: [each for each in slices if each["by"] == kind] for kind in {each["by"] for each in slices}}
    assert set(by) == {"label", "frequency", "length", "column marke", "column land"}
    assert {each["value"]: each["rows"] for each in by["column marke"]} == {"Alpha": 24, "Beta": 24}
    assert {each["value"]: each["status"] for each in by["column land"]} == {"(empty)": "ok", "DE": "too small"}
    assert all(sum(each["rows"] for each in parts) == 48 for parts in by.values())


def test_the_bundle_and_the_command_line_have_the_same(summary: dict[str, Any]) -> None:
    bundle = summary["bundle"]
    assert open_bundle(Path(bundle)).manifest.certificate == summary["certificate"]
    found = kdc_json("verify", bundle, "--certificate")
    assert found["certificate"] == summary["certificate"]
    assert found["ok"] is True
    assert "certificate" not in kdc_json("verify", bundle)
    said = kdc("verify", bundle, "--certificate").stdout
    for words in ("golden:", "95% of the difference", "shipped after exported, its parent", "column marke: Beta"):
        assert words in said
    assert "too small" in said


def test_the_report_and_the_last_words_of_a_run_tell_of_it(summary: dict[str, Any], tiny_project: Path) -> None:
    report = Path(summary["report"]).read_text(encoding="utf-8")
    assert "<h2>Certificate</h2>" in report
    assert "column marke: Alpha" in report
    said = kdc("run", tiny_project / "branded.yaml", "--runs", tiny_project / "runs").stdout
    assert "certificate        shipped against the float student: macro_f1" in said


def test_another_slice_trains_nothing_anew(summary: dict[str, Any], tiny_project: Path) -> None:
    recipe = write_recipe(tiny_project, sliced(tiny_project, ["marke"]), "branded-2.yaml")
    again = kdc_json("quantize", recipe, "--runs", tiny_project / "runs")
    done = statuses(again)
    assert {name: done[name] for name in ("teacher", "outputs", "student", "onnx", "quantized")} == {
        "teacher": "reused",
        "outputs": "reused",
        "student": "reused",
        "onnx": "reused",
        "quantized": "done",
    }
    first, second = (each["certificate"]["comparisons"][0] for each in (summary, again))
    assert first["whole"] == second["whole"]  # the same draws
    assert "column land" not in {each["by"] for each in second["slices"]}


def test_a_share_of_the_training_rows_keeps_its_columns(tiny_project: Path) -> None:
    recipe = sliced(tiny_project, ["marke"], test={"fraction": 0.3})
    recipe["data"]["train"]["path"] = "branded-test.csv"
    assert kdc("check", write_recipe(tiny_project, recipe, "share.yaml")).exit_code == 0
    recipe["data"]["train"]["path"] = "classification-train.csv"
    assert kdc("check", write_recipe(tiny_project, recipe, "share.yaml")).exit_code == 3


# ---------------------------------------------------------------- bad input


def test_a_column_that_is_not_there_is_named_before_any_work(tiny_project: Path) -> None:
    recipe = write_recipe(tiny_project, sliced(tiny_project, ["marken"]), "wrong.yaml")
    refused = kdc("check", recipe)
    assert refused.exit_code == 3
    assert "branded-test.csv has no column 'marken' (data.slices)" in refused.stderr
    assert "'marke'" in refused.stderr


@pytest.mark.parametrize(
    ("slices", "words"), [(["marke", "marke"], "data.slices names 'marke' twice"), ("marke", "data.slices")]
)
def test_slices_that_cannot_be_meant(tiny_project: Path, slices: Any, words: str) -> None:
    refused = kdc("check", write_recipe(tiny_project, sliced(tiny_project, slices), "wrong.yaml"))
    assert refused.exit_code == 2
    assert words in refused.stderr


def test_recipes_without_slices_keep_their_digest(tiny_project: Path) -> None:
    recipe = sliced(tiny_project, [])
    plain = load_recipe(write_recipe(tiny_project, recipe, "plain.yaml")).recipe
    assert "slices" not in plain.dump()["data"]
    named = load_recipe(write_recipe(tiny_project, sliced(tiny_project, ["marke"]), "named.yaml")).recipe
    assert named.dump()["data"]["slices"] == ["marke"]
    assert named.digest != plain.digest

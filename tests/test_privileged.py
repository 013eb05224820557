"""Columns that the teacher alone reads, from end to end: it gains by them, and nothing that ships reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.bench import measure
from compress.bench.lanes import Contender
from compress.bench.measure import run_bench
from compress.bundle import access
from compress.bundle.access import check_access
from compress.bundle.write import write_bundle
from compress.errors import RecipeError
from compress.runtime.bundle import open_bundle
from compress.steps import shipping
from tests import tiny_models
from tests.tiny import tiny_deployable, tiny_requests
from tests.tiny_models import CORPUS, bert_folder
from tests.tiny_project import QUICK_BENCH, kdc, kdc_json, statuses, write_csv, write_recipe

LABELS = ("a", "b", "c")
HINTS = dict(zip(LABELS, ("running shoes", "coffee machine", "kettle"), strict=True))
"""What stands in the privileged column of a label's rows, in words that the teacher's tokenizer knows."""
SECRET = "geheimnis"
"""A word that stands in the privileged column alone."""
ROWS = {"train": 160, "validation": 60, "test": 60, "more": 30}

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)


def rows_of(split: str) -> list[dict[str, str]]:
    """Titles that say next to nothing of the label, which follows from what buyers clicked on."""
    generator = np.random.default_rng(len(split))
    rows = []
    for number in range(ROWS[split]):
        label = LABELS[int(generator.integers(3))]
        title = f"{CORPUS[int(generator.integers(len(CORPUS)))]} {split[0]}{number}"
        rows.append({"nr": f"{split}-{number}", "titel": title, "klicks": f"{HINTS[label]} {SECRET}", "art": label})
    if split == "more":
        rows[0]["klicks"] = ""
    return rows


def recipe_of(columns: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    """One stage of a small student; columns are added to those of the training rows."""
    named = {"id": "nr", "text": "titel", "label": "art"} | (columns or {})
    return {
        "name": "privileged",
        "seed": 3,
        "task": {"kind": "classification"},
        "data": {
            "train": {"path": "train.csv", "columns": named},
            "validation": {"path": "validation.csv"},
            "test": {"path": "test.csv"},
            "unlabeled": {"path": "more.csv"},
        }
        | data,
        "teacher": {
            "model": "teacher",
            "max_length": 40,
            "train": {"epochs": 4, "learning_rate": 5e-3, "head_learning_rate": 5e-3, "batch_size": 8},
        },
        "student": {"kind": "mobile", "width": 16, "blocks": 1, "init": "random", "vocabulary": {"train": 300}},
        "distill": {"stages": [{"name": "imitate", "epochs": 1}], "control": False},
        "quantize": {"max_quality_loss": 1.0, "calibration": 16},
        "bench": dict(QUICK_BENCH),
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("privileged")
    for split in ROWS:
        write_csv(folder / f"{split}.csv", rows_of(split))
    bert_folder(folder / "teacher", LABELS, num_hidden_layers=1, initializer_range=0.1)
    return folder


@pytest.fixture(scope="module")
def ran(project: Path) -> Iterator[tuple[dict[str, Any], Sequence[Contender]]]:
    """The summary of a finished run whose teacher reads the clicks, and who was timed in it."""
    timed: list[Contender] = []

    def watched(contenders: Sequence[Contender], *arguments: Any) -> Any:
        timed.extend(contenders)
        return run_bench(contenders, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "WARM_SECONDS", 0.1)
        patch.setattr(shipping, "run_bench", watched)
        recipe = write_recipe(project, recipe_of({"privileged": "klicks"}), "with.yaml")
        yield kdc_json("run", recipe, "--runs", project / "runs"), timed


Ran = tuple[dict[str, Any], Sequence[Contender]]


def test_a_teacher_that_reads_more_is_better(ran: Ran, project: Path) -> None:
    without = kdc_json("teach", write_recipe(project, recipe_of(), "without.yaml"), "--runs", project / "runs")
    best, plain = (found["models"]["teacher"]["quality"]["accuracy"] for found in (ran[0], without))
    assert best > 0.9
    assert plain < 0.6
    assert ran[0]["models"]["baseline"]["quality"]["accuracy"] < 0.6  # which reads what the student reads
    assert "privileged" not in without["models"]["teacher"]
    assert not any("privileged" in note for note in without["notes"])


def test_the_summary_and_the_report_say_so(ran: Ran) -> None:
    summary, _ = ran
    assert summary["models"]["teacher"]["privileged"] == {"text": ["klicks"]}
    first, second = (note for note in summary["notes"] if "privileged" in note)
    assert first.startswith(
        "the teacher reads privileged columns, which the student never sees: 'klicks' after the text"
    )
    assert "in 1 of 30 unlabeled rows" in second
    assert "the teacher reads privileged columns" in Path(summary["report"]).read_text(encoding="utf-8")


def test_the_bundle_answers_without_the_column_and_the_same_with_it(ran: Ran, project: Path, tmp_path: Path) -> None:
    rows = rows_of("test")
    without = [{key: row[key] for key in ("nr", "titel")} for row in rows]
    other = [row | {"klicks": HINTS["a"]} for row in without]
    answers = []
    for number, asked in enumerate((without, rows, other)):
        said = kdc("predict", ran[0]["bundle"], write_csv(tmp_path / f"{number}.csv", asked), "--id", "nr")
        assert said.exit_code == 0, said.stderr
        answers.append(said.stdout)
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0].splitlines()) == len(rows)


def test_nothing_that_ships_or_learns_has_seen_the_column(ran: Ran) -> None:
    summary, timed = ran
    bundle = open_bundle(Path(summary["bundle"]))
    assert bundle.manifest.columns == {"text": ("titel",)}
    titles = {row["titel"] for row in rows_of("test")}
    golden = [json.loads(line) for line in bundle.members["golden.jsonl"].decode().splitlines()]
    assert {line["request"]["text"] for line in golden} <= titles
    assert not [name for name, content in bundle.members.items() if SECRET.encode() in content]
    # a tokenizer trained on texts with the word in each of them would have it as one token
    assert SECRET not in (Path(summary["run"]) / "student" / "tokenizer.json").read_text(encoding="utf-8")
    asked = {contender.name: contender.requests for contender in timed}
    assert asked["student"] is asked["shipped"] is None
    assert asked["teacher"] is not None
    assert all(request.text.endswith(SECRET) for request in asked["teacher"])


def test_another_privileged_text_is_another_question(ran: Ran, project: Path, tmp_path: Path) -> None:
    """The teacher is asked anew about its rows; a changed one in the transfer set does not teach it again."""
    rows = rows_of("more")
    rows[1]["klicks"] = "size 42"
    write_csv(project / "other.csv", rows)
    recipe = write_recipe(project, recipe_of({"privileged": "klicks"}, unlabeled={"path": "other.csv"}), "other.yaml")
    found = kdc_json("distill", recipe, "--runs", project / "runs")
    entries = [
        json.loads((Path(summary["run"]) / "outputs" / "artifact.json").read_bytes())["metrics"]["entry"]
        for summary in (ran[0], found)
    ]
    assert entries[0] != entries[1]
    assert statuses(found)["teacher"] == "reused"  # taken over from the other run
    both = [dict(summary["models"]["teacher"]) for summary in (ran[0], found)]
    sure = [teacher.pop("certainty") for teacher in both]
    assert both[0] == both[1]
    assert sure[0]["training"] == sure[1]["training"]
    assert sure[0]["transfer"] != sure[1]["transfer"]


def test_the_plan_says_so(project: Path) -> None:
    recipe = write_recipe(project, recipe_of({"privileged": "klicks"}), "plan.yaml")
    plan = kdc_json("check", recipe, "--runs", project / "none")
    assert any("'klicks' after the text" in note for note in plan["notes"])
    plain = kdc_json("check", write_recipe(project, recipe_of(), "plain.yaml"), "--runs", project / "none")
    seconds = [{row["stage"]: row["seconds"] for row in found["stages"]} for found in (plan, plain)]
    assert seconds[0]["teacher"] > seconds[1]["teacher"]
    assert plan["data"]["tokens"] == plain["data"]["tokens"]


# ---------------------------------------------------------------- what cannot be


def _scores(recipe: dict[str, Any]) -> None:
    recipe["teacher"] = {"kind": "scores", "path": "s.csv"}


def _relations(recipe: dict[str, Any]) -> None:
    recipe["student"] = {"kind": "transformer", "layers": 1}
    recipe["distill"]["stages"][0]["losses"] = {"relations": 1.0}


def _own_columns(split: str, **columns: Any) -> Callable[[dict[str, Any]], None]:
    def change(recipe: dict[str, Any]) -> None:
        recipe["data"][split]["columns"] = {"text": "titel", "label": "art"} | columns

    return change


def _shop(recipe: dict[str, Any]) -> None:
    recipe["data"] = {"kind": "simulated-shop", "columns": {"privileged": "klicks"}}


WRONG: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], None], int, str]] = {
    "text": ({"privileged": ["klicks", "titel"]}, lambda r: None, 2, r"names 'titel', which is also columns\.text:"),
    "label": ({"privileged": "art"}, lambda r: None, 2, r"names 'art', which is also columns\.label:"),
    "id": ({"privileged": "nr"}, lambda r: None, 2, r"names 'nr', which is also columns\.id:"),
    "group": ({"privileged": "g", "group": "g"}, lambda r: None, 2, r"names 'g', which is also columns\.group:"),
    "weight": ({"privileged": "w", "weight": "w"}, lambda r: None, 2, r"names 'w', which is also columns\.weight:"),
    "position": (
        {"privileged": 1},
        lambda r: None,
        2,
        r"is 1, the same column of .*train\.csv as data\.train\.columns\.t",
    ),
    "field": ({"privileged": "text"}, lambda r: None, 2, r"names 'text', and that is what requests call a field"),
    "empty": ({"privileged": []}, lambda r: None, 2, r"data\.train\.columns\.privileged is an empty list"),
    "pair": (
        {"privileged_pair": "klicks"},
        lambda r: None,
        2,
        r"privileged_pair comes after a second text, but rows have",
    ),
    "scores": (
        {"privileged": "klicks"},
        _scores,
        2,
        r"privileged is for a teacher that reads texts, and files of scores",
    ),
    "relations": ({"privileged": "klicks"}, _relations, 2, r"distill\.stages\.0\.losses\.relations compares how both"),
    "test-lacks": (
        {"privileged": "klicks"},
        _own_columns("test"),
        2,
        r"data\.test\.columns\.privileged is not given, but",
    ),
    "test-only": (
        {},
        _own_columns("test", privileged="klicks"),
        2,
        r"but data\.train\.columns\.privileged is not: name",
    ),
    "measured": (
        {"privileged": "klicks"},
        _own_columns("test", text=["titel", "klicks"]),
        2,
        r"data\.test\.columns\.text names 'klicks', which is privileged in data\.train",
    ),
    "missing": (
        {"privileged": "klick"},
        lambda r: None,
        3,
        r"train\.csv has no column 'klick' .*'klicks'.*did you mean",
    ),
    "unlabeled": (
        {"privileged": "klicks"},
        _own_columns("unlabeled", privileged="verlauf", label=None),
        3,
        r"more\.csv has no column 'verlauf' \(data\.unlabeled\.columns\.privileged\); it has 'nr', 'titel', 'klicks'",
    ),
    "shop": ({}, _shop, 2, r"data\.columns: unknown key"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_privileged_is_told_in_one_sentence(project: Path, case: str) -> None:
    columns, change, code, message = WRONG[case]
    recipe = recipe_of(columns)
    change(recipe)
    path = write_recipe(project, recipe, "wrong.yaml")
    told = kdc("check", path, "--runs", project / "none")
    assert told.exit_code == code, told.stderr
    answer = json.loads(kdc("check", path, "--runs", project / "none", "--json").stdout)
    assert re.search(message, answer["error"]), answer["error"]


# ---------------------------------------------------------------- the check of a bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    deployable = tiny_deployable(tmp_path / "deployable", "pairs")
    options: dict[str, Any] = {
        "metrics": {},
        "provenance": {},
        "columns": {"text": ["anfrage"], "text_pair": ["a", "b"]},
    }
    return write_bundle(deployable, tmp_path / "tiny.kdc", name="tiny", golden=tiny_requests("pairs"), **options)


def test_a_bundle_that_reads_a_privileged_column_is_refused(bundle: Path) -> None:
    check_access(bundle, {"text": ("klicks", 3), "text_pair": ("verlauf",)})
    for column in ("anfrage", "b", "text_pair"):
        with pytest.raises(
            RecipeError, match=rf"'{column}' is a privileged column, .* reads a, anfrage, b, id, text, text"
        ):
            check_access(bundle, {"text": ("klicks", column)})


def test_a_bundle_whose_answers_change_with_it_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is made otherwise than the declared columns say."""
    read = access.Fields.request

    def greedy(self: Any, where: str, row: dict[str, Any]) -> Any:
        return read(self, where, row | {"anfrage": f"{row['anfrage']} {row.get('klicks', '')}"})

    monkeypatch.setattr(access.Fields, "request", greedy)
    with pytest.raises(RecipeError, match=r"answers change with the privileged columns 'klicks'"):
        check_access(bundle, {"text": ("klicks",)})

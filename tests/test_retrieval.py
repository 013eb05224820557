"""`kdc embed` and `kdc search`: items embedded once, queries answered as pairs are."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.runtime.predictor import Request
from compress.serve.batching import Batcher
from compress.serve.model import load_model
from compress.serve.ranking import rank
from compress.serve.settings import Settings
from tests.tiny_models import one_thread
from tests.tiny_project import kdc, kdc_json, make_project, recipe_of, statuses, titles, write_csv, write_recipe

one_thread_here = pytest.fixture(autouse=True, scope="module")(one_thread)
OFFERS = [title for title, _ in titles(30, 7)]
QUERIES = [title for title, _ in titles(4, 8)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A project's two-tower bundle, offers, queries, and the offers embedded."""
    folder = make_project(tmp_path_factory.mktemp("shop"))
    write_csv(folder / "catalogue.csv", [{"id": f"s{i}", "text": name} for i, name in enumerate(OFFERS)])
    recipe = write_recipe(folder, recipe_of("pairs", "two-tower", bundle={"items": "catalogue.csv"}))
    done = kdc_json("run", recipe, "--runs", folder / "runs")
    offers = write_csv(folder / "offers.csv", [{"sku": f"s{i}", "name": name} for i, name in enumerate(OFFERS)])
    queries = folder / "queries.jsonl"
    queries.write_text("".join(json.dumps({"id": f"q{i}", "text": q}) + "\n" for i, q in enumerate(QUERIES)), "utf-8")
    embedded = kdc_json("embed", done["bundle"], offers, "-o", folder / "items.npz", "--text", "name", "--id", "sku")
    return {"folder": folder, "bundle": done["bundle"], "queries": queries, "embedded": embedded, "done": done}


def scores_of_pairs(bundle: str, folder: Path) -> dict[str, dict[str, float]]:
    """What `kdc predict` says of every query with every offer."""
    rows = [
        {"id": f"q{i} s{j}", "text": query, "text_pair": offer}
        for i, query in enumerate(QUERIES)
        for j, offer in enumerate(OFFERS)
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found: dict[str, dict[str, float]] = {}
    for line in kdc("predict", bundle, path).stdout.splitlines():
        answer = json.loads(line)
        query, offer = answer["id"].split()
        found.setdefault(query, {})[offer] = answer["score"]
    return found


def test_embedded_items(shop: dict[str, Any]) -> None:
    """Vectors of length 1, with the items' ids, in a file that opens without pickle."""
    assert shop["embedded"]["items"] == len(OFFERS)
    with np.load(shop["folder"] / "items.npz", allow_pickle=False) as found:
        np.testing.assert_allclose(np.linalg.norm(found["vectors"], axis=1), 1, atol=1e-5)
        assert found["ids"].tolist() == [f"s{i}" for i in range(len(OFFERS))]


def test_search_answers_as_predict_does(shop: dict[str, Any]) -> None:
    """Each query's best items are those with the highest score as a pair, in that order, with that score."""
    result = kdc("search", shop["bundle"], shop["folder"] / "items.npz", shop["queries"], "--top", 5)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    pairs = scores_of_pairs(shop["bundle"], shop["folder"])
    assert [answer["id"] for answer in answers] == [f"q{i}" for i in range(len(QUERIES))]
    for answer in answers:
        expected = pairs[answer["id"]]
        found = [item["score"] for item in answer["items"]]
        assert found == pytest.approx(sorted(expected.values(), reverse=True)[:5], abs=1e-4)
        assert found == pytest.approx([expected[item["id"]] for item in answer["items"]], abs=1e-4)


def test_more_asked_for_than_there_are(shop: dict[str, Any]) -> None:
    """All items, best first."""
    result = kdc("search", shop["bundle"], shop["folder"] / "items.npz", shop["queries"], "--top", 99)
    assert all(len(json.loads(line)["items"]) == len(OFFERS) for line in result.stdout.splitlines())


def test_the_run_quantized_and_measured_it_like_any_other(shop: dict[str, Any]) -> None:
    """Shipped model with quality, parity of the float ONNX, a latency row."""
    done = shop["done"]
    assert done["models"]["shipped"]["quality"]["f1"] is not None
    assert {row["artifact"] for row in done["latency"]} >= {"teacher", "student", "shipped"}
    assert kdc("verify", shop["bundle"]).exit_code == 0


def test_items_of_the_recipe_are_found_without_a_file(shop: dict[str, Any]) -> None:
    """`kdc predict` says of queries what `kdc search` does with a file of items; verify asks the golden searches."""
    searched = kdc("search", shop["bundle"], shop["folder"] / "items.npz", shop["queries"], "--top", len(OFFERS))
    answered = kdc("predict", shop["bundle"], shop["queries"], "--top", len(OFFERS))
    for one, other in zip(answered.stdout.splitlines(), searched.stdout.splitlines(), strict=True):
        wanted = {item["id"]: item["score"] for item in json.loads(other)["items"]}
        found = json.loads(one)
        assert {item["id"]: item["score"] for item in found["items"]} == pytest.approx(wanted, abs=1e-3)
    items = kdc_json("verify", shop["bundle"])["golden"]["items"]
    assert (items["items"], items["searches"], items["order_differs"]) == (len(OFFERS), 8, 0)
    assert kdc_json("inspect", shop["bundle"])["items"]["count"] == len(OFFERS)


def test_other_items_are_another_bundle(shop: dict[str, Any]) -> None:
    """Of the same student; the same items are not packed again, unless a busy machine timed the models anew."""
    folder, runs = shop["folder"], shop["folder"] / "runs"
    catalogue = write_csv(folder / "few.csv", [{"id": "one", "text": OFFERS[0]}])
    recipe = write_recipe(folder, recipe_of("pairs", "two-tower", name="few", bundle={"items": "few.csv"}), "few.yaml")
    first = kdc_json("package", recipe, "--runs", runs)
    again = statuses(kdc_json("package", recipe, "--runs", runs))
    assert again["bundle"] == again["bench"]
    write_csv(catalogue, [{"id": "one", "text": OFFERS[0]}, {"id": "two", "text": OFFERS[1]}])
    changed = kdc_json("package", recipe, "--runs", runs)
    assert (statuses(changed)["student"], statuses(changed)["bundle"]) == ("reused", "done")
    assert changed["bundle"] == first["bundle"]
    assert kdc_json("inspect", changed["bundle"])["items"]["count"] == 2


def test_items_are_checked_before_any_work(shop: dict[str, Any]) -> None:
    """A missing file, a line that cannot be used, a task with one text."""
    (shop["folder"] / "bad.csv").write_text("id,text\na,rot\na,blau\n", "utf-8")
    for task, items, code, sentence in (
        ("pairs", "none.csv", 3, "bundle.items: there is no file"),
        ("pairs", "bad.csv", 3, "bad.csv:3 has the id 'a', which stands at"),
        ("classification", "bad.csv", 2, "task.kind: classification has one text: leave it out"),
    ):
        student = "two-tower" if task == "pairs" else "static"
        recipe = write_recipe(shop["folder"], recipe_of(task, student, bundle={"items": items}), "checked.yaml")
        result = kdc("check", recipe)
        assert (result.exit_code, sentence in result.stderr) == (code, True), result.stderr


def test_refusals(shop: dict[str, Any], tmp_path: Path) -> None:
    """Items of another model, a file that is none, ids that stand twice, and a model that has no embeddings."""
    other = tmp_path / "other.npz"
    with np.load(shop["folder"] / "items.npz") as found:
        np.savez(other, vectors=found["vectors"], ids=found["ids"], model=np.str_("0" * 64))
    result = kdc("search", shop["bundle"], other, shop["queries"])
    assert result.exit_code == 3
    assert "vectors of different models cannot be compared" in result.stderr
    result = kdc("search", shop["bundle"], tmp_path / "none.npz", shop["queries"])
    assert result.exit_code == 3
    assert "make one with `kdc embed" in result.stderr
    result = kdc("search", shop["bundle"], shop["queries"], shop["queries"])
    assert result.exit_code == 6
    with np.load(shop["folder"] / "items.npz") as found:
        parts = {name: found[name] for name in ("vectors", "ids", "model")}
    for wrong, sentence in (
        ({"vectors": parts["vectors"].astype(str)}, "float32 [N, E] for [N] are expected"),
        ({"ids": parts["ids"][:-1]}, "float32 [N, E] for [N] are expected"),
        ({"vectors": parts["vectors"] * np.float32("nan")}, "not finite"),
        ({"ids": parts["ids"].astype(object)}, "no readable file of items"),
    ):
        np.savez(other, **(parts | wrong))
        result = kdc("search", shop["bundle"], other, shop["queries"])
        assert result.exit_code == 6
        assert sentence in result.stderr
    twice = write_csv(tmp_path / "twice.csv", [{"id": "a", "text": "rot"}, {"id": "a", "text": "blau"}])
    result = kdc("embed", shop["bundle"], twice, "-o", tmp_path / "twice.npz")
    assert result.exit_code == 3
    assert "'a' among them" in result.stderr
    assert not (tmp_path / "twice.npz").exists()


def test_only_a_file_of_items_is_replaced(shop: dict[str, Any], tmp_path: Path) -> None:
    """A folder, or the texts themselves, named by mistake: refused, and still there."""
    texts = write_csv(tmp_path / "texts.csv", [{"id": "a", "text": "rot"}])
    before = texts.read_bytes()
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    (folder / "kept").write_text("mine")
    for out in (tmp_path, folder, texts):
        result = kdc("embed", shop["bundle"], texts, "-o", out)
        assert result.exit_code == 2
        assert "is not the name of a file that ends in .npz" in result.stderr
    assert texts.read_bytes() == before
    assert (folder / "kept").read_text() == "mine"


def test_a_student_that_reads_pairs_together_has_no_embeddings(shop: dict[str, Any], tmp_path: Path) -> None:
    """Said in one sentence."""
    recipe = write_recipe(shop["folder"], recipe_of("pairs", "static"), "static.yaml")
    bundle = kdc_json("run", recipe, "--runs", shop["folder"] / "runs")["bundle"]
    result = kdc("embed", bundle, shop["queries"], "-o", tmp_path / "x.npz")
    assert result.exit_code == 3
    assert "a student of kind two-tower has" in result.stderr


def test_classification_is_refused_before_any_work(shop: dict[str, Any]) -> None:
    """A recipe for one text."""
    recipe = write_recipe(shop["folder"], recipe_of("classification", "two-tower"), "one.yaml")
    result = kdc("check", recipe)
    assert result.exit_code == 2
    assert "two-tower compares two texts, and task.kind: classification has one" in result.stderr


def test_a_server_ranks_by_embeddings_in_the_order_of_search(shop: dict[str, Any]) -> None:
    bundle = Path(shop["bundle"])
    model = load_model(bundle, bundle, Settings())
    offers = [Request(offer, id=f"s{j}") for j, offer in enumerate(OFFERS)]

    async def ask() -> list[list[dict[str, Any]]]:
        batcher = Batcher(Settings(), on_batch=lambda model, texts, seconds: None, on_waiting=lambda texts: None)
        queue = asyncio.create_task(batcher.run())
        ranked = [await rank(batcher, model, Request(query), offers) for query in QUERIES]
        queue.cancel()
        batcher.close()
        return ranked

    found = kdc("search", shop["bundle"], shop["folder"] / "items.npz", shop["queries"], "--top", len(OFFERS))
    for ranking, line in zip(asyncio.run(ask()), found.stdout.splitlines(), strict=True):
        wanted = {item["id"]: item["score"] for item in json.loads(line)["items"]}
        assert [row["score"] for row in ranking] == pytest.approx(list(wanted.values()), abs=1e-6)
        assert {row["id"]: row["score"] for row in ranking} == pytest.approx(wanted, abs=1e-6)
        assert all(row["id"] == f"s{row['index']}" for row in ranking)

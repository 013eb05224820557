"""Quality beside latency: from the same model, through the same calls, with an interval; and requests of one length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, mean_squared_error

from compress.artifacts import read_spec
from compress.bench import measure
from compress.bench.memory import Memory
from compress.errors import DataError, RecipeError
from compress.paths import BenchOptions, bench_paths, session
from compress.paths.judging import check_labels, quality_of, read_labelled
from compress.paths.lengths import cut_to, lengthened
from compress.runtime.predictor import Predictor, Request
from tests.tiny import WORDS, tiny_deployable


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_SECONDS", 0.05)
    monkeypatch.setattr(session.memory, "taken", lambda *_, **__: Memory(1.0))
    monkeypatch.setattr(session.start_up, "startup_ms", lambda *_, **__: 7.0)


def write_rows(path: Path, labels: list[Any], *, pairs: bool = False, **more: list[Any]) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for number, label in enumerate(labels):
        texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(2)]
        row = {"id": str(number), "text": texts[0], "label": label} | ({"text_pair": texts[1]} if pairs else {})
        rows.append(row | {name: column[number] for name, column in more.items()})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def quality(model: Path, path: Path, *, batch: int = 4, by_loadgen: bool = False) -> dict[str, Any]:
    spec, predictor = read_spec(model), Predictor.from_folder(model)
    rows = read_labelled(path, pairs=spec.two_texts)
    check_labels(spec, rows, None)
    return quality_of(spec, predictor.answer, rows, metric=None, batch=batch, by_loadgen=by_loadgen)


def test_the_metric_of_classes_is_sklearns(tmp_path: Path) -> None:
    model = tiny_deployable(tmp_path / "model", "classification")
    path = write_rows(tmp_path / "d.jsonl", ["shoes", "power", "kitchen", "power"] * 15)
    found = quality(model, path)
    rows = read_labelled(path, pairs=False)
    answers = [answer.label for answer in Predictor.from_folder(model).answer(rows.requests)]
    truth = [label for _, label in rows.labels]
    assert found["metric"] == "macro_f1"
    assert found["quality"] == pytest.approx(f1_score(truth, answers, average="macro", zero_division=0))
    assert found["quality_low"] < found["quality"] < found["quality_high"]
    assert found["quality_rows"] == 60


def test_the_metric_of_pairs_uses_the_models_threshold(tmp_path: Path) -> None:
    model = tiny_deployable(tmp_path / "model", "pairs")
    path = write_rows(tmp_path / "d.jsonl", [0, 1, 1] * 20, pairs=True)
    rows = read_labelled(path, pairs=True)
    answers = [answer.label == "1" for answer in Predictor.from_folder(model).answer(rows.requests)]
    assert quality(model, path)["quality"] == pytest.approx(f1_score([label for _, label in rows.labels], answers))


def test_a_metric_of_the_task_that_was_asked_for(tmp_path: Path) -> None:
    model = tiny_deployable(tmp_path / "model", "classification")
    path = write_rows(tmp_path / "d.jsonl", ["shoes", "power", "kitchen", "shoes"] * 9)
    rows = read_labelled(path, pairs=False)
    truth = [label for _, label in rows.labels]
    answers = [answer.label for answer in Predictor.from_folder(model).answer(rows.requests)]
    (row, _) = timed(model, data=path, metric="weighted_f1")
    assert row["metric"] == "weighted_f1"
    assert row["quality"] == pytest.approx(f1_score(truth, answers, average="weighted"))
    assert row["quality_low"] <= row["quality"] <= row["quality_high"]
    pairs = tiny_deployable(tmp_path / "pairs", "pairs")
    matches = write_rows(tmp_path / "p.jsonl", [1, 1], pairs=True)
    for wrong in (
        (model, path, "ndcg@5", "--metric is 'ndcg@5', but the model's task is classification: it should be"),
        (model, path, "auc", "--metric is 'auc', which needs pairs with two labels"),
    ):
        with pytest.raises(RecipeError, match=wrong[3]):
            timed(wrong[0], data=wrong[1], metric=wrong[2])
    with pytest.raises(DataError, match="of which auc is not defined"):
        timed(pairs, data=matches, metric="auc")
    with pytest.raises(RecipeError, match="--metric says how --data"):
        timed(model, metric="accuracy")


def test_the_metric_of_numbers_is_in_their_unit(tmp_path: Path) -> None:
    model = tiny_deployable(tmp_path / "model", "regression")
    truth = np.random.default_rng(1).normal(50, 20, 40).tolist()
    path = write_rows(tmp_path / "d.jsonl", truth)
    scores = [answer.score for answer in Predictor.from_folder(model).answer(read_labelled(path, pairs=False).requests)]
    found = quality(model, path)
    assert (found["metric"], found["quality"]) == ("rmse", pytest.approx(mean_squared_error(truth, scores) ** 0.5))


def test_a_ranking_is_measured_in_its_groups(tmp_path: Path) -> None:
    model = tiny_deployable(tmp_path / "model", "ranking")
    path = write_rows(tmp_path / "d.jsonl", [2, 0, 1] * 10, pairs=True, group=[f"q{n // 3}" for n in range(30)])
    found = quality(model, path)
    assert found["metric"] == "ndcg@10"
    assert 0.3 < found["quality"] <= 1
    with pytest.raises(DataError, match="no group with a row above 0"):
        quality(model, write_rows(tmp_path / "e.jsonl", [0] * 6, pairs=True))


def test_loadgens_accuracy_mode_gives_the_same(tmp_path: Path) -> None:
    model = tiny_deployable(tmp_path / "model", "classification")
    path = write_rows(tmp_path / "d.jsonl", ["shoes", "power", "kitchen"] * 11)
    assert quality(model, path, by_loadgen=True) == quality(model, path)


@pytest.mark.parametrize(
    ("task", "labels", "reason"),
    [
        ("classification", ["cat", "dog"], "the data are of another task than the model"),
        ("regression", [1.0, "dear"], r"d.jsonl:2 has the label 'dear', but the model answers numbers"),
        ("pairs", [0, 1], "text_pair"),
        ("classification", [], "is empty"),
    ],
)
def test_data_that_do_not_fit(tmp_path: Path, task: str, labels: list[Any], reason: str) -> None:
    model = tiny_deployable(tmp_path / "model", task)
    with pytest.raises(DataError, match=reason):
        quality(model, write_rows(tmp_path / "d.jsonl", labels))


def test_data_without_labels(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,class\nred shoe,shoes\n")
    with pytest.raises(DataError, match=r"d.csv:2 has no 'label', there are: 'text', 'class'"):
        read_labelled(tmp_path / "d.csv", pairs=False)


def timed(model: Path, **more: Any) -> list[dict[str, Any]]:
    requests = more.pop("requests", None)
    return bench_paths(
        [model],
        targets=["onnxruntime-cpu"],
        scenarios=["single-stream", "offline"],
        threads=[1],
        requests=requests,
        more=BenchOptions(queries=20, **more),
    )


def test_rows_have_latency_quality_cost_and_start_up(tmp_path: Path) -> None:
    model = tiny_deployable(tmp_path / "model", "classification")
    path = write_rows(tmp_path / "d.jsonl", ["shoes", "power", "kitchen"] * 5)
    single, offline = timed(model, data=path, price=0.04)
    assert single["quality"] == offline["quality"] == quality(model, path)["quality"]
    assert single["cost_per_million"] == pytest.approx(0.04 / 3600 / single["qps"] * 1e6)
    assert single["startup_ms"] == 7.0
    assert single["metric"] == "macro_f1"
    with pytest.raises(RecipeError, match="--data and --requests"):
        timed(model, data=path, requests=path)


def test_requests_of_one_length(tmp_path: Path) -> None:
    for task in ("classification", "pairs"):
        model = tiny_deployable(tmp_path / task, task)
        cut = cut_to(model, task, 9, tmp_path / f"{task}-cut")
        requests = lengthened(cut, [Request("red", "blue shoe"), Request("red running shoe 65 w usb", "for")], 9)
        predictor = Predictor.from_folder(cut)
        for request in requests:
            assert predictor.encode([request])["input_ids"].shape == (1, 9)
    with pytest.raises(RecipeError, match="--length is 64, but shop reads 12 tokens at the most"):
        cut_to(model, "shop", 64, tmp_path / "long")


def test_rows_say_their_length_and_keep_the_artifacts_hash(tmp_path: Path) -> None:
    model = tiny_deployable(tmp_path / "model", "classification")
    cut, whole = timed(model, length=6)[0], timed(model)[0]
    assert (cut["length"], whole["length"]) == (6, None)
    assert cut["sha256"] == whole["sha256"]

"""The model card as the Hugging Face hub's own parser reads it, and as a person does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from compress.bundle.write import write_bundle
from compress.runtime.bundle import CARD, open_bundle
from tests.tiny import tiny_deployable, tiny_requests


def card_of(tmp_path: Path, task: str = "classification", **changes: Any) -> str:
    folder = tiny_deployable(tmp_path / "deployable", task)
    options: dict[str, Any] = {
        "name": "shop: titles",
        "golden": tiny_requests(task),
        "metrics": {"teacher": {"macro_f1": 0.95}, "shipped": {"macro_f1": 0.91, "accuracy": 0.925}},
        "provenance": {"parents": {"teacher": "a" * 64, "student": "b" * 64}, "recipe_digest": "c" * 64},
    }
    out = write_bundle(folder, tmp_path / "a.kdc", **(options | changes))
    return open_bundle(out).members[CARD].decode()


def test_the_hub_reads_quality_licence_and_data(tmp_path: Path) -> None:
    text = card_of(tmp_path, licenses={"Apache-2.0.txt": "…"}, datasets=["shop/titles", "shop/more"])
    card = ModelCard(text)  # raises where the metadata are not as they must be
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "kdc", "text-classification")
    assert data.datasets == ["shop/titles", "shop/more"]
    assert set(data.tags) >= {"knowledge-distillation", "onnx", "classification"}
    assert data.metrics == ["accuracy", "f1"]
    assert data.model_name == "shop: titles"
    found = {(each.metric_name, each.metric_type, each.metric_value) for each in data.eval_results}
    assert found == {("macro_f1", "f1", 0.91), ("accuracy", "accuracy", 0.925)}  # of the shipped model alone
    assert {(each.dataset_type, each.dataset_split) for each in data.eval_results} == {("shop/titles", "test")}
    assert card.text.lstrip().startswith("# shop: titles")
    assert ModelCard(str(card)).data.to_dict() == data.to_dict()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ((), {"license": "unknown"}),
        (("MIT",), {"license": "mit"}),
        (("Apache-2.0",), {"license": "apache-2.0"}),
        (("MIT.txt", "house.md"), {"license": "other", "license_name": "MIT, house", "license_link": "LICENSES"}),
        (("MIT.txt", "ISC.txt"), {"license": "other", "license_name": "ISC, MIT", "license_link": "LICENSES"}),
    ],
)
def test_a_licence_is_named_where_the_hub_knows_it(tmp_path: Path, files: tuple[str, ...], expected: Any) -> None:
    text = card_of(tmp_path, licenses=dict.fromkeys(files, "text"))
    data = ModelCard(text).data.to_dict()
    assert {key: data[key] for key in data if key.startswith("license")} == expected
    for name in files:
        assert f"`{name}`" in text.split("## Licences")[1]


@pytest.mark.parametrize("task", ["pairs", "ranking", "regression"])
def test_every_kind_of_task_has_a_card_that_the_hub_reads(tmp_path: Path, task: str) -> None:
    metrics = {"shipped": {"ndcg@10": 0.5, "rmse": float("inf")}}
    data = ModelCard(card_of(tmp_path, task, metrics=metrics if task == "ranking" else {})).data
    if task == "ranking":
        assert [(each.metric_type, each.metric_name) for each in data.eval_results] == [("ndcg", "ndcg@10")]
    else:
        assert data.eval_results is None


def test_a_person_reads_what_was_lost_how_fast_it_is_and_where_it_came_from(tmp_path: Path) -> None:
    metric = {"name": "macro_f1", "reference": 0.95, "model": 0.91, "difference": -0.04, "low": -0.05, "high": -0.03}
    parts = [{"by": "label", "value": f"v|{number}", "status": "flagged"} for number in range(14)]
    parts.append({"by": "length", "value": "1-3", "status": "ok"})
    whole = {"rows": 2000, "metric": metric}
    compared = {"model": "shipped", "reference": "teacher", "role": "teacher", "whole": whole, "slices": parts}
    row = {"artifact": "shipped", "scenario": "single-stream", "threads": 1, "batch": 1, "status": "ok"}
    timed = row | {"p50_ms": 0.4123, "p99_ms": 0.7, "qps": 2300.5, "peak_mb": None}
    bench = {
        "latency": [timed, row | {"artifact": "teacher", "status": "not run: no GPU"}],
        "device": {"processor": "AMD EPYC", "cores": 2, "warnings": ["other work kept 1.0 of 2 cores busy"]},
    }
    text = card_of(tmp_path, certificate={"confidence": 0.95, "comparisons": [compared]}, bench=bench)
    for said in (
        "shipped after teacher: macro_f1 0.9500 → 0.9100 (95% interval of the difference -0.0500 … -0.0300) on 2,000",
        "`label v|0`",
        "and 2 more",
        "| shipped | single-stream | 1 | 1 | 0.412 | 0.7 | 2,300 | – |",
        "on AMD EPYC, 2 cores",
        "other work kept 1.0 of 2 cores busy",
        f"| parents teacher | {'a' * 64} |",
        f"| recipe_digest | {'c' * 64} |",
    ):
        assert said in text
    assert "length 1-3" not in text
    assert "not run" not in text
    ModelCard(text)


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    text = card_of(tmp_path, metrics={}, provenance={})
    for said in ("No figures were recorded", "Not compared", "Not timed", "None were named", "Nothing was recorded"):
        assert said in text

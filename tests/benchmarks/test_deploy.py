"""Deploy paths: who takes turns and how, what a failing peer becomes, the targets, the arithmetic, the table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import deploy, deploy_peers, peer_environments
from benchmarks.deploy_contenders import Contender, take_turns
from benchmarks.deploy_student import tiled
from benchmarks.deploy_table import deploy_table, draw_deploy
from benchmarks.deploy_verdict import check, misses, ratio
from benchmarks.multiply_adds import multiply_adds
from compress.errors import EnvironmentProblem, GateError
from compress.export.onnx import export_module
from compress.runtime.predictor import Request
from compress.students.first_token import FirstTokenBert
from tests.tiny_models import one_thread as one_thread_for_a_while
from tests.tiny_project import kdc_json, recipe_of, write_recipe
from tests.tiny_wheel import wheel

CELLS = ("1 × 16", "32 × 16")
one_thread = pytest.fixture(autouse=True)(one_thread_for_a_while)


def row(artifact: str, role: str, ms: float | tuple[float, ...] = 1.0, **changes: Any) -> dict[str, Any]:
    times = ms if isinstance(ms, tuple) else (ms,)
    cell = {"p50_ms": float(np.median(times)), "low_ms": min(times), "high_ms": max(times), "rounds_ms": list(times)}
    return {
        "artifact": artifact,
        "role": role,
        "run": "r-1",
        "recipe": "shop",
        "student": "transformer, 4 layers, 320 wide",
        "metric": "accuracy",
        "rows": 1500,
        "float_quality": 0.9,
        "float_mb": 40.0,
        "agreement": 0.995,
        "quality": 0.899,
        "size_mb": 10.0,
        "cells": dict.fromkeys(CELLS, cell),
        "packages": {"onnxruntime": "1.32.0"},
        "roof": None,
        "candidates": None,
        "not_run": None,
        "machine": {"processor": "P", "cores": 2, "load_average": 0.1, "warnings": []},
        "date": "2026-11-23T10:00:00",
        "commit": "abc",
        "changed": False,
        "command": "python -m benchmarks.deploy runs/r-1",
    } | changes


def failed(artifact: str, role: str = "peer") -> dict[str, Any]:
    nothing = dict.fromkeys(("agreement", "quality", "size_mb"))
    return row(artifact, role, not_run="it broke", cells={}, **nothing)


def test_table_marks_the_fastest_and_compares_with_the_fastest_peer() -> None:
    roof = {"cell": "32 × 16", "multiply_adds": 2_000_000, "gop_s": 400.0, "by": "torch", "roof_ms": 0.01, "times": 2.5}
    tried = [{"method": "dynamic", "speedup": 2.0, "outcome": "shipped"}, {"method": "static", "outcome": "error"}]
    rows = [
        row("kdc", "kdc", (1.0, 1.2), roof=roof, candidates=tried),
        row("plain", "reference", 3.0, size_mb=40.0),
        row("slow", "peer", (4.0, 4.8)),
        row("quick", "peer", (2.0, 2.4)),
        failed("broken"),
    ]
    lines = deploy_table(rows)
    assert lines[0] == "| artifact | agreement | accuracy | MB | 1 × 16 | 32 × 16 | spread |"
    assert lines[2] == "| kdc | 99.5% | 89.9 | 10.0 | **1.1** | **1.1** | 18% |"
    assert lines[5] == "| quick | 99.5% | 89.9 | 10.0 | 2.2 | 2.2 | 18% |"
    assert lines[6] == "| broken | not run | – | – | – | – | – |"
    assert lines[7] == "| kdc ÷ fastest peer |  |  |  | 0.50 | 0.50 |  |"
    assert lines[9] == (
        "- kdc: onnxruntime 1.32.0; 32 × 16 takes 2.5 times as long as its 2 million multiply-adds at the int8 roof of "
        "one core (400 GOP/s, torch); chosen of dynamic 2.00× (shipped), static (error)."
    )
    assert lines[-1] == "- broken: onnxruntime 1.32.0; not run: it broke."


def test_page_shows_the_newest_session_of_each_student() -> None:
    before = row("kdc", "kdc", 7.0, date="2026-11-22T10:00:00", run="r-0")
    busy = {"processor": "P", "cores": 2, "load_average": 2.0, "warnings": ["other work kept 1.5 of 2 cores busy"]}
    other = row("kdc", "kdc", 5.0, student="transformer, 2 layers, 128 wide", machine=busy)
    page = draw_deploy([before, row("kdc", "kdc", 1.0), row("quick", "peer", 2.0), other])
    assert "| 7 |" not in page
    assert "**1**" in page
    assert "| 2 |" in page
    assert "**5**" in page
    for student in ("4 layers, 320 wide", "2 layers, 128 wide"):
        assert f"shop: transformer, {student}, float accuracy 90.0 on 1,500 test rows, 40.0 MB." in page
    assert "**Not safe to quote**: other work kept 1.5 of 2 cores busy." in page
    assert draw_deploy([]) == ""


def test_ratio_pairs_the_rounds() -> None:
    """A round in which the machine was slow for both says the same as the others."""
    ours, theirs = row("kdc", "kdc", (1.0, 10.0, 1.1)), row("quick", "peer", (2.0, 20.0, 2.0))
    assert ratio(ours, theirs, CELLS[0]) == 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ms": 2.1}, "1 × 16 takes 1.05 times as long as quick (at most 1.03)"),
        ({"agreement": 0.98}, "agreement with float is 98.00% (at least 99%)"),
        ({"quality": 0.89}, "accuracy lost is 0.0100 (at most 0.005)"),
        ({"size_mb": 10.4}, "size is 0.260 of float (at most 0.25)"),
    ],
)
def test_check_names_each_target_that_is_missed(changes: dict[str, Any], said: str) -> None:
    rows = [row("kdc", "kdc", **({"ms": 2.05} | changes)), row("quick", "peer", 2.0), row("slow", "peer", 9.0)]
    with pytest.raises(GateError, match=r"^kdc: ") as missed:
        check(rows)
    assert said in str(missed.value)
    assert misses(rows[0], rows)[0] == said


def test_check_holds_for_the_best_artifact() -> None:
    """Within 3% counts as equal; another artifact of kdc may be worse; a float reference is nobody's rival."""
    good = row("fast", "kdc", 2.05)
    check([row("small", "kdc", 9.0, agreement=0.5), good, row("quick", "peer", 2.0), row("plain", "reference", 0.1)])


@pytest.mark.parametrize(
    ("rows", "who"),
    [
        ([row("kdc", "kdc"), failed("broken")], "peer"),
        ([failed("kdc", "kdc"), row("quick", "peer")], "artifact of kdc"),
    ],
)
def test_nothing_to_compare_is_no_success(rows: list[dict[str, Any]], who: str) -> None:
    with pytest.raises(GateError, match=f"no {who} could be run, .*it broke"):
        check(rows)


def test_all_take_turns_and_who_begins_changes() -> None:
    now, order = [0.0], list[str]()

    def taking(name: str, seconds: float) -> Any:
        def call(_: Any) -> Any:
            order.append(name)
            now[0] += seconds

        return call

    calls = {"a": taking("a", 0.2), "b": taking("b", 0.3)}
    found = take_turns(calls, {"cell": [{}], "other": [{}]}, 2, lambda: now[0])
    expected = {"a": pytest.approx([200.0, 200.0]), "b": pytest.approx([300.0, 300.0])}
    assert {name: times["cell"] for name, times in found.items()} == expected
    assert order == [*"aaabbb" * 2, *"bbbaaa" * 2]


def test_rows_of_text_have_exactly_the_length() -> None:
    ids, types = tiled([2, 7, 8, 3], [0, 0, 0, 0], 8)
    assert ids.tolist() == [2, 7, 8, 7, 8, 7, 8, 3]
    assert types.tolist() == [0] * 8
    cut, both = tiled([2, 7, 3, 8, 9, 3], [0, 0, 0, 1, 1, 1], 4)
    assert cut.tolist() == [2, 7, 3, 3]
    assert both.tolist() == [0, 0, 0, 1]
    assert tiled([2, 3], [0, 0], 5)[0].tolist() == [2, 3, 3, 3, 3]


def test_what_fails_becomes_a_row() -> None:
    logits = np.float32([[1, 2], [3, 1], [0, 4]])
    subject: Any = SimpleNamespace(
        reference={"test": logits},
        requests=lambda split: [Request(text) for text in "abc"],
        quality=lambda found: float(found["test"][0, 0]),
    )
    cells: Any = {"1 × 16": [{"input_ids": np.zeros((1, 16), np.int64)}]}

    def breaks(_: Any = None) -> Any:
        raise ValueError("no such\noperator")

    good = deploy.Entry("good", "peer", {}, lambda: Contender(lambda _: {}, lambda _: logits, (Path(__file__),)))
    cannot_load = deploy.Entry("cannot load", "peer", {"p": "1"}, breaks)
    cannot_run = deploy.Entry("cannot run", "peer", {}, lambda: Contender(lambda _: {}, breaks, ()))
    no_number = deploy.Entry("nan", "peer", {}, lambda: Contender(lambda _: {}, lambda _: logits * np.nan, ()))
    entries = [good, cannot_load, cannot_run, no_number]
    for entry in entries:
        deploy.prepare(entry, subject, cells)
    rows = {entry.name: deploy._row(entry, {"1 × 16": [1.0, 2.0]} if entry is good else {}, None) for entry in entries}
    assert rows["good"]["not_run"] is None
    assert rows["good"]["agreement"] == 1.0
    assert rows["good"]["quality"] == 1.0
    assert rows["good"]["size_mb"] == Path(__file__).stat().st_size / 1e6
    assert rows["good"]["cells"]["1 × 16"] == {"p50_ms": 1.5, "low_ms": 1.0, "high_ms": 2.0, "rounds_ms": [1.0, 2.0]}
    assert rows["cannot load"]["not_run"] == rows["cannot run"]["not_run"] == "ValueError: no such operator"
    assert "no finite logits for 3 of 3" in rows["nan"]["not_run"]
    assert rows["cannot load"]["cells"] == {}
    assert rows["cannot load"]["packages"] == {"p": "1"}


def test_times_stand_without_a_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(threads: int) -> Any:
        raise EnvironmentProblem("measuring the machine's limits took more than 120 s")

    monkeypatch.setattr(deploy, "measure_limits", busy)
    monkeypatch.setattr(deploy, "multiply_adds", lambda model, feed: 10)
    subject: Any = SimpleNamespace(folder=Path("run"), feeds=lambda cell, count: [{}])
    assert deploy._roof_of(subject) is None


def test_a_program_that_fails_is_told_by_its_last_line() -> None:
    with pytest.raises(EnvironmentProblem, match=r"ended with 3: the reason$"):
        deploy_peers.run(
            [sys.executable, "-c", "import sys; print('noise\\nthe reason', file=sys.stderr); sys.exit(3)"]
        )


def test_a_peers_environment_has_its_own_before_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = wheel(tmp_path, "deploypeer")
    monkeypatch.setitem(peer_environments.PINS, "olive", (str(made),))
    python = peer_environments.environment("olive", tmp_path / "peers")
    asked = "import deploypeer, numpy, sys; print(deploypeer.ANSWER, deploypeer.__file__)"
    said = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"42 {tmp_path / 'peers' / 'olive'}")
    made.unlink()
    assert peer_environments.environment("olive", tmp_path / "peers") == python  # it stands: nothing is installed again

    monkeypatch.setitem(peer_environments.PINS, "olive", (str(made), "other"))
    with pytest.raises(EnvironmentProblem, match=r"olive could not be installed: .*deploypeer"):
        peer_environments.environment("olive", tmp_path / "peers")
    assert not (tmp_path / "peers" / "olive" / peer_environments.FINISHED).exists()


def test_multiply_adds_of_products(tmp_path: Path) -> None:
    """x [B, T] -> one-hot-like float -> MatMul with a weight, x·xᵀ, and a Gemm with both sides turned."""
    weights = [
        numpy_helper.from_array(np.ones((5, 7), np.float32), "w"),
        numpy_helper.from_array(np.ones((11, 3), np.float32), "v"),
        numpy_helper.from_array(np.array([2], np.int64), "axis"),
        numpy_helper.from_array(np.ones((1, 1, 5), np.float32), "ones"),
        numpy_helper.from_array(np.ones((3, 4), np.float32), "u"),
    ]
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["f", "axis"], ["wide"]),
        helper.make_node("Mul", ["wide", "ones"], ["states"]),  # [B, T, 5]
        helper.make_node("MatMul", ["states", "w"], ["projected"]),  # B · T · 5 · 7
        helper.make_node("Transpose", ["projected"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["projected", "turned"], ["scores"]),  # B · T · 7 · T
        helper.make_node("Gemm", ["u", "v"], ["y"], transA=1, transB=1),  # 4 · 3 · 11
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("scores", "y")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, ["batch", "sequence"])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "g.onnx")
    batch, tokens = 3, 6
    expected = batch * tokens * 5 * 7 + batch * tokens * 7 * tokens + 4 * 3 * 11
    assert multiply_adds(tmp_path / "g.onnx", {"x": np.ones((batch, tokens), np.int64)}) == expected


def test_multiply_adds_of_a_bert_whose_last_layer_answers_for_the_first_token(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    rows, tokens, layers, width, inner, labels = 2, 9, 3, 16, 32, 5
    config = BertConfig(
        vocab_size=50,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=inner,
        num_labels=labels,
        attn_implementation="eager",
    )
    module = FirstTokenBert(BertForSequenceClassification(config).eval())
    names = ("input_ids", "attention_mask", "token_type_ids")
    export_module(module, tmp_path / "bert.onnx", inputs=names, vocabulary=50)
    whole = tokens * (4 * width**2 + 2 * width * inner) + 2 * tokens**2 * width
    last = 2 * tokens * width**2 + 2 * width**2 + 2 * width * inner + 2 * tokens * width
    expected = rows * ((layers - 1) * whole + last + width**2 + width * labels)
    feed = {name: np.ones((rows, tokens), np.int64) for name in names}
    assert multiply_adds(tmp_path / "bert.onnx", feed) == expected


@pytest.mark.long
def test_a_session_from_run_to_row(
    tiny_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of("pairs", "transformer", name="deploy")
    recipe["data"]["root"] = str(tiny_project)
    recipe["teacher"]["model"] = str(tiny_project / "teacher-pairs")
    run = Path(kdc_json("quantize", write_recipe(tmp_path, recipe), "--runs", tmp_path / "made")["run"])
    results = tmp_path / "deploy.jsonl"
    monkeypatch.setattr(deploy, "DEPLOY_ROWS", results)
    monkeypatch.setattr(
        deploy, "measure_limits", lambda threads: [{"name": "int8 GEMM", "value": 100.0, "by": "torch"}]
    )

    def broken(source: Any, out: Path) -> Path:
        raise EnvironmentProblem("modelopt could not be installed: no network")

    monkeypatch.setitem(deploy_peers.PEERS, "modelopt", deploy_peers.Peer(("nvidia-modelopt",), broken, own="modelopt"))
    deploy.main([str(run), "--peer", "ort-qdq", "--peer", "modelopt", "--rounds", "1", "--rows", "12"])
    rows = {one["artifact"]: one for one in map(json.loads, results.read_text(encoding="utf-8").splitlines())}
    assert list(rows) == ["kdc", "kdc, float", "optimum, float", "ort-qdq", "modelopt"]
    assert rows["modelopt"]["not_run"] == "EnvironmentProblem: modelopt could not be installed: no network"
    assert rows["modelopt"]["packages"] == {"nvidia-modelopt": "0.47.0"}
    assert rows["kdc"]["method"] == "dynamic"
    assert rows["kdc"]["size_mb"] == (run / "quantized" / "model.onnx").stat().st_size / 1e6
    for name in ("kdc, float", "optimum, float"):  # the folder that peers start from is the student
        assert rows[name]["agreement"] == 1.0
        assert rows[name]["max_logit_difference"] < 1e-4
        assert rows[name]["quality"] == rows[name]["float_quality"]
    # The tiny model has 40 positions: no cell is longer.
    assert set(rows["ort-qdq"]["cells"]) == {f"{batch} × {length}" for batch in (1, 32) for length in (16, 32)}
    assert rows["kdc"]["roof"]["times"] > 0
    assert "| ort-qdq |" in capsys.readouterr().out

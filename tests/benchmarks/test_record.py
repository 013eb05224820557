"""The page of results: the newest row of each recipe and seed, and means over seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record
from benchmarks.bench_table import draw_bench
from benchmarks.record import draw, drawn, newest, row_of, settings_of

RECIPE: dict[str, Any] = {"name": "a", "seed": 3, "student": {"kind": "mobile"}}
RECIPE |= {section: {} for section in ("task", "data", "distill", "quantize")}


def row(recipe: str, seed: int, shipped: float, **changes: Any) -> dict[str, Any]:
    quality = {"teacher": {"f1": 0.8}, "control": {"f1": 0.7}, "shipped": {"f1": shipped}}
    return {
        "recipe": recipe,
        "seed": seed,
        "student": "mobile",
        "metric": "f1",
        "quality": quality,
        "retention": shipped / 0.8,
        "distillation_gain": shipped - 0.7,
        "speedup": 30.0,
        "p50_ms": {"teacher": 10.0, "shipped": 0.25},
        "p99_ms": {"shipped": 0.5},
        "teacher_bytes": 90_000_000,
        "bundle_bytes": 2_000_000,
        "device": "a processor, 2 cores",
        "date": "2026-01-01",
        "commit": "abc",
        "command": "kdc run",
        "digest": "0123",
    } | changes


def test_a_later_run_takes_the_place_of_an_earlier_one() -> None:
    first, other, again = row("a", 1, 0.5), row("b", 1, 0.6), row("a", 1, 0.76)
    assert newest([first, other, again]) == [again, other]


def test_the_tables() -> None:
    page = draw([row("a", 1, 0.76), row("a", 2, 0.72), row("b", 1, 0.6, bundle_bytes=None, distillation_gain=None)])
    lines = page.splitlines()
    assert "| a | 1 | mobile | f1 | – | 80.0 | 70.0 | – | 76.0 | 95.0% | +6.0 |" in lines
    spread = "74.0 (72.0 to 76.0) | 92.5% (90.0 to 95.0) | 4.0 (2.0 to 6.0)"
    assert f"| a | 1, 2 | mobile | f1 | – | 80.0 | 70.0 | – | {spread} |" in lines
    assert "| b | 1 | mobile | f1 | – | 80.0 | 70.0 | – | 60.0 | 75.0% | – |" in lines
    assert "| a | 1 | 10.00 | 0.25 | 0.50 | 30.0 | 90.0 | 2.0 | 45.0 |" in lines
    assert "| b | 1 | 10.00 | 0.25 | 0.50 | 30.0 | – | – | – |" in lines
    assert not any(line.startswith("| b | 1,") for line in lines)


def test_means_are_over_runs_of_equal_settings() -> None:
    """One recipe's name, but another learning rate from the third seed on; rows of before say nothing of theirs."""
    rows = [row("a", seed, 0.7 + seed / 100, settings="x" if seed < 3 else "y") for seed in (1, 2, 3)]
    lines = [line for line in draw([*rows, row("a", 4, 0.1)]).splitlines() if line.startswith("| a | 1, ")]
    assert len(lines) == 1
    assert lines[0].startswith("| a | 1, 2 | ")
    assert "71.5 (71.0 to 72.0)" in lines[0]


def test_settings_are_all_but_the_seed() -> None:
    """What the student is made by; a teacher that was taught elsewhere is the same teacher."""
    recipe = RECIPE | {"teacher": {"model": "a", "train": {"epochs": 3}}}
    assert settings_of(recipe, ["0"]) == settings_of(recipe | {"seed": 2, "teacher": {"model": "b"}}, ["0"])
    assert settings_of(recipe, ["0"]) != settings_of(recipe | {"student": {"kind": "static"}}, ["0"])
    assert settings_of(recipe, ["0"]) != settings_of(recipe, ["1"])
    alone = recipe | {"distill": recipe["distill"] | {"control": False}}
    assert settings_of(recipe, ["0"]) == settings_of(alone, ["0"])
    here, there, other = (recipe | {"data": {"root": root, "path": "a.csv"}} for root in ("here", "there", None))
    assert settings_of(here, ["0"]) == settings_of(there, ["0"]) != settings_of(other, ["0"])


def test_a_row_tells_steps_and_whether_files_were_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"date": "2026-01-01T00:00:00", "commit": "abc", "changed": True}
    monkeypatch.setattr(record, "origin", lambda: made)
    model = {"quality": {"f1": 0.8}, "size_bytes": 10}
    summary = {
        "name": "a",
        "recipe": RECIPE,
        "metric": "f1",
        "models": {"teacher": model, "control": model | {"steps": 1200}, "student": model | {"steps": 900}}
        | {"shipped": model | {"bundle_bytes": 5}},
        "latency": [],
        "device": {"processor": "a processor", "cores": 2},
        **dict.fromkeys(("retention", "distillation_gain", "speedup")),
        "notes": [],
    }
    run = tmp_path / "a-0123456789"
    (run / "teacher").mkdir(parents=True)
    files = {"model.safetensors": {"sha256": "0", "size": 1}, "history.json": {"sha256": "1", "size": 1}}
    (run / "teacher" / "artifact.json").write_text(json.dumps({"files": files}))
    (run / "summary.json").write_text(json.dumps(summary))
    found = row_of(run, "kdc run a.yaml")
    assert (found["steps"], found["changed"]) == ({"control": 1200, "student": 900}, True)
    assert found["settings"] == settings_of(RECIPE, ["0"])
    page = draw([found | {"retention": 1.0}])
    assert "Optimizer steps: control 1,200, student 900." in page
    assert "commit abc with uncommitted changes; run 0123456789." in page


def test_the_page_is_what_the_rows_say() -> None:
    """A figure that was edited by hand, or a row that was not drawn, fails here."""
    for name, content in drawn().items():
        there = (record.PAGE.parent / name).read_text(encoding="utf-8")
        assert there == content, f"docs/{name} is not what its rows say; run `python -m benchmarks.record`"


def test_an_edited_figure_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page is drawn from the rows alone: another row, another page."""
    rows = record.RUNS.read_text(encoding="utf-8").splitlines()
    last = json.loads(rows[-1])
    last["retention"] += 0.01
    (tmp_path / "runs.jsonl").write_text("\n".join([*rows[:-1], json.dumps(last)]) + "\n", encoding="utf-8")
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs.jsonl")
    assert drawn()[record.PAGE.name] != record.PAGE.read_text(encoding="utf-8")


MADE = {
    "machine": {"processor": "P", "cores": 2, "warnings": []},
    "date": "2026-01-02T00:00:00",
    "commit": "abc",
    "changed": False,
}


def test_the_bench_itself_has_a_section() -> None:
    overhead = {"p50_us": 4.116, "p99_us": 22.984, "below_2_percent_from_ms": 0.2058}
    harness = {"queries": 20000, "repeats": 5, "loop": overhead, "loadgen": "not run: not installed"} | MADE
    together = {"ratios": [1.0, 1.02], "within_limit": True}
    twice = {"ratios": [1.01, 1.04], "within_limit": False, "side_by_side": together, "command": "c"} | MADE
    tested = {"run": "r", "artifact": "q", "scenario": "offline", "command": "d", "loadgen": "6", "speed_up": 1.05}
    tested |= {"tolerance": 0.1, "passed": True} | MADE
    first = tested | {"test": "TEST01", "logged": 9, "otherwise": 2, "passed": False}
    fourth = tested | {"test": "TEST04"}
    missing = fourth | {"scenario": "single-stream", "passed": None, "not_run": "no one length"}
    page = draw_bench([{}, harness], [twice], [fourth | {"speed_up": 9.0}, first, fourth, missing])
    lines = page.splitlines()
    assert "| kdc's loop | 4.12 | 22.98 | 0.206 |" in lines
    assert "| apart, one `kdc bench` after the other | 1.010, 1.040 | no |" in lines
    assert "| side by side in one `kdc bench` | 1.000, 1.020 | yes |" in lines
    assert "| r/q | TEST01 | offline | 2 of 9 | +5.0% | ±10% | no |" in lines
    assert "| r/q | TEST04 | offline | – | +5.0% | +10% | yes |" in lines
    assert "| r/q | TEST04 | single-stream | – | – | – | not run: no one length |" in lines
    assert lines.count("- `d`, LoadGen 6; P, 2 cores, 2026-01-02, commit abc.") == 1
    assert draw_bench([], [], []) == ""

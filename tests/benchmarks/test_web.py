"""Sites in a browser: what the visits come to, the limits, the table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import web
from benchmarks.web import Seen, check, row_of
from benchmarks.web_table import draw_web
from compress.errors import GateError


def row(**changes: Any) -> dict[str, Any]:
    return {
        "site": "towers",
        "candidates": 16,
        "model_bytes": 5_500_000,
        "transferred_bytes": 7_449_000,
        "first_answer_s": 1.234,
        "first_answer_max_s": 1.5,
        "question_ms": 22.54,
        "rounds": 5,
        "browser": "HeadlessChrome/1",
        "date": "2026-01-01T00:00:00+00:00",
        "commit": "abc",
        "machine": {"processor": "a processor", "cores": 2},
    } | changes


def site(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"1234")
    described = {"digest": "0" * 64, "candidates": ["a", "b"], "spec": {"two_texts": True}, "examples": ["a"]}
    (folder / "site.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def test_a_row_has_medians_and_the_worst(tmp_path: Path) -> None:
    visits = [Seen(10, 1.0, 5.0, "B/1"), Seen(10, 4.0, 7.0, "B/1"), Seen(12, 2.0, 6.0, "B/1")]
    found = row_of(site(tmp_path / "shop"), visits)
    assert found == {
        "benchmark": "web",
        "site": "shop",
        "bundle": "0" * 16,
        "model_bytes": 4,
        "candidates": 2,
        "rounds": 3,
        "transferred_bytes": 12,
        "first_answer_s": 2.0,
        "first_answer_max_s": 4.0,
        "question_ms": 6.0,
        "browser": "B/1",
    }


def test_the_limits_are_held() -> None:
    check([row(), row(transferred_bytes=8_000_000, first_answer_s=3.0)])
    with pytest.raises(GateError, match=r"towers: 8\.01 MB are transferred, at most 8\.00"):
        check([row(), row(transferred_bytes=8_010_000)])
    with pytest.raises(GateError, match=r"towers: the first answer takes 3\.10 s, at most 3 s"):
        check([row(first_answer_s=3.1)])


def test_the_table_has_the_newest_row_of_each_site() -> None:
    page = draw_web([row(transferred_bytes=9_990_000), row(site="labels", candidates=None), row()])
    measured = "a processor, 2 cores, HeadlessChrome/1, 2026-01-01, commit abc, 5 rounds"
    assert f"| towers | 16 | 5.5 | 7.45 | 1.23 (1.50) | 22.5 | {measured} |" in page
    assert f"| labels | – | 5.5 | 7.45 | 1.23 (1.50) | 22.5 | {measured} |" in page
    assert "9.99" not in page
    assert draw_web([]) == ""


def test_rows_are_appended_before_the_limits_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = site(tmp_path / "shop")
    monkeypatch.setattr(web, "chromium", lambda: "/a/browser")
    monkeypatch.setattr(web, "visit", lambda program, site: Seen(9_000_000, 1.0, 5.0, "B/1"))
    for options, code, rows in (([], None, 1), (["--check"], 5, 2)):
        monkeypatch.setattr(sys, "argv", ["web", str(made), "--rounds", "2", "--out", str(tmp_path / "o"), *options])
        if code is None:
            web.main()
        else:
            with pytest.raises(SystemExit) as ended:
                web.main()
            assert ended.value.code == code
        lines = [json.loads(line) for line in (tmp_path / "o").read_text(encoding="utf-8").splitlines()]
        assert [line["rounds"] for line in lines] == [2] * rows
        assert {"commit", "date", "machine"} <= set(lines[-1])


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program, code in ((None, 4), ("/a/browser", 2)):
        monkeypatch.setattr(web, "chromium", lambda found=program: found)
        monkeypatch.setattr(sys, "argv", ["web", str(tmp_path), "--out", str(tmp_path / "o")])
        with pytest.raises(SystemExit) as ended:
            web.main()
        assert ended.value.code == code
    assert not (tmp_path / "o").exists()

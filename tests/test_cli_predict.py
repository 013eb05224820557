"""`kdc predict` from the command line: a stream in, JSON lines out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from compress.bundle.write import write_bundle
from compress.cli import app
from compress.runtime.answers import Answer
from compress.runtime.predictor import Request
from tests.tiny import tiny_deployable
from tests.tiny_project import kdc


class FakePredictor:
    """Answers with the text itself."""

    class spec:
        """What predict asks of a model's description."""

        two_texts = False

    def answer(self, requests: list[Request], batch_size: int) -> list[Answer]:
        return [Answer(request.id, request.text, 0.9, {request.text: 0.9, "other": 0.1}) for request in requests]


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any path opens as a bundle."""

    class Opened:
        manifest = SimpleNamespace(columns={}, variants=())

        def items(self, runtime: str) -> None:
            return None

        def predictor(self, threads: int, runtime: str, **given: Any) -> FakePredictor:
            return FakePredictor()

    monkeypatch.setattr("compress.runtime.bundle.open_bundle", lambda path: Opened())


@pytest.mark.usefixtures("bundle")
def test_predict_streams_json_lines(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("sku,title\n1,größe\n2,mug\n")
    result = kdc("predict", "x.kdc", tmp_path / "r.csv", "--text", "title", "--id", "sku", "--batch-size", "1")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(answer["id"], answer["label"]) for answer in answers] == [("1", "größe"), ("2", "mug")]


@pytest.mark.usefixtures("bundle")
def test_predict_answers_what_came_before_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"text": "a"}\n{"text": "b"}\nnonsense\n')
    result = kdc("predict", "x.kdc", tmp_path / "r.jsonl")
    assert result.exit_code == 3
    assert [json.loads(line)["label"] for line in result.stdout.splitlines()] == ["a", "b"]


@pytest.mark.usefixtures("bundle")
def test_predict_reads_stdin() -> None:
    result = CliRunner().invoke(app, ["predict", "x.kdc"], input=io.BytesIO(b'{"text": "a"}\n').read())
    assert json.loads(result.stdout)["label"] == "a"


def test_predict_of_nothing(tmp_path: Path) -> None:
    assert kdc("predict", tmp_path / "none.kdc").exit_code == 2


def test_a_column_that_the_model_would_not_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("text,other\nred shoe,blue shoe\n")
    bundle = write_bundle(tiny_deployable(tmp_path / "m"), tmp_path / "one.kdc", name="one", metrics={}, provenance={})
    refused = kdc("predict", bundle, tmp_path / "pairs.csv", "--text-pair", "other")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == f"kdc: --text-pair has no effect: {bundle} reads one text; leave it out\n"
    assert kdc("predict", bundle, tmp_path / "pairs.csv").exit_code == 0

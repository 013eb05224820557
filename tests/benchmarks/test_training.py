"""The training benchmark end to end with models of two layers, and the arithmetic of its clock and limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import training
from benchmarks.training_loops import (
    BATCH,
    MAX_LENGTH,
    RUNGS,
    TextBrewerLoop,
    TimeIsUp,
    Watch,
    loops,
    plain_loader,
    prepare,
    shop,
)
from compress.errors import GateError
from compress.recipe import HuggingFaceTeacher, TransformerStudent
from compress.teachers.huggingface import load_teacher
from tests.tiny import tiny_tokenizer_json

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers, 16 wide, with random weights."""
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tiny_tokenizer_json()))
    tokenizer.add_special_tokens({"pad_token": "[PAD]", "unk_token": "[UNK]"})
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=128,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


NO_INDEX = "textbrewer could not be installed: no index"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of TextBrewer's, as without a network."""
    monkeypatch.setattr(training, "enter", lambda *_: NO_INDEX)


@pytest.fixture
def tiny_students(monkeypatch: pytest.MonkeyPatch) -> None:
    students = {
        "fresh": TransformerStudent(kind="transformer", layers=1, hidden=8, heads=2, init="random"),
        "cut": TransformerStudent(kind="transformer", layers=1),
    }
    monkeypatch.setattr(training, "STUDENTS", students)


@pytest.mark.usefixtures("tiny_students")
def test_every_loop_is_measured_and_rows_are_appended(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "training.jsonl"
    arguments = ["--rows", "96", "--rounds", "1", "--seconds", "0.05", "--teacher", str(teacher)]
    training.main([*arguments, "--out", str(out), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert [row["student"] for row in printed["rows"]] == ["fresh", "cut"]
    for row in printed["rows"]:
        assert set(row["samples_per_s"]) == {*RUNGS, "kdc"}
        assert row["not_run"] == {"textbrewer": f"not run: {NO_INDEX}"}
        assert all(rate > 0 for rate in row["samples_per_s"].values())
        assert row["ratio"]["naive"] == pytest.approx(
            row["samples_per_s"]["kdc"] / row["samples_per_s"]["naive"], rel=0.01
        )
        assert row["tokens"]["mean"] <= row["tokens"]["kdc"] <= row["tokens"]["dynamic"] < row["tokens"]["naive"]
        assert row["machine"]["cores"] >= 1
        assert row["date"]
    training.main([*arguments, "--out", str(out)])
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*RUNGS, "textbrewer", "kdc ÷", "cut"))
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert lines[:2] == printed["rows"]
    assert len(lines) == 4


@pytest.mark.usefixtures("tiny_students")
def test_a_peer_that_fails_is_told_and_the_others_go_on(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the environment, where it is there but breaks in a round."""
    asked: list[object] = []
    monkeypatch.setattr(training, "enter", lambda *given: asked.extend(given))

    def breaks(*_: object) -> None:
        raise TypeError("unexpected keyword")

    monkeypatch.setattr(TextBrewerLoop, "__call__", breaks)
    arguments = ["--rows", "96", "--rounds", "2", "--seconds", "0.01", "--teacher", str(teacher)]
    arguments += ["--out", str(tmp_path / "rows.jsonl")]
    training.main(arguments)
    assert asked == ["textbrewer", "benchmarks.training", arguments]
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["student"] for row in rows] == ["fresh", "cut"]
    for row in rows:
        assert row["not_run"] == {"textbrewer": "not run: TypeError: unexpected keyword"}
        assert set(row["samples_per_s"]) == {*RUNGS, "kdc"}
        assert {len(rates) for rates in row["rounds"].values()} == {2}
    assert "not run: TypeError: unexpected keyword" in capsys.readouterr().out


def test_each_rung_adds_one_thing(teacher: Path, tmp_path: Path) -> None:
    """Padding, rows of like length, and answers of the teacher that are those it gives when it is asked."""
    splits = shop(96)
    loaded = load_teacher(
        HuggingFaceTeacher(model=str(teacher), max_length=MAX_LENGTH),
        tmp_path,
        task="classification",
        labels=splits.labels,
        positive=None,
        trained=False,
    )
    lesson = prepare(TransformerStudent(kind="transformer", layers=1), loaded, splits.train, tmp_path)
    found = {name: list(plain_loader(lesson, RUNGS[name])) for name in ("naive", "dynamic", "bucketed")}
    padded = {name: sum(batch["input_ids"].numel() for batch in batches) for name, batches in found.items()}
    assert padded["naive"] == 96 * MAX_LENGTH
    assert lesson.encoded.lengths.sum() <= padded["bucketed"] < padded["dynamic"] < padded["naive"]
    assert all(
        sorted(torch.cat([batch["row"] for batch in batches]).tolist()) == [*range(96)] for batches in found.values()
    )
    loops_of = loops(lesson)
    asked, kept = (loops_of[name]._teacher_says(found["bucketed"][0]) for name in ("bucketed", "cached"))
    for now, before in zip(asked, kept, strict=True):
        torch.testing.assert_close(now, before, rtol=0.02, atol=0.02)
    assert [name for name in loops_of if name != "textbrewer"] == [*RUNGS, "kdc"]


def test_too_few_rows_are_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        training.main(["--rows", str(BATCH), "--out", str(tmp_path / "rows.jsonl")])
    assert ended.value.code == 2
    assert "--rows" in capsys.readouterr().err
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_ratio_below_its_limit_fails_the_check() -> None:
    """A loop that could not be run has none."""
    row = {"student": "fresh", "ratio": {"naive": 9.0, "dynamic": 3.3, "bucketed": 2.3, "cached": 1.0}}
    training.check([row])
    for name, ratio in {"naive": 8.9, "textbrewer": 8.9, "dynamic": 3.2, "bucketed": 2.2}.items():
        with pytest.raises(GateError, match=f"student 'cut': .* {name} loop"):
            training.check([row, {"student": "cut", "ratio": row["ratio"] | {name: ratio}}])
    assert GateError.exit_code == 5


def test_the_clock_leaves_the_first_interval_out(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 100.0, 101.0, 102.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    watch = Watch(2.0, CPU)
    for _ in range(3):
        watch.step(32)
    with pytest.raises(TimeIsUp):
        watch.step(8)
    assert watch.rate() == pytest.approx(32.0)


def test_texts_are_two_titles_each() -> None:
    splits = shop(64)
    assert len(splits.train) == 64
    assert len(set(splits.train.texts)) == 64

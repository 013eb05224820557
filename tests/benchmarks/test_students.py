"""A run's student trained by others: equal start, rows, batches and steps, and the rows that are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import students
from benchmarks.peer_study import ROWS, Batches, Keeper, KeptTeacher, Study, open_study
from benchmarks.peer_trainers import PEERS, Peer
from compress.data.encode import encode_examples
from compress.distill import stages
from compress.distill.stages import Schooling, distil
from compress.distill.trainer import Job
from compress.errors import DataError, IntegrityError
from compress.predict import model_inputs
from compress.steps.learning import build
from compress.students.factored import take_factored
from compress.text_model import TextModel
from tests.tiny_models import one_thread as one_thread_for_a_while

one_thread = pytest.fixture(autouse=True)(one_thread_for_a_while)
CPU = torch.device("cpu")


def job_of_kdc(study: Study, monkeypatch: pytest.MonkeyPatch, work: Path) -> Job:
    """What kdc's trainer is given for the student of a run."""
    jobs: list[Job] = []
    monkeypatch.setattr(stages, "train", jobs.append)
    run = study.run
    schooling = Schooling(run.judge, run.recipe.distill, run.device, run.bf16, run.recipe.seed)
    distil(build(run), study.outputs, schooling, work)
    return jobs[0]


def test_start_batches_and_steps_are_those_of_kdc(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = job_of_kdc(study, monkeypatch, tmp_path)
    ours = study.built.module.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in job.module.state_dict().items())
    batches = study.batches()
    theirs = job.sampler.batches(0, 0)
    assert all(np.array_equal(one, other) for one, other in zip(batches, theirs, strict=False))
    artifact = json.loads((study.run.folder / "student" / "artifact.json").read_bytes())
    assert len(batches) == len(Batches(study)) == study.steps == artifact["metrics"]["steps"]
    assert study.epoch_steps == len(theirs) == 20  # 160 rows, 8 a step
    batch = next(iter(study.loader()))
    assert batch[ROWS].tolist() == batches[0].tolist()
    inputs = model_inputs(job.encoded, batches[0], job.module.input_names, CPU)
    assert all(torch.equal(batch[name], given) for name, given in zip(job.module.input_names, inputs, strict=True))


def test_another_seed_changes_start_and_order_not_the_rows(
    finished: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """Of a student with weights that are drawn; one that is cut from its teacher starts the same."""
    studies = []
    for seed in (3, 4):
        work = tmp_path / str(seed)
        work.mkdir()
        studies.append(open_study(finished("pairs", "mobile"), work, seed=seed, steps=50))
    study, other = studies
    assert list(other.rows.ids) == list(study.rows.ids)
    start = study.built.module.state_dict()
    assert not all(torch.equal(start[name], value) for name, value in other.built.module.state_dict().items())
    assert not np.array_equal(other.batches()[0], study.batches()[0])
    assert len(other.batches()) == 50


def test_the_teacher_answers_with_what_it_said(study: Study) -> None:
    """Logits and token means of a step's rows, as the teacher would compute them."""
    taught = study.run.taught()
    assert taught is not None
    rows = study.batches()[0]
    logits, hidden = KeptTeacher(study, hidden=True)(torch.from_numpy(rows))
    asked = encode_examples(taught.encoder, study.rows.take(rows))
    now, states = taught.module(
        *model_inputs(asked, range(len(rows)), taught.module.input_names, CPU), hidden=study.built.layer_map
    )
    torch.testing.assert_close(logits, now, rtol=0.02, atol=0.05)
    torch.testing.assert_close(hidden, states, rtol=0.02, atol=0.05)


def test_answers_to_other_rows_are_refused(finished: Callable[[str, str], Path], tmp_path: Path) -> None:
    run = finished("pairs", "transformer")
    with pytest.raises(IntegrityError, match=r"answered 160 rows, but the data now have 100"):
        open_study(run, tmp_path, overrides=["data.train.limit=100"])
    copied = tmp_path / "copied"
    (copied / "outputs").mkdir(parents=True)
    for name in ("recipe.yaml", "teacher", "student"):
        (copied / name).symlink_to(run / name)
    np.save(copied / "outputs" / "logits.npy", np.roll(np.load(run / "outputs" / "logits.npy"), 1, 0))
    with pytest.raises(IntegrityError, match="run the recipe again"):
        open_study(copied, tmp_path)


def test_an_unfinished_run_is_refused(tmp_path: Path, finished: Callable[[str, str], Path]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").symlink_to(finished("pairs", "transformer") / "recipe.yaml")
    with pytest.raises(DataError, match="there is no teacher/artifact"):
        open_study(run, tmp_path)


def test_the_best_weights_on_validation_are_kept(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged after each epoch and at the end alone."""
    figures = iter([0.5, 0.7, 0.6])
    monkeypatch.setattr(study.run.judge, "validate", lambda *_: next(figures))
    short = Study(study.run, study.built, study.outputs, 2 * study.epoch_steps + 3, study.kept)
    module = study.built.module
    keeper = Keeper(short, "peer", module)
    weight = next(module.parameters())
    for step in range(1, short.steps + 1):
        with torch.no_grad():
            weight.fill_(step)
        keeper.after(step)
    assert next(figures, None) is None
    assert float(next(keeper.finish().parameters()).detach().mean()) == 2 * study.epoch_steps


def test_a_row_is_appended_with_what_kdc_reached(
    kept_rows: Path, finished: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished("pairs", "transformer")
    students.main([str(run), "--peer", "textbrewer"])
    printed = json.loads(capsys.readouterr().out)
    assert [json.loads(line) for line in kept_rows.read_text(encoding="utf-8").splitlines()] == [printed]
    for key, name in {"teacher": "teacher", "kdc": "student", "control": "control"}.items():
        metrics = json.loads((run / name / "artifact.json").read_bytes())["metrics"]
        assert printed[key] == metrics["quality"]["f1"]
        if name == "student":
            assert printed["steps"] == metrics["steps"]
    assert (printed["recipe"], printed["data"], printed["student"]) == (
        "peers-pairs-transformer",
        "peers-pairs",
        "transformer",
    )
    assert (printed["metric"], printed["seed"], printed["threads"], printed["not_run"]) == ("f1", 3, 1, None)
    assert 0 <= printed["test"] == printed["quality"]["f1"] <= 1
    assert printed["minutes"] >= 0
    assert printed["command"] == f"python -m benchmarks.students runs/{run.name} --peer textbrewer --threads 1"


def test_trying_out_appends_nothing(
    kept_rows: Path, finished: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    students.main([str(finished("pairs", "transformer")), "--peer", "textbrewer", "--steps", "2"])
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    assert not kept_rows.exists()


@pytest.mark.parametrize(
    ("task", "student", "reason"),
    [("classification", "mobile", "this task has one text"), ("pairs", "mobile", "student.kind: mobile is none")],
)
def test_what_a_peer_cannot_express_is_told(  # parameters and fixtures
    task: str,
    student: str,
    reason: str,
    kept_rows: Path,
    finished: Callable[[str, str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The row stands beside the others, with no figures."""
    students.main([str(finished(task, student)), "--peer", "sentence-transformers"])
    output = capsys.readouterr()
    row = json.loads(output.out)
    assert reason in row["not_run"]
    assert reason in output.err
    assert (row["test"], row["validation"], row["minutes"]) == (None, None, None)
    assert json.loads(kept_rows.read_text(encoding="utf-8")) == row


def test_one_that_fails_is_a_row(
    kept_rows: Path, finished: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(study: Study, work: Path) -> TextModel:
        raise TypeError("unexpected keyword\nand more")

    monkeypatch.setitem(PEERS, "textbrewer", Peer("textbrewer", lambda study: None, breaks))
    students.main([str(finished("pairs", "transformer")), "--peer", "textbrewer"])
    row = json.loads(kept_rows.read_text(encoding="utf-8"))
    assert (row["not_run"], row["test"]) == ("TypeError: unexpected keyword", None)


def test_what_model2vec_is_for(study: Study, finished: Callable[[str, str], Path], tmp_path: Path) -> None:
    assert "student.kind is transformer" in str(PEERS["model2vec"].obstacle(study))
    (tmp_path / "static").mkdir()
    pairs = open_study(finished("pairs", "static"), tmp_path / "static")
    assert "this task has two" in str(PEERS["model2vec"].obstacle(pairs))


def test_factored_embeddings_are_no_cross_encoder(study: Study) -> None:
    """Read again by transformers they would be drawn at random."""
    model: Any = study.built.module.model
    assert PEERS["sentence-transformers"].obstacle(study) is None
    take_factored(model, 8)
    assert "student.embedding_size" in str(PEERS["sentence-transformers"].obstacle(study))


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "--peer"),
        (["RUN", "--peer", "torchdistill", "--steps", "0"], 2, "at least 1 step"),
    ],
)
def test_one_sentence_for_what_is_missing(  # parameters and fixtures
    arguments: list[str],
    code: int,
    sentence: str,
    finished: Callable[[str, str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = str(finished("pairs", "transformer"))
    with pytest.raises(SystemExit) as ended:
        students.main([run if given == "RUN" else given for given in arguments])
    assert ended.value.code == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("students: ")
    assert sentence in error

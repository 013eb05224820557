"""A run's student trained by others: equal start, rows, batches and steps; the rows that are kept, and their table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import peer_apart, peer_trainers, students
from benchmarks.peer_environments import PLACE, environment
from benchmarks.peer_study import ROWS, Batches, Keeper, KeptTeacher, Study, open_study
from benchmarks.peer_trainers import PEERS, Peer
from compress.data.encode import encode_examples
from compress.distill import stages
from compress.distill.stages import Schooling, distil
from compress.distill.trainer import Job
from compress.errors import DataError, EnvironmentProblem, IntegrityError
from compress.extras import available
from compress.predict import model_inputs, predict_logits
from compress.steps.learning import build
from compress.students.factored import take_factored
from compress.text_model import TextModel
from tests.tiny_models import one_thread as one_thread_for_a_while
from tests.tiny_project import kdc_json, recipe_of, write_recipe

one_thread = pytest.fixture(autouse=True)(one_thread_for_a_while)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Makes the run of a task and a kind of student, as far as student and control; each once."""
    runs = tmp_path_factory.mktemp("runs")
    made: dict[tuple[str, str], Path] = {}

    def run_of(task: str, student: str) -> Path:
        if (task, student) not in made:
            recipe = recipe_of(task, student, name=f"peers-{task}-{student}")
            recipe["data"]["root"] = str(tiny_project)
            recipe["teacher"]["model"] = str(tiny_project / f"teacher-{task}")
            written = write_recipe(runs, recipe, f"{task}-{student}.yaml")
            made[task, student] = Path(kdc_json("distill", written, "--runs", runs / "made")["run"])
        return made[task, student]

    return run_of


@pytest.fixture
def study(finished: Callable[[str, str], Path], tmp_path: Path) -> Study:
    return open_study(finished("pairs", "transformer"), tmp_path)


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
    study: Study, finished: Callable[[str, str], Path], tmp_path: Path
) -> None:
    other = open_study(finished("pairs", "transformer"), tmp_path, seed=study.seed + 1, steps=50)
    assert list(other.rows.ids) == list(study.rows.ids)
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


def stub(study: Study, work: Path) -> TextModel:
    """A peer of five lines."""
    keeper = Keeper(study, "stub", study.built.module)
    optimizer = torch.optim.SGD(study.built.module.parameters(), lr=study.rate)
    student, teacher = peer_trainers.AsPeersCall(study), KeptTeacher(study)
    for step, batch in enumerate(study.loader()):
        print("noise on stdout")
        torch.nn.functional.mse_loss(student(**batch), teacher(**batch)).backward()
        optimizer.step()
        optimizer.zero_grad()
        keeper.after(step + 1)
    return keeper.finish()


@pytest.fixture
def kept_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rows go in a test; a stub stands in textbrewer's place, and no environment is entered."""
    monkeypatch.setattr(students, "enter", lambda *_: None)
    monkeypatch.setattr(students, "PEER_ROWS", tmp_path / "results" / "students.jsonl")
    monkeypatch.setitem(PEERS, "textbrewer", Peer("textbrewer", lambda study: None, stub))
    return tmp_path / "results" / "students.jsonl"


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


KNOWS_ALL = """
import json, sys
import numpy as np
teacher, rows, out = sys.argv[1:]
given = json.load(open(rows))
answers = {"validation": np.eye(given["classes"], dtype=np.float32)[[int(n) for n in given["validation"]["labels"]]]}
answers["test"] = np.zeros((len(given["test"]["texts"]), given["classes"]), np.float32)
answers["test"][:, 0] = 1
np.savez(out, **answers)
"""
"""A peer that copies the labels of validation, and calls every test row the first label."""


def test_a_peer_in_an_environment_of_its_own_is_judged_by_its_answers(
    kept_rows: Path,
    finished: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "knows_all.py").write_text(KNOWS_ALL)
    monkeypatch.setattr(peer_apart, "SCRIPT", tmp_path / "knows_all.py")
    monkeypatch.setattr(peer_apart, "environment", lambda name: Path(sys.executable))
    run = finished("classification", "static")
    students.main([str(run), "--peer", "model2vec"])
    row = json.loads(capsys.readouterr().out)
    test = open_study(run, tmp_path).run.splits.test
    share = float(np.mean(np.asarray(test.labels) == 0))
    assert row["validation"] == 1
    assert row["quality"]["accuracy"] == pytest.approx(share)
    assert (row["version"], row["steps"], row["not_run"]) == ("0.10.0", None, None)
    assert json.loads(kept_rows.read_text(encoding="utf-8")) == row


def test_it_goes_on_in_the_peers_environment(
    kept_rows: Path, finished: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same arguments; where that cannot be made the row says so, with the version that was asked for."""
    asked: list[tuple[Any, ...]] = []

    def fails(*given: Any) -> str:
        asked.append(given)
        return "torchdistill could not be installed: no index"

    monkeypatch.setattr(students, "enter", fails)
    arguments = [str(finished("pairs", "transformer")), "--peer", "torchdistill"]
    students.main(arguments)
    assert asked == [("torchdistill", "benchmarks.students", arguments)]
    row = json.loads(kept_rows.read_text(encoding="utf-8"))
    assert row["not_run"] == "torchdistill could not be installed: no index"
    assert (row["test"], row["version"]) == (None, "1.1.5")


def test_one_that_fails_is_a_row(
    kept_rows: Path, finished: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(study: Study, work: Path) -> TextModel:
        raise TypeError("unexpected keyword\nand more")

    monkeypatch.setitem(PEERS, "textbrewer", Peer("textbrewer", lambda study: None, breaks))
    students.main([str(finished("pairs", "transformer")), "--peer", "textbrewer"])
    row = json.loads(kept_rows.read_text(encoding="utf-8"))
    assert (row["not_run"], row["test"]) == ("TypeError: unexpected keyword", None)


def test_one_that_cannot_be_installed_is_a_row(
    kept_rows: Path,
    finished: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(name: str) -> Path:
        raise EnvironmentProblem(f"{name} could not be installed: no index")

    monkeypatch.setattr(peer_apart, "environment", fails)
    students.main([str(finished("classification", "static")), "--peer", "model2vec"])
    row = json.loads(capsys.readouterr().out)
    assert (row["not_run"], row["test"]) == ("model2vec could not be installed: no index", None)
    assert json.loads(kept_rows.read_text(encoding="utf-8")) == row


@pytest.mark.long
def test_model2vec_itself_learns_the_labels(finished: Callable[[str, str], Path], tmp_path: Path) -> None:
    if not (PLACE / "model2vec" / "pins.json").is_file():
        pytest.skip("not run: model2vec has no environment here; `python -m benchmarks.students` makes it")
    assert environment("model2vec").is_file()
    study = open_study(finished("classification", "static"), tmp_path)
    said = peer_apart.model2vec(study, tmp_path)
    verdict = study.run.judge.verdict(said.validation, said.test)
    assert said.test.shape == (len(study.run.splits.test), len(study.run.splits.labels))
    assert verdict.test["accuracy"] > 0.6


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


def test_a_torchvision_of_another_build_is_told(
    kept_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before transformers, which imports it where it is there, fails with a message about something else."""
    (tmp_path / "torchvision").mkdir()
    broken = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision" / "__init__.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(SystemExit) as ended:
        students.main([str(tmp_path), "--peer", "textbrewer"])
    assert ended.value.code == 4
    error = capsys.readouterr().err
    assert f"beside torch {torch.__version__} (operator torchvision::nms does not exist)" in error
    assert not kept_rows.exists()


def needs(peer: str) -> None:
    """Skips where the tests do not run in the peer's environment, which sees the project's packages and so pytest."""
    if not available(PEERS[peer].package):
        pytest.skip(f"not run: run it by benchmarks/.peers/{peer}/bin/python -m pytest")


@pytest.mark.parametrize(
    ("peer", "student"),
    [
        ("textbrewer", "transformer"),
        ("textbrewer", "mobile"),
        ("torchdistill", "transformer"),
        ("torchdistill", "mobile"),
        ("sentence-transformers", "transformer"),
    ],
)
def test_the_peers_themselves_take_a_few_steps(
    peer: str, student: str, finished: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """On copies of the student where a peer changes its head."""
    needs(peer)
    study = open_study(finished("pairs", student), tmp_path, steps=3)
    before = {name: value.clone() for name, value in study.built.module.state_dict().items()}
    trained = PEERS[peer].train(study, tmp_path)
    moved = [
        name
        for name, value in trained.state_dict().items()
        if name in before and value.shape == before[name].shape and not torch.equal(value, before[name])
    ]
    assert any("embedding" in name for name in moved)
    verdict = study.run.judge.full(trained, stages.encoder_of(study.built), CPU)
    assert 0 <= verdict.test["f1"] <= 1


def test_a_cross_encoder_starts_as_the_same_function(study: Study, tmp_path: Path) -> None:
    needs("sentence-transformers")
    encoder = peer_trainers.cross_encoder(study, tmp_path / "start")
    rows = list(zip(study.rows.texts[:20], study.rows.pairs or [], strict=False))
    scores = encoder.predict(rows, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    logits = predict_logits(study.built.module, encode_examples(stages.encoder_of(study.built), study.rows), CPU)[:20]
    positive = study.run.splits.labels.index("ja")
    assert scores == pytest.approx(logits[:, positive] - logits[:, 1 - positive], abs=1e-4)
    module = peer_trainers.ScoreAsLogits(encoder.transformers_model, study.built.module.input_names, positive)
    both = predict_logits(module, study.encoded, CPU)[:20]
    assert both[:, positive] - both[:, 1 - positive] == pytest.approx(scores, abs=1e-4)

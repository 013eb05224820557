"""The schedule end to end on a tiny teacher: the terms, the control, the student's folder."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress.batch import Examples, Splits, TeacherOutputs
from compress.data.encode import encode_examples
from compress.distill import stages
from compress.distill.checkpoint import Progress
from compress.distill.judge import Judge
from compress.distill.losses import hard_labels, hidden_states, soft_targets
from compress.distill.objectives import LabelObjectives
from compress.distill.stages import Schooling, control, distil, distil_objective
from compress.distill.teach import hard_objective, teach, with_swapped
from compress.distill.trainer import Job
from compress.distill.weighting import Uncertainty
from compress.recipe import (
    ClassificationTask,
    Distill,
    HuggingFaceTeacher,
    Losses,
    MobileStudent,
    PairsTask,
    ResidualStudent,
    Schedule,
    Stage,
    StaticStudent,
    Student,
    Teach,
    TemperatureSchedule,
    TransformerStudent,
)
from compress.students.build import Built, build_student
from compress.students.vocabulary import whole
from compress.teachers.arrays import read_outputs
from compress.teachers.huggingface import Teacher, load_teacher
from compress.teachers.outputs import compute_outputs
from tests.tiny_models import bert_folder, examples, gpt2_folder, splits

CPU = torch.device("cpu")
SECTION = Distill(
    stages=[
        Stage(name="imitate", epochs=2, learning_rate=3e-3),
        Stage(
            name="align", epochs=2, learning_rate=3e-3, losses=Losses(soft=1, hidden=0.1, hidden_cosine=0.1, hard=0.2)
        ),
    ],
    batch_size=16,
    precision="fp32",
)


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    """soft·KL·T² + hidden·½Σ‖φ_t − φ_s‖² + hard·cross-entropy, rows picked from the whole."""
    torch.manual_seed(0)
    rows = replace(examples(6), weights=np.arange(1, 7, dtype=np.float32))
    assert rows.labels is not None
    rows.labels[3] = -1
    said = TeacherOutputs(
        logits=np.random.default_rng(0).normal(size=(6, 3)).astype(np.float16),
        hidden=np.random.default_rng(1).normal(size=(6, 2, 5)).astype(np.float16),
    )
    assert said.hidden is not None
    projections = nn.ModuleList([nn.Linear(4, 5), nn.Linear(4, 5)])
    stage = Stage(name="x", temperature=3.0, losses=Losses(soft=0.5, hidden=0.25, hard=2.0))
    picked = np.array([5, 3, 0])
    logits, hidden = torch.randn(3, 3), torch.randn(3, 2, 4)
    objectives = LabelObjectives(rows, CPU)
    loss, parts = distil_objective(stage, said, objectives, projections, CPU)(logits, hidden, picked, 0.0)
    projected = torch.stack([projections[i](hidden[:, i]) for i in range(2)], 1)
    expected = {
        "soft": soft_targets(logits, torch.tensor(said.logits[picked]).float(), 3.0),
        "hidden": hidden_states(projected, torch.tensor(said.hidden[picked]).float()),
        "hard": hard_labels(logits, torch.tensor(rows.labels[picked]), torch.tensor([6.0, 4.0, 1.0])),
    }
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value)
    total = 0.5 * expected["soft"] + 0.25 * expected["hidden"] + 2 * expected["hard"]
    torch.testing.assert_close(loss, total)
    angles = Stage(name="x", losses=Losses(hidden_cosine=3))
    loss, parts = distil_objective(angles, said, objectives, projections, CPU)(logits, hidden, picked, 0.0)
    states = torch.tensor(said.hidden[picked]).float()
    torch.testing.assert_close(loss, 3 * (1 - F.cosine_similarity(projected, states, dim=-1)).mean())
    assert list(parts) == ["hidden_cosine"]
    alone, terms = distil_objective(Stage(name="x"), said, objectives, projections, CPU)(logits, None, picked, 0.0)
    assert list(terms) == ["soft"]
    torch.testing.assert_close(alone, terms["soft"])


def test_schedules_and_learned_weights_are_in_the_loss_and_in_the_log() -> None:
    """Half way through its stage; a stage whose settings are constant logs its terms alone."""
    rows = examples(6)
    assert rows.labels is not None
    torch.manual_seed(0)
    said = TeacherOutputs(logits=np.random.default_rng(0).normal(size=(6, 3)).astype(np.float16))
    heat = TemperatureSchedule.model_validate({"from": 4, "to": 2})
    falling = Schedule.model_validate({"from": 1, "to": 0.5})
    picked, logits, objectives = np.array([5, 3, 0]), torch.randn(3, 3), LabelObjectives(rows, CPU)
    soft = soft_targets(logits, torch.tensor(said.logits[picked]).float(), 3.0)
    hard = hard_labels(logits, torch.tensor(rows.labels[picked]))
    stage = Stage(name="x", temperature=heat, losses=Losses(soft=falling, hard=0.2))
    loss, parts = distil_objective(stage, said, objectives, nn.ModuleList(), CPU, log=True)(logits, None, picked, 0.5)
    torch.testing.assert_close(loss, 0.75 * soft + 0.2 * hard)
    logged = {name: part.item() for name, part in parts.items() if name not in ("soft", "hard")}
    assert logged == {"weight.soft": 0.75, "weight.hard": pytest.approx(0.2), "temperature": 3.0}
    learned = Stage(name="x", temperature=heat, losses=Losses(soft=1, hard=0.2), weighting="uncertainty")
    balance = Uncertainty(learned.losses.terms)
    with torch.no_grad():
        balance.log_variances["hard"].fill_(1.0)
    objective = distil_objective(learned, said, objectives, nn.ModuleList(), CPU, balance=balance, log=True)
    loss, parts = objective(logits, None, picked, 0.5)
    torch.testing.assert_close(loss, soft + 0.2 * hard / math.e + 1)
    assert parts["weight.hard"].item() == pytest.approx(0.2 / math.e)
    loss, parts = distil_objective(stage, said, objectives, nn.ModuleList(), CPU)(logits, None, picked, 1.0)
    assert list(parts) == ["soft", "hard"]


def test_hard_objective_picks_its_rows() -> None:
    """Labels, weights and smoothing of the picked rows."""
    rows = replace(examples(6), weights=np.arange(1, 7, dtype=np.float32))
    assert rows.labels is not None
    logits, picked = torch.randn(2, 3), np.array([4, 1])
    loss, parts = hard_objective(LabelObjectives(rows, CPU), 0.1)(logits, None, picked, 0.0)
    torch.testing.assert_close(
        loss, hard_labels(logits, torch.tensor(rows.labels[picked]), torch.tensor([5.0, 2.0]), 0.1)
    )
    assert parts["hard"] is loss


def test_swapped_pairs() -> None:
    """Each pair in both orders with its own label and weight; rows without a second text as they are."""
    rows = replace(examples(4, pairs=True), weights=np.arange(4, dtype=np.float32))
    both = with_swapped(rows)
    assert both.pairs is not None
    assert rows.pairs is not None
    assert both.labels is not None
    assert both.weights is not None
    assert rows.labels is not None
    assert [*both.texts] == [*rows.texts, *rows.pairs]
    assert [*both.pairs] == [*rows.pairs, *rows.texts]
    assert both.labels.tolist() == [*rows.labels, *rows.labels]
    assert both.weights.tolist() == [0, 1, 2, 3] * 2
    assert with_swapped(examples(4)) is not None


# ---------------------------------------------------------------- whole schedules


def taught(folder: Path, data: Splits, *, decoder: bool = False, epochs: int) -> tuple[Teacher, Progress]:
    """A tiny teacher, fine-tuned on the data."""
    pairs = data.train.pairs is not None
    task = PairsTask(kind="pairs") if pairs else ClassificationTask(kind="classification")
    teacher = load_teacher(
        HuggingFaceTeacher(model=str((gpt2_folder if decoder else bert_folder)(folder)), max_length=40),
        folder,
        task=task.kind,
        labels=data.labels,
        positive="1" if pairs else None,
        trained=False,
    )
    work = folder / "teach"
    work.mkdir()
    section = Teach(epochs=epochs, learning_rate=2e-3, head_learning_rate=5e-3, batch_size=16, swap_pairs=pairs)
    return teacher, teach(
        teacher, section, Judge(data, task), rows=data.train, work=work, device=CPU, bf16=False, seed=1
    )


def student(section: Student, teacher: Teacher, data: Splits) -> Built:
    """A student with the teacher's tokens."""
    return build_student(
        section,
        teacher=teacher.module,
        teacher_spec=teacher.spec,
        tokens=whole(teacher.tokenizer_json, teacher.spec.pad_id),
        texts=data.transfer.texts,
        task=teacher.spec.task,
        labels=data.labels,
        positive=teacher.spec.positive,
        seed=1,
    )


def said_by(teacher: Teacher, rows: Examples, layers: tuple[int, ...], folder: Path) -> TeacherOutputs:
    """The teacher's outputs, through the cache."""
    (folder / "shards").mkdir()
    encoded = encode_examples(teacher.encoder, rows)
    compute_outputs(teacher, encoded, layers=layers, work=folder / "shards", out=folder / "out", device=CPU, bf16=False)
    return read_outputs(folder / "out")


@pytest.mark.parametrize("decoder", [False, True], ids=["encoder", "decoder"])
@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
def test_a_student_learns_from_its_teacher(tmp_path: Path, decoder: bool, pairs: bool) -> None:
    """Every family of students, one text or two: all terms fall."""
    data = splits(pairs=pairs, rows=64, unlabeled=32)
    teacher, _ = taught(tmp_path / "teacher", data, decoder=decoder, epochs=1)
    task = PairsTask(kind="pairs") if pairs else ClassificationTask(kind="classification")
    schooling = Schooling(Judge(data, task), SECTION, CPU, bf16=False, seed=1)
    sections: tuple[Student, ...] = (
        MobileStudent(kind="mobile", width=16, blocks=2),
        ResidualStudent(kind="residual", width=16, blocks=2),
        StaticStudent(kind="static", width=16),
        TransformerStudent(kind="transformer", layers=2),
    )
    both = said_by(teacher, data.transfer, (2, 4), tmp_path)
    assert both.hidden is not None
    for number, section in enumerate(sections):
        said = both if section.depth == 2 else replace(both, hidden=both.hidden[:, 1:])
        work = tmp_path / f"work-{number}"
        work.mkdir()
        rows = distil(student(section, teacher, data), said, schooling, work).history
        assert [row["stage"] for row in rows] == ["imitate", "imitate", "align", "align"]
        assert "hidden" not in rows[0]
        assert rows[3]["hidden"] < rows[2]["hidden"]
        assert rows[3]["hidden_cosine"] < rows[2]["hidden_cosine"]
        assert rows[3]["soft"] < rows[0]["soft"]


def test_a_schedule_and_learned_weights_over_a_whole_training(tmp_path: Path) -> None:
    """The history says what temperature and weights were, in every stage; weights begin as the recipe has them."""
    data = splits(rows=64)
    teacher, _ = taught(tmp_path / "teacher", data, epochs=1)
    section = Distill.model_validate(
        {
            "stages": [
                {"name": "cool", "epochs": 2, "temperature": {"from": 4, "to": 2}},
                {
                    "name": "learn",
                    "epochs": 2,
                    "learning_rate": 3e-3,
                    "losses": {"soft": 1, "hidden": 0.1, "hard": 0.5},
                    "weighting": "uncertainty",
                    "confidence": True,
                },
            ],
            "batch_size": 16,
            "precision": "fp32",
        }
    )
    schooling = Schooling(Judge(data, ClassificationTask(kind="classification")), section, CPU, bf16=False, seed=1)
    said = said_by(teacher, data.transfer, (2, 4), tmp_path)
    built = student(MobileStudent(kind="mobile", width=16, blocks=2), teacher, data)
    before = {name: len(value) for name, value in built.module.state_dict().items() if value.ndim}
    rows = distil(built, said, schooling, tmp_path).history
    assert [row["temperature"] for row in rows] == pytest.approx([25 / 7, 17 / 7, 2, 2], rel=1e-5)
    assert [row["weight.soft"] for row in rows[:2]] == [1.0, 1.0]
    for name, weight in {"soft": 1.0, "hidden": 0.1, "hard": 0.5}.items():
        near, far = (abs(math.log(row[f"weight.{name}"] / weight)) for row in rows[2:])
        assert 0 < near < far
    assert {name: len(value) for name, value in built.module.state_dict().items() if value.ndim} == before
    assert json.loads(json.dumps(rows)) == rows


def test_a_taught_teacher_knows_its_data(tmp_path: Path) -> None:
    """Fine-tuning learns, and ends with the epoch that was best on validation."""
    data = splits()
    teacher, progress = taught(tmp_path / "teacher", data, epochs=6)
    judge = Judge(data, ClassificationTask(kind="classification"))
    verdict = judge.full(teacher.module, teacher.encoder, CPU)
    assert verdict.validation["macro_f1"] == pytest.approx(progress.best)
    assert progress.best == max(row["metric"] for row in progress.history)
    assert progress.history[-1]["loss"] < progress.history[0]["loss"]
    assert verdict.threshold is None


def test_control_has_the_same_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many steps and as much patience as the student, counted in steps, on labelled rows alone."""
    data = splits(rows=32, unlabeled=96)
    teacher = load_teacher(
        HuggingFaceTeacher(model=str(bert_folder(tmp_path)), max_length=32),
        tmp_path,
        task="classification",
        labels=data.labels,
        positive=None,
        trained=True,
    )
    jobs: list[Job] = []

    def remember(job: Job) -> None:
        jobs.append(job)

    monkeypatch.setattr(stages, "train", remember)
    schooling = Schooling(Judge(data, ClassificationTask(kind="classification")), SECTION, CPU, bf16=False, seed=1)
    built = student(MobileStudent(kind="mobile", width=16, blocks=2), teacher, data)
    said = TeacherOutputs(logits=np.zeros((128, 3), np.float16))
    distil(built, said, schooling, tmp_path)
    control(built, schooling, tmp_path)
    ours, theirs = jobs
    assert [phase.epochs for phase in theirs.phases] == [4 * phase.epochs for phase in ours.phases]
    assert [phase.steps for phase in theirs.phases] == [16, 16]  # two epochs of 128 rows in batches of 16
    assert theirs.patience == 4 * ours.patience
    assert (len(ours.encoded), len(theirs.encoded)) == (128, 32)
    assert [phase.rate for phase in theirs.phases] == [phase.rate for phase in ours.phases]
    assert not list(theirs.extra.parameters())

"""What each kind of task compares a model's outputs with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compress.batch import Examples, Splits, TeacherOutputs
from compress.distill.losses import jensen_shannon, reverse_kl
from compress.distill.objectives import LabelObjectives, Objectives, objectives_of
from compress.distill.ranking_losses import AGAINST_GRADES, AGAINST_TEACHER
from compress.distill.stages import distil_objective
from compress.distill.weighting import settings_at
from compress.recipe import Losses, RankingTask, RegressionTask, Stage, Task
from compress.tasks.kinds import RegressionKind, task_kind
from compress.teachers.largest import largest

CPU = torch.device("cpu")


def examples(labels: list[float], groups: list[str] | None = None, weights: list[float] | None = None) -> Examples:
    names = [str(i) for i in range(len(labels))]
    weight = None if weights is None else np.array(weights, np.float32)
    return Examples(names, names, names, np.array(labels, np.float64), groups, weight)


def objectives(task: Task, rows: Examples) -> Objectives:
    splits = Splits(train=rows, validation=rows, test=rows, unlabeled=None, labels=("score",), fingerprint="")
    return objectives_of(task_kind(task, splits), rows, CPU)


def test_regression_compares_standardised_numbers_by_weight() -> None:
    rows = examples([10.0, 20.0, 60.0], weights=[1, 2, 3])
    task = RegressionTask(kind="regression")
    found = objectives(task, rows)
    logits, picked = torch.tensor([[0.5], [-1.0]]), np.array([2, 0])
    splits = Splits(train=rows, validation=rows, test=rows, unlabeled=None, labels=("score",), fingerprint="")
    kind = task_kind(task, splits)
    assert isinstance(kind, RegressionKind)
    wanted = torch.tensor(
        [(60 - kind.standard.mean) / kind.standard.std, (10 - kind.standard.mean) / kind.standard.std]
    )
    expected = (3 * (0.5 - wanted[0]) ** 2 + (-1 - wanted[1]) ** 2) / 4
    assert found.hard(logits, picked).item() == pytest.approx(expected.item(), rel=1e-5)
    said = torch.tensor([[0.25], [-0.5]])
    parts = found.soft(logits, said, picked, settings_at(Stage(name="x"), 0.0))
    assert parts["soft"].item() == pytest.approx((0.25**2 + 0.5**2) / 2)
    assert found.soft(logits, said, picked, settings_at(Stage(name="x", losses=Losses(hard=1)), 0.0)) == {}


def test_rows_without_a_number_count_for_nothing() -> None:
    """NaN, as rows of the transfer set have it: in the loss and in its gradient."""
    known, rows = examples([1.0, 3.0]), examples([1.0, np.nan, 3.0])
    splits = Splits(train=known, validation=known, test=known, unlabeled=None, labels=("score",), fingerprint="")
    found = objectives_of(task_kind(RegressionTask(kind="regression"), splits), rows, CPU)
    logits = torch.zeros(3, 1, requires_grad=True)
    loss = found.hard(logits, np.arange(3))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(1.0)
    assert torch.isfinite(gradient).all()
    assert gradient[1].item() == 0


def test_transfer_rows_have_no_number_and_keep_their_groups() -> None:
    known = examples([1.0, 2.0], ["a", "b"])
    more = Examples(["u"], ["u"], ["u"], groups=["a"])
    both = Splits(known, known, known, more, ("score",), "").transfer
    assert both.labels is not None
    assert both.labels.tolist() == pytest.approx([1.0, 2.0, np.nan], nan_ok=True)
    assert both.group_codes is not None
    assert both.group_codes.tolist() == [0, 1, 0]


def test_labels_have_three_divergences_each_where_its_weight_is_above_0() -> None:
    """At the stage's temperature, beside each other or alone."""
    rows = Examples(["0", "1", "2"], ["a", "b", "c"], labels=np.array([0, 2, 1]))
    logits, said = torch.randn(2, 2, 3)
    found = LabelObjectives(rows, CPU).soft
    stage = Stage(name="x", temperature=3.0, losses=Losses(soft=1, reverse_kl=0.5, jensen_shannon=2))
    parts = found(logits, said, np.array([2, 0]), settings_at(stage, 0.0))
    assert list(parts) == ["soft", "reverse_kl", "jensen_shannon"]
    torch.testing.assert_close(parts["reverse_kl"], reverse_kl(logits, said, 3.0))
    torch.testing.assert_close(parts["jensen_shannon"], jensen_shannon(logits, said, 3.0))
    alone = Stage(name="x", losses=Losses(jensen_shannon=1))
    assert list(found(logits, said, np.array([2, 0]), settings_at(alone, 0.0))) == ["jensen_shannon"]


def test_confidence_weighs_rows_by_what_the_teacher_gives_their_labels() -> None:
    """Rows 2, 0 and 1, the last without a label: 0.2, 0.7 and the highest, 0.6; shares of their sum."""
    rows = Examples(["0", "1", "2"], ["a", "b", "c"], labels=np.array([0, -1, 2]))
    said = torch.tensor([[0.5, 0.3, 0.2], [0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]).log()
    logits = torch.randn(3, 3)
    now = settings_at(Stage(name="x", temperature=2.0, losses=Losses(soft=1, reverse_kl=1), confidence=True), 0.0)
    parts = LabelObjectives(rows, CPU).soft(logits, said, np.array([2, 0, 1]), now)
    each = F.kl_div(F.log_softmax(logits / 2, -1), F.softmax(said / 2, -1), reduction="none").sum(-1) * 4
    torch.testing.assert_close(parts["soft"], (0.2 * each[0] + 0.7 * each[1] + 0.6 * each[2]) / 1.5)
    turned = F.kl_div(F.log_softmax(said / 2, -1), F.softmax(logits / 2, -1), reduction="none").sum(-1) * 4
    torch.testing.assert_close(parts["reverse_kl"], (0.2 * turned[0] + 0.7 * turned[1] + 0.6 * turned[2]) / 1.5)
    both = said.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(LabelObjectives(rows, CPU).soft(both, said, np.arange(3), now)["soft"], both)
    assert gradient.abs().max() < 1e-6


GROUPS = ["b", "a", "b", "a", "b"]


@pytest.mark.parametrize("loss", ["listwise", "ranknet", "lambda_rank"])
def test_grades_are_compared_within_their_groups(loss: str) -> None:
    """Rows of a step in any order, a lone group, and a row without a grade."""
    rows = examples([2.0, 1.0, 0.0, 0.0, np.nan], GROUPS)
    found = objectives(RankingTask(kind="ranking", loss=loss), rows)  # type: ignore[arg-type]
    logits = torch.tensor([[0.3], [0.1], [-0.2], [0.9], [5.0]], requires_grad=True)
    value = found.hard(logits[[4, 1, 2, 0, 3]], np.array([4, 1, 2, 0, 3]))
    scores, grades = torch.tensor([[0.1, 0.9], [0.3, -0.2]]), torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    expected = AGAINST_GRADES[loss](scores, grades, torch.ones(2, 2, dtype=torch.bool))
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient[4].item() == 0
    alone = found.hard(logits[[0, 1]], np.array([0, 1]))
    assert alone.item() == 0


def test_pointwise_grades_are_shares_of_the_highest() -> None:
    rows = examples([3.0, 0.0, 1.5, np.nan], ["a", "a", "b", "b"])
    found = objectives(RankingTask(kind="ranking", loss="pointwise"), rows)
    logits = torch.tensor([[0.2], [-1.0], [0.7], [9.0]])
    expected = F.binary_cross_entropy_with_logits(logits[:3, 0], torch.tensor([1.0, 0.0, 0.5]))
    assert found.hard(logits, np.arange(4)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_terms_of_a_stage_are_those_with_a_weight() -> None:
    rows = examples([2.0, 1.0, 0.0, 0.0, 1.0], GROUPS)
    found = objectives(RankingTask(kind="ranking"), rows)
    logits, said = torch.randn(2, 5, 1)
    losses = Losses(soft=0.5, margin_mse=0.1, listwise=1, ranknet=0.2, lambda_rank=0.3)
    parts = found.soft(logits, said, np.arange(5), settings_at(Stage(name="x", temperature=3.0, losses=losses), 0.0))
    assert set(parts) == {"soft", *AGAINST_TEACHER}
    index, mask = torch.tensor([[1, 3, 0], [0, 2, 4]]), torch.tensor([[True, True, False], [True] * 3])
    for name, term in AGAINST_TEACHER.items():
        expected = term(logits[index, 0], said[index, 0], mask, 3.0)
        assert parts[name].item() == pytest.approx(expected.item(), rel=1e-5)
    only = found.soft(logits, said, np.arange(5), settings_at(Stage(name="x", losses=Losses(ranknet=1)), 0.0))
    assert list(only) == ["ranknet"]


@pytest.mark.parametrize("top_k", [1, 2])
def test_a_student_meets_the_largest_logits_and_the_rest_as_one(top_k: int) -> None:
    """At T = 1: KL of the probabilities of the teacher's K largest classes, and of any other."""
    rows = Examples(["a", "b"], ["a", "b"], None, np.array([0, 1]))
    said, logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 2.0, -1.0]]), torch.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, 3.0]])
    kept, classes = largest(said, top_k)
    outputs = TeacherOutputs(kept.numpy().astype(np.float16), classes=classes.numpy().astype(np.int32))
    stage, picked = Stage(name="x", temperature=1.0), np.array([1, 0])
    objective = distil_objective(stage, outputs, LabelObjectives(rows, CPU), nn.ModuleList(), CPU)
    order = torch.tensor([[0, 2, 1], [1, 0, 2]])
    p, q = (F.softmax(side, -1).gather(1, order) for side in (said, logits))
    merged = [torch.cat([side[:, :top_k], side[:, top_k:].sum(1, keepdim=True)], 1) for side in (p, q)]
    expected = (merged[0] * (merged[0] / merged[1]).log()).sum(1).mean()
    loss, parts = objective(logits[picked], None, picked, 0.0)
    assert loss.item() == parts["soft"].item() == pytest.approx(expected.item(), abs=2e-3)  # fp16 on disk

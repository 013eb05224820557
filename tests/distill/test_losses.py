"""The objectives against hand-computed values, autograd in float64, and the conventions of peers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial import distance
from scipy.special import rel_entr, softmax
from torch import Tensor

from compress.distill import losses
from compress.distill.losses import (
    DIVERGENCES,
    HIDDEN,
    check_finite,
    hard_labels,
    hidden_cosine,
    hidden_states,
    jensen_shannon,
    reverse_kl,
    soft_targets,
)
from compress.errors import KdcError


def test_soft_targets_by_hand() -> None:
    """Two classes, T=1: teacher (1/2, 1/2), student (3/4, 1/4); then the mean with a row that agrees."""
    student = torch.tensor([[math.log(3.0), 0.0], [5.0, -2.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 0.0], [5.0, -2.0]], dtype=torch.float64)
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert soft_targets(student[:1], teacher[:1], 1.0).item() == pytest.approx(expected, rel=1e-12)
    assert soft_targets(student, teacher, 1.0).item() == pytest.approx(expected / 2, rel=1e-12)


def test_relatives_of_the_kl_by_hand() -> None:
    """The same two distributions, (1/2, 1/2) and (3/4, 1/4), whose mean is (5/8, 3/8); T=2 for logits twice as far."""
    student = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    teacher = torch.zeros(1, 2, dtype=torch.float64)
    turned = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert reverse_kl(student, teacher, 1.0).item() == pytest.approx(turned, rel=1e-12)
    to_teacher = 0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375)
    to_student = 0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375)
    middle = (to_teacher + to_student) / 2
    assert jensen_shannon(student, teacher, 1.0).item() == pytest.approx(middle, rel=1e-12)
    assert jensen_shannon(2 * student, teacher, 2.0).item() == pytest.approx(4 * middle, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_divergences_are_those_of_scipy(temperature: float) -> None:
    student, teacher = torch.randn(2, 9, 6, dtype=torch.float64) * 3
    ours, theirs = (softmax(side.numpy() / temperature, -1) for side in (student, teacher))
    expected = {
        "soft": rel_entr(theirs, ours).sum(-1),
        "reverse_kl": rel_entr(ours, theirs).sum(-1),
        "jensen_shannon": distance.jensenshannon(ours, theirs, axis=-1) ** 2,
    }
    assert expected.keys() == DIVERGENCES.keys()
    for name, rows in expected.items():
        found = DIVERGENCES[name](student, teacher, temperature, None).item()
        assert found == pytest.approx(temperature**2 * float(np.mean(rows)), rel=1e-9), name


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences_by_autograd_and_at_the_ends_of_fp16(name: str) -> None:
    """True gradients; the largest fp16 logits give neither infinity nor NaN, in the value and in the gradient."""
    student, teacher = torch.randn(2, 4, 5, dtype=torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: DIVERGENCES[name](s, teacher, 2.5, None), (student,))
    far = torch.tensor([[65504.0, -65504.0]], requires_grad=True)
    loss = DIVERGENCES[name](far, -far.detach(), 1.0, None)
    (gradient,) = torch.autograd.grad(loss, far)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_jensen_shannon_is_bounded_and_pulls_a_quarter_near_the_teacher() -> None:
    """At most log 2 a row at T=1; the Hessian at the teacher is a quarter of the KL's."""
    far = torch.tensor([[80.0, -80.0]], dtype=torch.float64)
    assert jensen_shannon(far, -far, 1.0).item() == pytest.approx(math.log(2), rel=1e-9)
    teacher = torch.randn(1, 4, dtype=torch.float64)
    full, part = (
        torch.autograd.functional.hessian(lambda s, f=f: f(s, teacher, 1.0), teacher)  # type: ignore[misc]  # the default binds f
        for f in (soft_targets, jensen_shannon)
    )
    torch.testing.assert_close(part, full / 4)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_divergences_are_zero_and_at_rest_when_both_agree(name: str, temperature: float) -> None:
    """A perfect student pays nothing and is not moved; a constant added to its logits changes nothing."""
    teacher = torch.randn(6, 5, dtype=torch.float64)
    student = (teacher + 7).requires_grad_()
    loss = DIVERGENCES[name](student, teacher, temperature, None)
    (gradient,) = torch.autograd.grad(loss, student)
    assert abs(loss.item()) < 1e-12
    assert gradient.abs().max().item() < 1e-12


def test_soft_targets_scales_with_the_squared_temperature() -> None:
    """Logits and temperature doubled: the same distributions, four times the loss."""
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    one, two = soft_targets(student, teacher, 1.5), soft_targets(2 * student, 2 * teacher, 3.0)
    assert two.item() == pytest.approx(4 * one.item(), rel=1e-12)


def test_soft_targets_gradient() -> None:
    """T·(softmax(student/T) − softmax(teacher/T)) / B, also with an upstream gradient that is not 1."""
    student, teacher = torch.randn(2, 7, 11, dtype=torch.float64)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(3 * soft_targets(student, teacher, 2.5), student)
    expected = 3 * 2.5 * (F.softmax(student / 2.5, -1) - F.softmax(teacher / 2.5, -1)) / 7
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-12, atol=1e-14)
    assert torch.autograd.gradcheck(lambda s: soft_targets(s, teacher, 2.5), (student,))


def test_soft_targets_of_confident_logits_stay_finite() -> None:
    """The largest fp16 logits: no infinity, no NaN."""
    student, teacher = torch.tensor([[65504.0, -65504.0]]), torch.tensor([[-65504.0, 65504.0]])
    assert torch.isfinite(soft_targets(student, teacher, 1.0))


# ---------------------------------------------------------------- conventions of peers

T = 4.0
ROWS, CLASSES = 8, 5


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    """Student and teacher of the comparison, [8, 5] each."""
    torch.manual_seed(0)
    return torch.randn(ROWS, CLASSES), torch.randn(ROWS, CLASSES)


def torchdistill(student: Tensor, teacher: Tensor) -> float:
    """KL, mean over the batch, not scaled by T²."""
    p, q = F.softmax(teacher / T, -1), F.softmax(student / T, -1)
    return float((p * (p / q).log()).sum() / len(p))


def textbrewer(student: Tensor, teacher: Tensor) -> float:
    """Cross-entropy with the teacher's distribution, mean over the batch, not scaled: its entropy stays in."""
    return float(-(F.softmax(teacher / T, -1) * F.log_softmax(student / T, -1)).sum(-1).mean())


def modelopt(student: Tensor, teacher: Tensor) -> float:
    """KL·T², mean over batch and classes."""
    p, log_q = F.softmax(teacher / T, -1), F.log_softmax(student / T, -1)
    return float((p * (p.log() - log_q)).mean()) * T**2


def test_peers_say_what_the_notes_say(logits: tuple[Tensor, Tensor]) -> None:
    """The published figures for these logits at T=4."""
    assert torchdistill(*logits) == pytest.approx(0.0378, abs=5e-5)
    assert textbrewer(*logits) == pytest.approx(1.628, abs=5e-4)
    assert modelopt(*logits) == pytest.approx(0.121, abs=5e-4)
    assert soft_targets(*logits, T).item() == pytest.approx(0.605, abs=5e-4)


def test_conversions_from_peers(logits: tuple[Tensor, Tensor]) -> None:
    """ours = torchdistill·T² = (TextBrewer − H(teacher))·T² = ModelOpt·classes."""
    ours = soft_targets(*logits, T).item()
    p = F.softmax(logits[1] / T, -1)
    entropy = float(-(p * p.log()).sum(-1).mean())
    assert torchdistill(*logits) * T**2 == pytest.approx(ours, rel=1e-5)
    assert (textbrewer(*logits) - entropy) * T**2 == pytest.approx(ours, rel=1e-4)
    assert modelopt(*logits) * CLASSES == pytest.approx(ours, rel=1e-5)


# ---------------------------------------------------------------- hidden states and labels


def test_hidden_states_by_hand() -> None:
    """Two rows, one layer: ½(3² + 4²) and 0, the mean of both; a second layer that agrees halves it again."""
    projected = torch.tensor([[[3.0, 0.0]], [[1.0, 1.0]]])
    teacher = torch.tensor([[[0.0, 4.0]], [[1.0, 1.0]]])
    assert hidden_states(projected, teacher).item() == pytest.approx(12.5 / 2)
    both = torch.cat([projected, teacher], 1), torch.cat([teacher, teacher], 1)
    assert hidden_states(*both).item() == pytest.approx(12.5 / 4)


def test_hidden_cosine_by_hand_and_in_numpy() -> None:
    """A right angle, the same direction at another length, and opposite ones: 1, 0 and 2; then rows at random."""
    projected = torch.tensor([[[3.0, 0.0], [1.0, 1.0], [2.0, 0.0]]])
    teacher = torch.tensor([[[0.0, 4.0], [5.0, 5.0], [-1.0, 0.0]]])
    assert hidden_cosine(projected, teacher).item() == pytest.approx((1 + 0 + 2) / 3, abs=1e-6)
    ours, theirs = np.random.default_rng(0).normal(size=(2, 4, 3, 7))
    length = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    expected = np.mean(1 - (ours * theirs).sum(-1) / length)
    assert hidden_cosine(torch.tensor(ours), torch.tensor(theirs)).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_terms_are_at_rest_when_both_agree(name: str) -> None:
    """True gradients, and none at the teacher's states."""
    teacher = torch.randn(4, 2, 5, dtype=torch.float64)
    student = teacher.clone().requires_grad_()
    loss = HIDDEN[name](student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    assert abs(loss.item()) < 1e-12
    assert gradient.abs().max().item() < 1e-12
    other = torch.randn(4, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: HIDDEN[name](s, teacher), (other,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_labels_is_cross_entropy_of_the_labelled_rows(smoothing: float) -> None:
    """Rows with label −1 count for nothing, neither above nor below the line."""
    student = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, -1, 3, 2, -1, 1])
    loss = hard_labels(student, labels, smoothing=smoothing)
    expected = F.cross_entropy(student[labels >= 0], labels[labels >= 0], label_smoothing=smoothing)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, student)
    (wanted,) = torch.autograd.grad(expected, student)
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-15)
    assert not gradient[labels < 0].any()


def test_hard_labels_weighs_rows() -> None:
    """A row of weight 2 counts as two rows; the weight of an unlabelled row does not count."""
    student = torch.randn(3, 4, dtype=torch.float64)
    loss = hard_labels(student, torch.tensor([1, 2, -1]), torch.tensor([2.0, 1.0, 9.0]))
    repeated = F.cross_entropy(student[[0, 0, 1]], torch.tensor([1, 1, 2]))
    assert loss.item() == pytest.approx(repeated.item(), rel=1e-6)


def test_hard_labels_without_a_labelled_row_is_zero() -> None:
    """A batch from the transfer set alone: 0, and a gradient of 0."""
    student = torch.randn(3, 4, requires_grad=True)
    loss = hard_labels(student, torch.full((3,), -1), torch.ones(3), smoothing=0.1)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_said_where(broken: float) -> None:
    """The sentence names the value, the place and what to do."""
    with pytest.raises(KdcError, match=r"student, stage align, step 3: the loss became (nan|inf); lower"):
        check_finite(torch.tensor(broken), "student, stage align, step 3")
    check_finite(torch.tensor(1.0), "anywhere")


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_many_logits_cost_the_same_through_the_kernel(
    name: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, teacher = torch.randn(2, 7, 90, dtype=torch.float64)
    weights = torch.rand(7, dtype=torch.float64) if weighted else None
    values, slopes = [], []
    for few in (10**6, 630):
        monkeypatch.setattr(losses, "FUSED_FROM", few)
        student = logits.clone().requires_grad_()
        values.append(DIVERGENCES[name](student, teacher, 3.0, weights))
        values[-1].backward()
        slopes.append(student.grad)
    assert type(values[0].grad_fn) is not type(values[1].grad_fn)
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(slopes[1], slopes[0])

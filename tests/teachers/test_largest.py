"""The K largest logits and the rest as one class: by hand, against all classes, and how they are kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from compress.distill.losses import soft_targets
from compress.teachers.largest import largest, merge_rest

ROWS, CLASSES = 6, 11


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    """Student and teacher, [6, 11] each."""
    torch.manual_seed(0)
    return torch.randn(ROWS, CLASSES, dtype=torch.float64), 3 * torch.randn(ROWS, CLASSES, dtype=torch.float64)


def kept_loss(student: Tensor, teacher: Tensor, top_k: int, temperature: float) -> Tensor:
    """The soft loss with the K largest logits of the teacher."""
    said, classes = largest(teacher, top_k)
    return soft_targets(merge_rest(student, classes), said, temperature)


def test_a_row_by_hand() -> None:
    """Logits log 1 … log 4, two kept: the rest weighs 1 + 2. The student's are taken at the teacher's classes."""
    teacher = torch.tensor([[2.0, 4.0, 1.0, 3.0]], dtype=torch.float64).log()
    kept, classes = largest(teacher, 2)
    assert classes.tolist() == [[1, 3]]
    assert kept.exp().tolist()[0] == pytest.approx([4, 3, 3])
    student = torch.tensor([[5.0, 1.0, 3.0, 1.0]], dtype=torch.float64).log()
    assert merge_rest(student, classes).exp().tolist()[0] == pytest.approx([1, 1, 8])
    expected = 0.4 * math.log(0.4 / 0.1) + 0.3 * math.log(0.3 / 0.1) + 0.3 * math.log(0.3 / 0.8)
    assert kept_loss(student, teacher, 2, 1.0).item() == pytest.approx(expected, rel=1e-12)
    # at T = 2 the merged logits are halved: probabilities in proportion to their square roots
    p, q = ([math.sqrt(x) for x in xs] for xs in ((4, 3, 3), (1, 1, 8)))
    terms = (a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    assert kept_loss(student, teacher, 2, 2.0).item() == pytest.approx(4 * sum(terms), rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_all_but_one_class_is_the_loss_over_all(logits: tuple[Tensor, Tensor], temperature: float) -> None:
    kept = kept_loss(*logits, CLASSES - 1, temperature)
    assert kept.item() == pytest.approx(soft_targets(*logits, temperature).item(), rel=1e-12)


def test_less_classes_can_tell_less_apart(logits: tuple[Tensor, Tensor]) -> None:
    """At T = 1 the loss grows with K, up to that over all classes."""
    losses = [kept_loss(*logits, top_k, 1.0).item() for top_k in range(1, CLASSES)]
    assert losses == sorted(losses)
    assert losses[-1] == pytest.approx(soft_targets(*logits, 1.0).item())


@pytest.mark.parametrize("top_k", [1, 4])
def test_a_student_that_agrees_pays_nothing_and_rests(logits: tuple[Tensor, Tensor], top_k: int) -> None:
    student = (logits[1] - 3).requires_grad_()
    loss = kept_loss(student, logits[1], top_k, 2.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert abs(loss.item()) < 1e-12
    assert gradient.abs().max().item() < 1e-12


def test_gradient(logits: tuple[Tensor, Tensor]) -> None:
    """Every class is moved: those of the rest by their share of it."""
    student = logits[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: kept_loss(s, logits[1], 3, 2.0), (student,))
    (gradient,) = torch.autograd.grad(kept_loss(student, logits[1], 3, 2.0), student)
    assert (gradient != 0).all()

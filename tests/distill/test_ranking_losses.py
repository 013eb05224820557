"""Losses over lists against slow loops over rows and pairs, their gradients, and what must be zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, permutations

import pytest
import torch
from torch import Tensor

from compress.distill.ranking_losses import (
    AGAINST_GRADES,
    AGAINST_TEACHER,
    lambda_rank,
    lists_of,
    listwise,
    margin_mse,
    order_gains,
    ranknet,
    ranknet_grades,
)

SIZES = (4, 1, 2, 7, 0)
WIDTH = max(SIZES)


@pytest.fixture
def lists() -> tuple[Tensor, Tensor, Tensor]:
    """Scores, teacher's scores and mask of lists of SIZES rows; what is not a row is far off."""
    generator = torch.Generator().manual_seed(3)
    scores, targets = 2 * torch.randn(2, len(SIZES), WIDTH, generator=generator, dtype=torch.float64)
    mask = torch.arange(WIDTH) < torch.tensor(SIZES).unsqueeze(1)
    return scores.masked_fill(~mask, 77.0), targets.masked_fill(~mask, -55.0), mask


@pytest.fixture
def grades(lists: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Grades 0 to 3, with ties; none in the list of two."""
    drawn = torch.randint(0, 4, lists[0].shape, generator=torch.Generator().manual_seed(5)).double()
    drawn[2] = 0.0
    return drawn


def rows(table: Tensor, mask: Tensor) -> list[list[float]]:
    return [[float(v) for v in row[real]] for row, real in zip(table, mask, strict=True)]


def mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else 0.0


def several(*tables: list[list[float]]) -> Iterator[tuple[list[float], ...]]:
    """Lists of two rows or more."""
    return ((row) for row in zip(*tables, strict=True) if len(row[0]) > 1)


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_listwise_is_kl_over_each_list(lists: tuple[Tensor, Tensor, Tensor], temperature: float) -> None:
    scores, targets, mask = lists
    expected = mean(
        sum(p * math.log(p / q) for p, q in zip(softmax(t, temperature), softmax(s, temperature), strict=True))
        for s, t in several(rows(scores, mask), rows(targets, mask))
    )
    found = listwise(scores, targets, mask, temperature)
    assert found.item() == pytest.approx(expected * temperature**2, rel=1e-10)


def test_margin_mse_is_the_mean_over_all_pairs(lists: tuple[Tensor, Tensor, Tensor]) -> None:
    scores, targets, mask = lists
    expected = mean(
        mean(((s[i] - s[j]) - (t[i] - t[j])) ** 2 for i, j in combinations(range(len(s)), 2))
        for s, t in several(rows(scores, mask), rows(targets, mask))
    )
    assert margin_mse(scores, targets, mask).item() == pytest.approx(expected, rel=1e-10)
    both = margin_mse(scores + 1e6, targets, mask)  # the offset must not cost digits
    assert both.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_ranknet_is_the_kl_of_each_pairs_order(lists: tuple[Tensor, Tensor, Tensor], temperature: float) -> None:
    scores, targets, mask = lists

    def pair(s: float, t: float) -> float:
        p, q = sigmoid(t / temperature), sigmoid(s / temperature)
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    expected = mean(
        mean(pair(s[i] - s[j], t[i] - t[j]) for i, j in combinations(range(len(s)), 2))
        for s, t in several(rows(scores, mask), rows(targets, mask))
    )
    found = ranknet(scores, targets, mask, temperature)
    assert found.item() == pytest.approx(expected * temperature**2, rel=1e-9)


def test_ranknet_of_grades_counts_pairs_of_different_grades(
    lists: tuple[Tensor, Tensor, Tensor], grades: Tensor
) -> None:
    scores, _, mask = lists
    per_list = [
        [math.log1p(math.exp(s[j] - s[i])) for i, j in permutations(range(len(s)), 2) if g[i] > g[j]]
        for s, g in zip(rows(scores, mask), rows(grades, mask), strict=True)
    ]
    assert sum(map(bool, per_list)) == 2  # neither the lone row, nor the list of one grade, nor the empty one
    expected = mean(mean(terms) for terms in per_list if terms)
    assert ranknet_grades(scores, grades, mask).item() == pytest.approx(expected, rel=1e-10)


def slow_lambda(scores: list[float], gains: list[float]) -> float | None:
    """Swap each pair and compute NDCG again."""

    def ndcg(order: list[int]) -> float:
        ideal = sum(g / math.log2(2 + i) for i, g in enumerate(sorted(gains, reverse=True)))
        return sum(gains[row] / math.log2(2 + i) for i, row in enumerate(order)) / ideal

    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    terms = []
    for i, j in permutations(range(len(scores)), 2):
        if gains[i] > gains[j]:
            swapped = [j if row == i else i if row == j else row for row in order]
            terms.append(abs(ndcg(order) - ndcg(swapped)) * math.log1p(math.exp(scores[j] - scores[i])))
    return sum(terms) if terms else None


def test_lambda_rank_weighs_pairs_by_what_a_swap_costs(lists: tuple[Tensor, Tensor, Tensor], grades: Tensor) -> None:
    scores, _, mask = lists
    each = [slow_lambda(s, g) for s, g in zip(rows(scores, mask), rows(grades, mask), strict=True)]
    expected = mean(value for value in each if value is not None)
    assert lambda_rank(scores, grades, mask).item() == pytest.approx(expected, rel=1e-10)


def test_order_gains_are_shares_of_rows_below(lists: tuple[Tensor, Tensor, Tensor]) -> None:
    _, targets, mask = lists
    for row, real, gains in zip(targets, mask, order_gains(targets, mask), strict=True):
        known = row[real].tolist()
        below = [sum(other < value for other in known) / max(len(known) - 1, 1) for value in known]
        assert gains[real].tolist() == pytest.approx(below)
    tied = order_gains(torch.tensor([[1.0, 1.0, 0.0]]), torch.ones(1, 3, dtype=torch.bool))
    assert tied[0].tolist() == pytest.approx([0.5, 0.5, 0.0])


# ---------------------------------------------------------------- properties


@pytest.mark.parametrize("name", ["margin_mse", "listwise", "ranknet"])
def test_a_student_that_agrees_up_to_a_constant_pays_nothing_and_rests(
    lists: tuple[Tensor, Tensor, Tensor], name: str
) -> None:
    _, targets, mask = lists
    scores = (targets + torch.arange(len(SIZES)).unsqueeze(1)).requires_grad_()
    loss = AGAINST_TEACHER[name](scores, targets, mask, 2.0)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert abs(loss.item()) < 1e-12
    assert gradient.abs().max().item() < 1e-12


EVERY: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
    *(lambda s, t, m, term=term: term(s, t, m, 1.7) for term in AGAINST_TEACHER.values()),
    *AGAINST_GRADES.values(),
]
NAMES = [*AGAINST_TEACHER, *(f"{name}-grades" for name in AGAINST_GRADES)]


@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
def test_gradients_are_those_of_the_formula_and_zero_outside_the_mask(
    lists: tuple[Tensor, Tensor, Tensor], loss: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> None:
    scores, targets, mask = lists
    scores = scores.requires_grad_()
    wanted = (targets - targets.min()).detach()
    assert torch.autograd.gradcheck(lambda s: loss(s, wanted, mask), (scores,))
    (gradient,) = torch.autograd.grad(3 * loss(scores, wanted, mask), scores)
    assert torch.isfinite(gradient).all()
    assert not gradient[~mask].any()
    assert not gradient[1].any()  # a lone row has nothing to be compared with
    assert gradient.sum(1).abs().max().item() < 1e-10  # only differences count


@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
def test_a_step_downhill_brings_the_order_nearer(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """From a reversed order, descent ends in the wanted one."""
    wanted = torch.tensor([[3.0, 2.0, 1.0, 0.0]], dtype=torch.float64)
    mask = torch.ones(1, 4, dtype=torch.bool)
    scores = (-wanted).clone().requires_grad_()
    for _ in range(400):
        (gradient,) = torch.autograd.grad(loss(scores, wanted, mask), scores)
        scores = (scores - 0.5 * gradient).detach().requires_grad_()
    assert scores[0].argsort(descending=True).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
def test_without_a_pair_the_loss_is_zero(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    scores = torch.randn(3, 1, requires_grad=True)
    found = loss(scores, torch.ones(3, 1), torch.ones(3, 1, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(found, scores)
    assert found.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
def test_the_largest_halves_stay_finite(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    scores = torch.tensor([[65504.0, -65504.0, 0.0]], requires_grad=True)
    found = loss(scores, torch.tensor([[0.0, 65504.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(found, scores)
    assert torch.isfinite(found)
    assert torch.isfinite(gradient).all()


def test_lists_of_rows_by_group() -> None:
    table, mask = lists_of(torch.tensor([7, 3, 7, 9, 3, 7]))
    assert [row[real].tolist() for row, real in zip(table, mask, strict=True)] == [[1, 4], [0, 2, 5], [3]]

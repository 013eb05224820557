"""Losses that compare the rows of a group: scores, targets and mask [G, N] of G lists of up to N rows -> scalar.

mask is True for real rows. Each loss is a mean over the lists that it can say something about, which takes two real
rows; without such a list it is 0. Targets are a teacher's scores, or grades. What is compared with the teacher by a
divergence or a square is zero exactly where the student agrees; the temperature T divides both sides' scores, and T²
keeps the size of the gradient, as in `losses.soft_targets`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def lists_of(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of each group, int64 [G, N], filled up with row 0, and which of them are real, bool [G, N].

    groups: int64 [B], equal for rows of one group.
    """
    _, members, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    order = torch.argsort(members, stable=True)
    columns = torch.arange(len(groups), device=groups.device) - (sizes.cumsum(0) - sizes)[members[order]]
    rows = torch.zeros(len(sizes), int(sizes.max()), dtype=torch.int64, device=groups.device)
    mask = torch.zeros_like(rows, dtype=torch.bool)
    rows[members[order], columns] = order
    mask[members[order], columns] = True
    return rows, mask


def listwise(scores: Tensor, targets: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(targets/T) || softmax(scores/T))·T² over the rows of a list.

    ListNet's top-one distributions (Cao et al. 2007, https://dl.acm.org/doi/10.1145/1273496.1273513), without the
    entropy of the targets, so that it is zero where both differ by a constant only.
    """
    lowest = torch.finfo(scores.dtype).min
    student, wanted = (F.log_softmax((side / temperature).masked_fill(~mask, lowest), -1) for side in (scores, targets))
    each = (wanted.exp() * (wanted - student)).masked_fill(~mask, 0.0).sum(-1)
    return _mean(each, mask.sum(-1) > 1) * temperature**2


def margin_mse(scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """((s_i − s_j) − (t_i − t_j))², mean over the pairs of a list.

    Hofstätter et al. 2020 (https://arxiv.org/abs/2010.02666) for one relevant and one other document; here for all
    pairs, whose mean is twice the variance of s − t, with n − 1 below the line.
    """
    count = mask.sum(-1)
    difference = (scores - targets).masked_fill(~mask, 0.0)
    centred = (difference - difference.sum(-1, keepdim=True) / count.unsqueeze(-1).clamp_min(1)).masked_fill(~mask, 0.0)
    return _mean(2 * centred.pow(2).sum(-1) / (count - 1).clamp_min(1), count > 1)


def ranknet(scores: Tensor, targets: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(σ((t_i − t_j)/T) || σ((s_i − s_j)/T))·T², mean over the pairs of a list.

    RankNet's cross-entropy with target probabilities (Burges et al. 2005, https://dl.acm.org/doi/10.1145/1102351.1102363)
    without the targets' entropy, so that it is zero where both differ by a constant only.
    """
    margins, wanted = (_margins(side) / temperature for side in (scores, targets))
    chance = torch.sigmoid(wanted)
    each = F.softplus(margins) - chance * margins - (F.softplus(wanted) - chance * wanted)
    return _mean_of_pairs(each, _pairs(mask).triu(1)) * temperature**2


def ranknet_grades(scores: Tensor, grades: Tensor, mask: Tensor) -> Tensor:
    """log(1 + exp(−(s_i − s_j))), mean over the pairs of a list with grade_i > grade_j: RankNet with labels."""
    above = (_margins(grades) > 0) & _pairs(mask)
    return _mean_of_pairs(F.softplus(-_margins(scores)), above)


def lambda_rank(scores: Tensor, gains: Tensor, mask: Tensor) -> Tensor:
    """Σ |ΔNDCG_ij| · log(1 + exp(−(s_i − s_j))) over the pairs of a list with gain_i > gain_j.

    ΔNDCG_ij = (gain_i − gain_j) · (1/log2(1 + rank_i) − 1/log2(1 + rank_j)) / ideal DCG is what swapping the two would
    cost at the places that the scores give them now; no gradient goes through it. LambdaRank as a bound on NDCG: Wang
    et al. 2018 (https://dl.acm.org/doi/10.1145/3269206.3271784). gains: 0 or more.
    """
    hidden = scores.detach().masked_fill(~mask, torch.finfo(scores.dtype).min)
    ranks = torch.argsort(hidden, dim=-1, descending=True, stable=True).argsort(-1) + 1
    discounts = 1 / torch.log2(ranks.to(scores.dtype) + 1)
    known = gains.masked_fill(~mask, 0.0)
    places = torch.arange(1, gains.shape[-1] + 1, device=gains.device, dtype=gains.dtype)
    ideal = (known.sort(-1, descending=True).values / torch.log2(places + 1)).sum(-1)
    above = (_margins(known) > 0) & _pairs(mask)
    cost = (_margins(known) * _margins(discounts)).abs() / ideal.clamp_min(torch.finfo(gains.dtype).tiny)[:, None, None]
    each = (cost * F.softplus(-_margins(scores))).masked_fill(~above, 0.0).sum((-1, -2))
    return _mean(each, above.any(-1).any(-1))


def order_gains(targets: Tensor, mask: Tensor) -> Tensor:
    """Gains from a teacher's order, 0..1: the share of the list's other rows that it puts below a row."""
    below = ((_margins(targets) > 0) & _pairs(mask)).sum(-1).to(targets.dtype)
    return below / (mask.sum(-1, keepdim=True) - 1).clamp_min(1)


AGAINST_TEACHER: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "margin_mse": lambda scores, targets, mask, temperature: margin_mse(scores, targets, mask),
    "listwise": listwise,
    "ranknet": ranknet,
    "lambda_rank": lambda scores, targets, mask, temperature: lambda_rank(scores, order_gains(targets, mask), mask),
}
"""Terms of a recipe's `losses`: (scores, teacher's scores, mask, temperature) -> scalar."""
AGAINST_GRADES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "listwise": listwise,
    "ranknet": ranknet_grades,
    "lambda_rank": lambda_rank,
}
"""Values of a recipe's `task.loss`: (scores, grades, mask) -> scalar."""


def _margins(values: Tensor) -> Tensor:
    """value_i − value_j: [G, N] -> [G, N, N]."""
    return values.unsqueeze(-1) - values.unsqueeze(-2)


def _pairs(mask: Tensor) -> Tensor:
    return mask.unsqueeze(-1) & mask.unsqueeze(-2)


def _mean_of_pairs(each: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the lists that have chosen pairs of the mean over these: [G, N, N] each -> scalar."""
    count = chosen.sum((-1, -2))
    return _mean(each.masked_fill(~chosen, 0.0).sum((-1, -2)) / count.clamp_min(1), count > 0)


def _mean(each: Tensor, counts: Tensor) -> Tensor:
    """Mean of the lists [G] that count; 0 without any."""
    return each.masked_fill(~counts, 0.0).sum() / counts.sum().clamp_min(1)

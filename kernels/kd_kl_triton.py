"""Triton body of `kd_kl`, and of the tiles of `linear_kd`: one program a row, all sums in fp32.

A program runs over its row's columns once for the log-sum-exps, kept online as in
https://arxiv.org/abs/1805.02867, for reverse KL and Jensen-Shannon once for the total, and once for loss and gradient.
Later passes over a row find it in the cache. The gradient may be written over the student's logits.
"""

from __future__ import annotations

from typing import cast

import torch
import triton
import triton.language as tl
from torch import Tensor

from compress.kernels.formula import DIVERGENCES, LOWEST, Formula

WIDEST = 4096
"""Columns that a program holds at once, at the most."""
FLOOR = tl.constexpr(LOWEST)
LOG_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _floored(logits):
    """LOWEST for −inf; what is not a number stays so."""
    return tl.where(logits < FLOOR, FLOOR, logits)


@triton.jit
def _logits(row, offsets, columns, scale):
    """Columns of a row of logits, fp32 [BLOCK]; LOWEST outside the row and for −inf."""
    found = tl.load(row + offsets, mask=offsets < columns, other=-float("inf")).to(tl.float32) * scale
    return _floored(found)


@triton.jit
def _online(highest, total, logits):
    """A running maximum and Σ exp(logit − maximum), with more logits [BLOCK] taken in."""
    higher = tl.maximum(highest, tl.max(logits, 0))
    return higher, total * tl.exp(highest - higher) + tl.sum(tl.exp(logits - higher), 0)


@triton.jit
def _above(of, other, DIVERGENCE: tl.constexpr):
    """of − other, or for Jensen-Shannon of − log ½(exp of + exp other) = log 2 − log(1 + exp(other − of))."""
    if DIVERGENCE == 2:
        apart = other - of
        return LOG_2 - (tl.maximum(apart, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(apart))))
    return of - other


@triton.jit
def _statistics(ours, theirs, columns, scale, temperature, HARD: tl.constexpr, BLOCK: tl.constexpr):
    """log Σ exp x = m + log Σ exp(x − m), m the highest so far: of both, and the student at temperature 1."""
    highest, empty = tl.full([], FLOOR, tl.float32), tl.full([], 0.0, tl.float32)
    highest_s, sum_s, highest_t, sum_t, highest_1, sum_1 = highest, empty, highest, empty, highest, empty
    if not HARD:
        sum_1 += 1.0
    for start in range(0, columns, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        s = _logits(ours, offsets, columns, scale)
        highest_s, sum_s = _online(highest_s, sum_s, s)
        highest_t, sum_t = _online(highest_t, sum_t, _logits(theirs, offsets, columns, scale))
        if HARD:
            highest_1, sum_1 = _online(highest_1, sum_1, _floored(s * temperature))
    return highest_s + tl.log(sum_s), highest_t + tl.log(sum_t), highest_1 + tl.log(sum_1)


@triton.jit
def _total(ours, theirs, columns, scale, lse_s, lse_t, DIVERGENCE: tl.constexpr, BLOCK: tl.constexpr):
    """Σ p_s·(ls − lt), with lm in place of lt for Jensen-Shannon."""
    total = 0.0
    for start in range(0, columns, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        ls = _logits(ours, offsets, columns, scale) - lse_s
        lt = _logits(theirs, offsets, columns, scale) - lse_t
        total += tl.sum(tl.exp(ls) * _above(ls, lt, DIVERGENCE), 0)
    return total


@triton.jit
def _divergence(ls, lt, total, DIVERGENCE: tl.constexpr):
    """Sum over the block, and its g [BLOCK]."""
    p_s, p_t = tl.exp(ls), tl.exp(lt)
    above = _above(ls, lt, DIVERGENCE)
    if DIVERGENCE == 0:
        # Σ p_t·(lt − ls), g = p_s − p_t
        charge = tl.sum(p_t * (lt - ls), 0)
        g = p_s - p_t
    elif DIVERGENCE == 1:
        # Σ p_s·(ls − lt), g = p_s·((ls − lt) − total)
        charge = tl.sum(p_s * above, 0)
        g = p_s * (above - total)
    else:
        # ½·Σ p_t·(lt − lm) + ½·Σ p_s·(ls − lm), g = ½·p_s·((ls − lm) − total)
        charge = 0.5 * tl.sum(p_t * _above(lt, ls, DIVERGENCE) + p_s * above, 0)
        g = 0.5 * p_s * (above - total)
    return charge, g


@triton.jit
def _rows(
    student,  # [N, V]
    teacher,  # [N, V]
    gradient,  # [N, V]; may be student's own
    statistics,  # [N, 3]: log-sum-exps of student and teacher at the temperature, of the student at 1
    totals,  # [N]
    losses,  # [N]
    labels,  # [N]: column of the tile, or outside of it
    shares,  # [N]: of the mean; a row with 0 is not looked at
    student_stride,
    teacher_stride,
    gradient_stride,
    columns,
    inverse,  # 1/T: logits are multiplied by it
    temperature,
    soft,
    hard,
    factor,  # gradients are multiplied by it
    DIVERGENCE: tl.constexpr,  # 0 kl, 1 reverse_kl, 2 jensen_shannon
    FIND_STATISTICS: tl.constexpr,
    FIND_TOTALS: tl.constexpr,
    FIND_LOSS: tl.constexpr,
    STORE: tl.constexpr,  # the gradient
    HARD: tl.constexpr,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    ours, theirs = student + row * student_stride, teacher + row * teacher_stride
    slopes = gradient + row * gradient_stride
    share = 1.0
    if SHARED:
        share = tl.load(shares + row)
        if share == 0:
            for start in range(0, columns, BLOCK):
                offsets = start + tl.arange(0, BLOCK)
                tl.store(slopes + offsets, tl.zeros([BLOCK], tl.float32), mask=(offsets < columns) & STORE)
            return
    sums = statistics + row * 3
    if FIND_STATISTICS:
        lse_s, lse_t, lse_1 = _statistics(ours, theirs, columns, inverse, temperature, HARD, BLOCK)
        tl.store(sums, lse_s)
        tl.store(sums + 1, lse_t)
        tl.store(sums + 2, lse_1)
    else:
        lse_s, lse_t, lse_1 = tl.load(sums), tl.load(sums + 1), tl.load(sums + 2)
    if FIND_TOTALS:
        total = _total(ours, theirs, columns, inverse, lse_s, lse_t, DIVERGENCE, BLOCK)
        tl.store(totals + row, total)
    else:
        total = tl.load(totals + row)
    if FIND_LOSS:
        label = row
        if HARD:
            label = tl.load(labels + row).to(tl.int64)
        charge, missed = 0.0, 0.0
        for start in range(0, columns, BLOCK):
            offsets = start + tl.arange(0, BLOCK)
            s = _logits(ours, offsets, columns, inverse)
            more, g = _divergence(s - lse_s, _logits(theirs, offsets, columns, inverse) - lse_t, total, DIVERGENCE)
            charge += more
            if HARD:
                # log softmax(s) at temperature 1; g = soft·T·g + hard·(softmax(s) − 1[label])
                known = s * temperature - lse_1
                hit = (offsets == label) & (offsets < columns)
                missed -= tl.sum(tl.where(hit, known, 0.0), 0)
                g = soft * temperature * g + hard * (tl.exp(known) - tl.where(hit, 1.0, 0.0))
            tl.store(slopes + offsets, g * (share * factor), mask=(offsets < columns) & STORE)
        tl.store(losses + row, soft * temperature * temperature * charge + hard * missed)


def _launch(
    made: tuple[Tensor, Tensor, Tensor | None],
    found: tuple[Tensor, Tensor, Tensor],
    formula: Formula,
    *,
    find: tuple[bool, bool, bool],
    scale: float,
    labels: Tensor | None = None,
    shares: Tensor | None = None,
) -> None:
    """One program a row: logits of both and where the gradient goes, [n, c]; statistics, totals and losses."""
    student, teacher, gradient = made
    count, columns = student.shape
    if not count or not columns:
        return
    block = min(triton.next_power_of_2(columns), WIDEST)
    into = student if gradient is None else gradient
    given = [found[2] if one is None else one.contiguous() for one in (labels, shares)]
    arguments = (
        student,
        teacher,
        into,
        *found,
        *given,
        student.stride(0),
        teacher.stride(0),
        into.stride(0),
        columns,
        scale,
        formula.temperature,
        formula.soft,
        formula.hard,
        1.0 if shares is None else formula.factor,
    )
    with torch.cuda.device_of(student):
        _rows[(count,)](
            *arguments,
            DIVERGENCE=DIVERGENCES.index(formula.divergence),
            FIND_STATISTICS=find[0],
            FIND_TOTALS=find[1],
            FIND_LOSS=find[2],
            STORE=gradient is not None,
            HARD=bool(formula.hard),
            SHARED=shares is not None,
            BLOCK=block,
            num_warps=max(1, min(16, block // 256)),
        )


def launch_rows(
    student: Tensor, teacher: Tensor, shares: Tensor, labels: Tensor | None, formula: Formula, gradient: Tensor | None
) -> Tensor:
    """Losses [N] of rows of logits [N, V]; the gradient, times the row's share, is written where it is asked for."""
    check_width(student, teacher)
    ours, theirs = (one if one.stride(-1) == 1 else one.contiguous() for one in (student, teacher))
    into = gradient if gradient is None or gradient.stride(-1) == 1 else torch.empty_like(ours)
    totals, losses = torch.zeros(2, len(student), device=student.device)
    found = (totals.new_empty(len(student), 3), totals, losses)
    find, scale = (True, formula.has_totals, True), 1 / formula.temperature
    _launch((ours, theirs, into), found, formula, find=find, scale=scale, labels=labels, shares=shares)
    if gradient is not None and into is not None and into is not gradient:
        gradient.copy_(into)
    return cast(Tensor, losses)


def check_width(*tensors: Tensor) -> None:
    """These kernels compute in fp32.

    Raises:
        ValueError: a tensor has more digits than that.
    """
    if any(one.dtype == torch.float64 for one in tensors):
        raise ValueError("body triton computes in fp32, and an input is float64: ask for chunked")


class TritonTiles:
    """Tiles as `TorchTiles` has them: products by the device's own library, logits held in fp32 as they are.

    Gradients are given in the dtype of the factors, so that their products run on tensor cores.
    """

    def __init__(self, formula: Formula, dtype: torch.dtype) -> None:
        self.formula, self.dtype = formula, dtype

    def product(self, side: int, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Logits [n, c], fp32: states [n, H], weight [c, H], bias [c]."""
        check_width(states, weight)
        common = torch.promote_types(states.dtype, weight.dtype)
        states, weight = states.to(common), weight.to(common)
        if states.is_cuda and common != torch.float32:
            logits = torch.mm(states, weight.T, out_dtype=torch.float32)
        else:
            logits = states.float() @ weight.T.float()
        return logits if bias is None else logits.add_(bias)

    def statistics(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Log-sum-exps [n, 3] over the tile's columns."""
        sums = torch.empty(len(ours), 3, device=ours.device)
        totals, losses = sums.new_zeros(2, len(ours))
        self._run((ours, theirs, None), (sums, totals, losses), (True, False, False))
        return sums

    def log_sum_exp(self, ours: Tensor) -> Tensor:
        """Of one side's tile, [n, c] -> [n]."""
        return self.statistics(ours, ours)[:, 0]

    def totals(self, ours: Tensor, theirs: Tensor, statistics: Tensor) -> Tensor:
        """Part [n] of a row's total in the tile's columns."""
        totals = torch.empty(len(ours), device=ours.device)
        self._run((ours, theirs, None), (statistics.contiguous(), totals, totals), (False, True, False))
        return totals

    def gradient_(
        self, ours: Tensor, theirs: Tensor, statistics: Tensor, totals: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Losses [n] and gradients [n, c] as `TorchTiles.gradient_`."""
        losses = torch.empty(len(ours), device=ours.device)
        slopes = ours if self.dtype == torch.float32 else torch.empty_like(ours, dtype=self.dtype)
        found = (statistics.contiguous(), totals.contiguous(), losses)
        self._run((ours, theirs, slopes), found, (False, False, True), labels)
        return losses, slopes

    def _run(
        self,
        made: tuple[Tensor, Tensor, Tensor | None],
        found: tuple[Tensor, Tensor, Tensor],
        find: tuple[bool, bool, bool],
        labels: Tensor | None = None,
    ) -> None:
        _launch(made, found, self.formula, find=find, scale=1 / self.formula.temperature, labels=labels)

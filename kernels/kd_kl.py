"""`kd_kl`: distillation from two matrices of logits, loss and gradient in one pass over each row.

Plain torch keeps both softmaxes, their logarithms and the gradient, each as large as the logits; here no softmax is
kept, and the gradient may take the place of the student's logits. See `formula` for what is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from compress.kernels.bodies import accumulator, choose
from compress.kernels.formula import Formula, charged, check_rows, shares_of
from compress.kernels.reference import mean_loss
from compress.kernels.saved import gradient_room, times, times_
from compress.kernels.tiles import TorchTiles

TILE = 1 << 18
"""Elements of a tile on the CPU: four fp32 buffers stay in a core's cache."""


def kd_kl(
    student: Tensor,
    teacher: Tensor,
    formula: Formula = Formula(),
    *,
    labels: Tensor | None = None,
    ignore_index: int = -100,
    weights: Tensor | None = None,
    inplace: bool = False,
    body: str = "auto",
) -> Tensor:
    """Mean of the rows' losses by `formula` -> scalar, fp32 (float64 for float64).

    Args:
        student: logits [N, V], any float dtype; the gradient has it too. teacher: logits [N, V]; gets no gradient.
        labels: columns int64 [N]; needed for the weight hard. A row with `ignore_index` counts in neither term.
        weights: of rows, >= 0, [N]; the mean is weighted by them. None: all the same.
        inplace: write the gradient over the student's logits, which are then lost, and its product with the upstream
            gradient over that; backward may run once. They must be what a layer gives, not a leaf. Not under
            torch.compile, which plans memory itself.
        body: see `bodies`.

    Raises:
        ValueError: shapes, labels or settings that do not fit.
        RuntimeError: the body cannot run here.
    """
    _check(student, teacher)
    shares = shares_of(formula, student, labels, weights, ignore_index)
    teacher, kind = teacher.detach(), choose(body, student.device)
    need = torch.is_grad_enabled() and student.requires_grad
    if kind == "reference":
        if inplace:
            raise ValueError("the reference body keeps its own gradient: leave inplace out")
        check_rows(shares, student.shape[1], labels=labels)
        return mean_loss(student, teacher, shares, labels, formula)
    if inplace and need and not torch.compiler.is_compiling():
        _check_memory(student)
        loss = InPlace.apply(student, teacher, shares, labels, formula, kind)  # type: ignore[no-untyped-call] # torch's own
        return cast(Tensor, loss)
    loss, _ = _kd_kl(student, teacher, shares, labels, formula.divergence, formula.numbers, need, kind)
    return cast(Tensor, loss)


def _check(student: Tensor, teacher: Tensor) -> None:
    if student.dim() != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"student's logits have the shape {tuple(student.shape)} and teacher's {tuple(teacher.shape)}: "
            "both must be [N, V]"
        )


def _check_memory(student: Tensor) -> None:
    if student.is_leaf:
        raise ValueError("inplace would write the gradient over a leaf, its own parameter: leave inplace out")
    if 0 in student.stride() and student.numel() > 1:
        raise ValueError(
            f"inplace needs memory of its own for each logit, and strides are {student.stride()}: leave inplace out"
        )


def _chunked(
    student: Tensor, teacher: Tensor, shares: Tensor, labels: Tensor | None, formula: Formula, gradient: Tensor | None
) -> Tensor:
    """The loss; the gradient [N, V] is written where it is asked for, and may be the student's own memory."""
    count, columns = student.shape
    chosen = shares.nonzero().squeeze(1)
    dtype = accumulator(student, teacher)
    step = max(1, min(TILE // max(columns, 1), len(chosen)))
    tiles = TorchTiles(formula, step, columns, dtype, student.device)
    losses = torch.zeros(count, dtype=dtype, device=student.device)
    for rows in torch.split(chosen, step):
        ours, theirs = tiles.copied(student[rows], teacher[rows])
        statistics = tiles.statistics(ours, theirs)
        totals = tiles.totals(ours, theirs, statistics) if formula.has_totals else statistics[:, 0]
        picked = None if labels is None else labels[rows]
        losses[rows], slopes = tiles.gradient_(ours, theirs, statistics, totals, picked)
        if gradient is not None:
            gradient[rows] = slopes.mul_((shares[rows] * formula.factor)[:, None]).to(gradient.dtype)
    if gradient is not None and len(chosen) < count:
        gradient[shares == 0] = 0
    return charged(losses, shares)


def _triton(
    student: Tensor, teacher: Tensor, shares: Tensor, labels: Tensor | None, formula: Formula, gradient: Tensor | None
) -> Tensor:
    from compress.kernels.kd_kl_triton import launch_rows  # triton need not be installed

    return charged(launch_rows(student, teacher, shares, labels, formula, gradient), shares)


RUN: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor | None, Formula, Tensor | None], Tensor]] = {
    "chunked": _chunked,
    "triton": _triton,
}


@torch.library.custom_op("kdc::kd_kl", mutates_args=())
def _kd_kl(
    student: Tensor,
    teacher: Tensor,
    shares: Tensor,
    labels: Tensor | None,
    divergence: str,
    numbers: list[float],
    need_gradient: bool,
    body: str,
) -> tuple[Tensor, Tensor]:
    """Loss, and the gradient [N, V] for the student's logits; [0] where it is not needed."""
    check_rows(shares, student.shape[1], labels=labels)
    gradient = gradient_room(student, need_gradient)
    formula = Formula(divergence, *numbers)
    return RUN[body](student, teacher, shares, labels, formula, gradient if need_gradient else None), gradient


@_kd_kl.register_fake
def _(student: Tensor, teacher: Tensor, *settings: Any) -> tuple[Tensor, Tensor]:
    loss = student.new_empty((), dtype=accumulator(student, teacher))
    return loss, gradient_room(student, settings[-2])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])
    ctx.dtype = inputs[0].dtype


def _backward(ctx: Any, upstream: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    (gradient,) = ctx.saved_tensors
    return (None if upstream is None else times(gradient, upstream, ctx.dtype), *[None] * 7)


_kd_kl.register_autograd(_backward, setup_context=_keep)


class InPlace(torch.autograd.Function):
    """`kd_kl` whose gradient takes the memory of the student's logits.

    It is kept times the number of rows: the gradient of a mean is too small for fp16 until the upstream one lifts it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        shares: Tensor,
        labels: Tensor | None,
        formula: Formula,
        kind: str,
    ) -> Tensor:
        check_rows(shares, student.shape[1], labels=labels)
        logits, ctx.rows = student.detach(), max(len(shares), 1)
        loss = RUN[kind](logits, teacher, shares * ctx.rows, labels, formula, logits)
        ctx.save_for_backward(logits)
        return cast(Tensor, loss / ctx.rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return times_(gradient, upstream / ctx.rows), None, None, None, None, None

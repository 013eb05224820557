"""Mean squared error between projected student states and the teacher's, without the projected states.

FitNets, Romero et al. 2014 (https://arxiv.org/abs/1412.6550); for a transformer's states TinyBERT, Jiao et al. 2019
(https://arxiv.org/abs/1909.10351). Over the N counted positions, with E = x·Wᵀ + b − t:

    loss = Σ E²/(N·H_t)        D = 2·E/(N·H_t)        dx = D·W        dW = Dᵀ·x        db = Σ_n D_n
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compress.kernels.bodies import accumulator, as_autocast, choose
from compress.kernels.saved import gradient_rooms, times

PIECE = 2**19
"""Numbers of E that are worked on at a time: 2 MiB of float32."""
FEWEST_ROWS = 64
"""Positions in a piece at the least: with fewer the products wait for the weight to be read again."""

Found = tuple[Tensor, Tensor, Tensor, Tensor]
"""Loss, and gradients for student, weight and bias; empty where none is needed."""


def hidden_mse(
    student: Tensor,
    weight: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    body: str = "auto",
) -> Tensor:
    """mean((x·Wᵀ + b − t)²) over counted positions and H_t -> scalar; zero, with zero gradients, where none is counted.

    Sums are kept in float32, or float64 where an input is, which is also the loss's dtype. Where the projected states
    are the teacher's, loss and gradients are zero but for the rounding of the product. There is no second derivative.

    Args:
        student: states [..., H_s]; what stands at positions that are not counted is not read.
        weight: [H_t, H_s], as that of `nn.Linear`.
        teacher: states [..., H_t], without a gradient.
        mask: bool [...], True for positions that count; None for all.
        bias: [H_t], or None.
        body: which of the bodies in `bodies.py`.

    Raises:
        ValueError: shapes that do not fit each other, a body of no such name.
        RuntimeError: the body cannot run here.
    """
    _check(student, weight, teacher, mask, bias)
    chosen = choose(body, student.device)
    student, weight = as_autocast(student, weight)
    wanted = [torch.is_grad_enabled() and one is not None and one.requires_grad for one in (student, weight, bias)]
    found: Found = _op(
        student.reshape(-1, student.shape[-1]),
        weight,
        teacher.detach().reshape(-1, teacher.shape[-1]),
        None if mask is None else mask.reshape(-1),
        bias,
        chosen,
        wanted,
    )
    return found[0]


def _check(student: Tensor, weight: Tensor, teacher: Tensor, mask: Tensor | None, bias: Tensor | None) -> None:
    ours, theirs = tuple(student.shape), tuple(teacher.shape)
    if not ours or not theirs or ours[:-1] != theirs[:-1]:
        raise ValueError(
            f"hidden_mse: the student's states are {ours} and the teacher's {theirs}: all but the width must agree"
        )
    if tuple(weight.shape) != (theirs[-1], ours[-1]):
        raise ValueError(
            f"hidden_mse: weight is {tuple(weight.shape)}, and to map {ours[-1]} numbers to {theirs[-1]} it must be "
            f"{(theirs[-1], ours[-1])}"
        )
    if bias is not None and tuple(bias.shape) != theirs[-1:]:
        raise ValueError(f"hidden_mse: bias is {tuple(bias.shape)}, and the teacher's states need {theirs[-1:]}")
    if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != ours[:-1]):
        raise ValueError(
            f"hidden_mse: mask is {mask.dtype} {tuple(mask.shape)} for states {ours}: it must be torch.bool {ours[:-1]}"
        )


@torch.library.custom_op("kdc::hidden_mse", mutates_args=())
def _op(
    student: Tensor,
    weight: Tensor,
    teacher: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    body: str,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`hidden_mse` of states [N, H]; wanted: whether the gradients for student, weight and bias are."""
    with torch.autocast(student.device.type, enabled=False):
        if body == "triton":
            from compress.kernels.hidden_mse_triton import hidden_mse_triton  # needs Triton

            with torch.cuda.device_of(student):  # type: ignore[no-untyped-call] # torch's own
                return hidden_mse_triton(student, weight, teacher, mask, bias, wanted)
        found = reference if body == "reference" else chunked
        return found(student, weight, teacher, mask, bias, wanted)


@_op.register_fake
def _(
    student: Tensor,
    weight: Tensor,
    teacher: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    body: str,
    wanted: list[bool],
) -> Found:
    return student.new_empty((), dtype=accumulator(student, weight, teacher)), *gradient_rooms(
        (student, weight, bias), wanted
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Found) -> None:
    student, weight, _, _, bias, _, wanted = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output[1:])
    ctx.dtypes = [one.dtype if want else None for one, want in zip((student, weight, bias), wanted, strict=True)]


def _backward(ctx: Any, upstream: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    student, weight, bias = (
        None if dtype is None or upstream is None else times(kept, upstream, dtype)
        for kept, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
    )
    return student, weight, None, None, bias, None, None


_op.register_autograd(_backward, setup_context=_keep)


def chunked(
    student: Tensor, weight: Tensor, teacher: Tensor, mask: Tensor | None, bias: Tensor | None, wanted: list[bool]
) -> Found:
    """Pieces of some counted positions; loss and gradients of each while its E is in the cache."""
    kind = accumulator(student, weight, teacher)
    wide, shift = weight.to(kind), None if bias is None else bias.to(kind)
    counted = None if mask is None else mask.nonzero().squeeze(-1)
    count = len(student if counted is None else counted)
    rooms = gradient_rooms((student, weight, bias), wanted)
    rooms[0].zero_()
    sums = [torch.zeros_like(room, dtype=kind) for room in rooms[1:]]
    loss = student.new_zeros((), dtype=kind)
    step = max(FEWEST_ROWS, PIECE // max(weight.shape))
    room_s, room = (
        student.new_empty((min(step, count), width), dtype=kind) for width in student.shape[1:] + teacher.shape[1:]
    )
    share = 1 / max(1, count * len(weight))
    for start in range(0, count, step):
        piece = slice(start, min(start + step, count))
        rows = piece if counted is None else counted[piece]
        states, target = student[rows].to(kind), teacher[rows].to(kind)
        error = torch.addmm(target, states, wide.t(), beta=-1, out=room[: len(states)])
        if shift is not None:
            error += shift
        loss += torch.dot(error.view(-1), error.view(-1)) * share
        if wanted[0]:
            found = torch.addmm(states, error, wide, beta=0, alpha=2 * share, out=room_s[: len(states)])
            rooms[0][rows] = found.to(rooms[0].dtype)
        if wanted[1]:
            sums[0].addmm_(error.t(), states, alpha=2 * share)
        if wanted[2]:
            sums[1].add_(error.sum(0), alpha=2 * share)
    return loss, rooms[0], sums[0].to(rooms[1].dtype), sums[1].to(rooms[2].dtype)


def reference(
    student: Tensor, weight: Tensor, teacher: Tensor, mask: Tensor | None, bias: Tensor | None, wanted: list[bool]
) -> Found:
    """The formula in float64, every position at once."""
    counted = torch.ones(len(student), dtype=torch.bool, device=student.device) if mask is None else mask
    states, wide = student.double().masked_fill(~counted[:, None], 0), weight.double()
    error = states @ wide.t() - teacher.double()
    if bias is not None:
        error = error + bias.double()
    error = error.masked_fill(~counted[:, None], 0)
    size = (counted.sum() * len(weight)).clamp_min(1)
    part = 2 * error / size
    rooms = gradient_rooms((student, weight, bias), wanted)
    for room, found, want in zip(rooms, (part @ wide, part.t() @ states, part.sum(0)), wanted, strict=True):
        if want:
            room.copy_(found)
    return (error.square().sum() / size).to(accumulator(student, weight, teacher)), *rooms

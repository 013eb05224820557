"""Relation distillation in one pass: KL(teacher || student) of softmax(A·Aᵀ/√d), without a [B, heads, T, T] tensor.

MiniLMv2, Wang et al. 2021 (https://arxiv.org/abs/2012.15828). With S = A·Aᵀ/√d of the student, P = softmax(S), Q the
teacher's P, and w_i the share of query i in the mean (zero for padding):

    loss = Σ_i w_i Σ_j Q_ij·(log Q_ij − log P_ij)        G_ij = w_i·(P_ij − Q_ij)        dA = (G + Gᵀ)·A/√d
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from compress.kernels.bodies import accumulator, as_autocast, choose
from compress.kernels.saved import gradient_room, kept_dtype, times

PIECE = 2**18
"""Relations that are worked on at a time: 1 MiB of float32, three of which are in use."""


def relation_kd(student: Tensor, teacher: Tensor, mask: Tensor, heads: int, *, body: str = "auto") -> Tensor:
    """KL(teacher's relations || student's), mean over a row's real tokens and the heads, then over rows -> scalar.

    A row without a real token is no part of the mean; where there is no other row, or B = 0, the loss and its gradient
    are zero. Both are exactly zero where student and teacher have the same states; near there rounding may leave a
    loss just below zero. Sums are kept in float32, or float64 where an input is, which is also the loss's dtype. It has
    no second derivative.

    Args:
        student: states [B, T, H_s], finite; the gradient is for them alone.
        teacher: states [B, T, H_t], finite; of the same tokens, the width may be another.
        mask: bool [B, T], True for real tokens.
        heads: relation heads, of which each takes H/heads numbers of a state, in turn.
        body: which of the bodies in `bodies.py`.

    Raises:
        ValueError: shapes that do not fit each other, heads that do not divide a width, a body of no such name.
        RuntimeError: the body cannot run here.
    """
    _check(student, teacher, mask, heads)
    chosen = choose(body, student.device)
    student, teacher = as_autocast(student, teacher.detach())
    found: tuple[Tensor, Tensor] = _op(
        student, teacher, mask, heads, chosen, torch.is_grad_enabled() and student.requires_grad
    )
    return found[0]


def _check(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> None:
    ours, theirs = tuple(student.shape), tuple(teacher.shape)
    if len(ours) != 3 or len(theirs) != 3 or ours[:2] != theirs[:2]:
        raise ValueError(
            f"relation_kd: the student's states are {ours} and the teacher's {theirs}: both must be [B, T, width] with "
            "the same B and T"
        )
    if mask.dtype != torch.bool or mask.shape != student.shape[:2]:
        raise ValueError(
            f"relation_kd: mask is {mask.dtype} {tuple(mask.shape)} for states {ours}: it must be torch.bool {ours[:2]}"
        )
    for side, width in (("student", ours[2]), ("teacher", theirs[2])):
        if heads < 1 or width % heads or not width:
            raise ValueError(f"relation_kd: {heads} heads do not divide the {side}'s width, which is {width}")


@torch.library.custom_op("kdc::relation_kd", mutates_args=())
def _op(
    student: Tensor, teacher: Tensor, mask: Tensor, heads: int, body: str, need_grad: bool
) -> tuple[Tensor, Tensor]:
    """Loss, and its gradient for the student's states, or an empty tensor."""
    with torch.autocast(student.device.type, enabled=False):
        if body == "triton":
            from compress.kernels.relation_kd_triton import relation_kd_triton  # needs Triton

            shares = query_shares(student, teacher, mask, heads)
            with torch.cuda.device_of(student):  # type: ignore[no-untyped-call] # torch's own
                return relation_kd_triton(student, teacher, mask, shares, heads, need_grad)
        found = reference if body == "reference" else chunked
        return found(student, teacher, mask, heads, need_grad)


@_op.register_fake
def _(student: Tensor, teacher: Tensor, mask: Tensor, heads: int, body: str, need_grad: bool) -> tuple[Tensor, Tensor]:
    return student.new_empty((), dtype=accumulator(student, teacher)), gradient_room(student, need_grad)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])
    ctx.dtype, ctx.need_grad = inputs[0].dtype, inputs[-1]


def _backward(ctx: Any, upstream: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    (gradient,) = ctx.saved_tensors
    found = times(gradient, upstream, ctx.dtype) if upstream is not None and ctx.need_grad else None
    return found, None, None, None, None, None


_op.register_autograd(_backward, setup_context=_keep)


def query_shares(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """w: what each query's divergence counts in the loss, [B, T]: 1/(rows · heads · tokens of its row), or zero."""
    tokens = mask.sum(1, keepdim=True)
    rows = (tokens > 0).sum()
    return mask.to(accumulator(student, teacher)) / (tokens * rows * heads).clamp_min(1)


def _split(states: Tensor, heads: int) -> Tensor:
    """A view: [B, T, heads·d] -> [B, heads, T, d]."""
    rows, tokens, width = states.shape
    return states.view(rows, tokens, heads, width // heads).transpose(1, 2)


def chunked(student: Tensor, teacher: Tensor, mask: Tensor, heads: int, need_grad: bool) -> tuple[Tensor, Tensor]:
    """Pieces of several rows and heads, or of some queries of one, each in the cache for loss and gradient."""
    rows, tokens, _ = student.shape
    loss = student.new_zeros((), dtype=accumulator(student, teacher))
    gradient = gradient_room(student, need_grad)
    if not student.numel():
        return loss, gradient
    ours, theirs = _split(student, heads), _split(teacher, heads)
    pairs = max(1, PIECE // (tokens * max(tokens, ours.shape[-1], theirs.shape[-1])))
    piece = _Piece(ours, theirs, min(pairs, rows * heads), need_grad)
    bias = torch.zeros_like(mask, dtype=loss.dtype).masked_fill_(~mask, torch.finfo(loss.dtype).min)
    shares = query_shares(student, teacher, mask, heads)
    for row in range(0, rows, max(1, pairs // heads)):
        these = slice(row, row + max(1, pairs // heads))
        for head in range(0, heads, pairs):
            part = (these, slice(head, head + pairs))
            loss += piece.divergence(ours[part], theirs[part], bias[these], shares[these])
            if need_grad:
                _split(gradient, heads)[part].copy_(piece.gradient.view_as(ours[part]))
    return loss, gradient


class _Piece:
    """Room for some pairs of a row and a head, and what is done with them; every piece takes the same."""

    def __init__(self, ours: Tensor, theirs: Tensor, pairs: int, need_grad: bool) -> None:
        tokens = ours.shape[-2]
        self.queries = min(tokens, max(1, PIECE // tokens))
        dtype = accumulator(ours, theirs)
        self.states = [side.new_empty((pairs, tokens, side.shape[-1]), dtype=dtype) for side in (ours, theirs)]
        self.room = [ours.new_empty((pairs, self.queries, tokens), dtype=dtype) for _ in range(3)]
        self.sums, self.need_grad, self.pairs = torch.empty_like(self.states[0]), need_grad, pairs

    @property
    def gradient(self) -> Tensor:
        """For the states that were given last, where it is needed: [pairs, T, d]."""
        return self.sums[: self.pairs]

    def divergence(self, ours: Tensor, theirs: Tensor, bias: Tensor, shares: Tensor) -> Tensor:
        """Their part of the loss: states [rows, heads, T, d], bias on keys and shares of queries [rows, T]."""
        rows, heads, tokens, _ = ours.shape
        self.pairs = rows * heads
        for room, side in zip(self.states, (ours, theirs), strict=True):
            room[: self.pairs].view_as(side).copy_(side)
        bias, shares = (one[:, None].expand(-1, heads, -1).reshape(self.pairs, tokens) for one in (bias, shares))
        self.gradient.zero_()
        blocks = [slice(at, min(at + self.queries, tokens)) for at in range(0, tokens, self.queries)]
        return torch.stack([self._block(queries, bias, shares) for queries in blocks]).sum()

    def _block(self, queries: slice, bias: Tensor, shares: Tensor) -> Tensor:
        """The part of some queries against all keys."""
        a, b = (room[: self.pairs] for room in self.states)
        scores, other, certain = (room[: self.pairs, : queries.stop - queries.start] for room in self.room)
        for side, result in ((a, scores), (b, other)):
            scale = side.shape[-1] ** -0.5
            torch.baddbmm(bias[:, None], side[:, queries], side.transpose(1, 2), alpha=scale, out=result)
        # Σ_j Q_ij·(t_ij − s_ij) − lse(t_i) + lse(s_i), with lse(x) = max x − log max softmax(x)
        highest = other.amax(-1) - scores.amax(-1)
        torch.softmax(other, -1, out=certain)
        divergence = other.sub_(scores).mul_(certain).sum(-1) - highest + certain.amax(-1).log()
        torch.softmax(scores, -1, out=other)
        divergence -= other.amax(-1).log()
        if self.need_grad:
            self._add_gradient(queries, other.sub_(certain).mul_(shares[:, queries, None]))
        return (divergence * shares[:, queries]).sum()

    def _add_gradient(self, queries: slice, part: Tensor) -> None:
        """dA += (G + Gᵀ)·A/√d of some rows of G."""
        states, scale = self.states[0][: self.pairs], self.states[0].shape[-1] ** -0.5
        self.gradient[:, queries].baddbmm_(part, states, alpha=scale)
        self.gradient.baddbmm_(part.transpose(1, 2), states[:, queries], alpha=scale)


def reference(student: Tensor, teacher: Tensor, mask: Tensor, heads: int, need_grad: bool) -> tuple[Tensor, Tensor]:
    """The formula in float64, every relation at once."""
    ours, theirs = _split(student.double(), heads), _split(teacher.double(), heads)
    logs = []
    for side in (ours, theirs):
        scores = side @ side.transpose(-1, -2) / math.sqrt(side.shape[-1])
        logs.append(scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min).log_softmax(-1))
    shares = query_shares(student.double(), teacher, mask, heads)[:, None, :, None]
    loss = (shares * logs[1].exp() * (logs[1] - logs[0])).sum().to(accumulator(student, teacher))
    if not need_grad:
        return loss, gradient_room(student, need_grad)
    part = shares * (logs[0].exp() - logs[1].exp())
    gradient = (part + part.transpose(-1, -2)) @ ours / math.sqrt(ours.shape[-1])
    return loss, gradient.transpose(1, 2).flatten(2).to(kept_dtype(student))

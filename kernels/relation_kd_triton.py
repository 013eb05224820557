"""Triton's body of `relation_kd`: two kernels, each with one program for a block of queries of one row and head.

As in FlashAttention (Dao et al. 2022, https://arxiv.org/abs/2205.14135) scores live in registers alone. The first
kernel finds each query's log-sum-exp, the second makes the scores again for loss and gradient. S is symmetric, so the
scores of queries i against keys j also say what queries j see in keys i: every program sums the whole gradient of its
own tokens, and nothing is added to by two of them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from compress.kernels.bodies import accumulator
from compress.kernels.saved import gradient_room
from compress.kernels.triton_inputs import dot_precision, dot_ready

WIDEST = 256
"""Numbers of a head: a block of 16 tokens of them, four times, is what fits into a multiprocessor."""
NOT_THERE = tl.constexpr(-1e38)
"""Score of padding: its exponential is zero, and the difference of two is not infinite."""


@triton.jit
def _load_states(states, at, real, stride, SIZE: tl.constexpr, WIDTH: tl.constexpr):
    """One head's numbers of some tokens, [BLOCK, WIDTH]; zero beyond its SIZE and for padding."""
    column = tl.arange(0, WIDTH)[None, :]
    return tl.load(states + at[:, None] * stride + column, mask=real[:, None] & (column < SIZE), other=0.0)


@triton.jit
def _scores(queries, keys, SIZE: tl.constexpr, PRECISION: tl.constexpr, KIND: tl.constexpr):
    # S = A·Aᵀ/√d
    return tl.dot(queries, tl.trans(keys), input_precision=PRECISION).to(KIND) * (1.0 / SIZE**0.5)


@triton.jit
def _add_block(scores, highest, total):
    """The online log-sum-exp: the highest score so far, and Σ exp(score − highest)."""
    # m' = max(m, max_j S_ij)    l' = l·e^{m − m'} + Σ_j e^{S_ij − m'}
    now = tl.maximum(highest, tl.max(scores, 1))
    return now, total * tl.exp(highest - now) + tl.sum(tl.exp(scores - now[:, None]), 1)


@triton.jit
def _log_sums(
    student,  # [B, T, heads·D_S]
    teacher,  # [B, T, heads·D_T]
    mask,  # uint8 [B, T]
    sums_s,  # [B·heads, T], out: log Σ_j exp S_ij of the student
    sums_t,  # [B·heads, T], out: and of the teacher
    tokens,
    heads,
    row_s,
    token_s,
    row_t,
    token_t,
    D_S: tl.constexpr,
    D_T: tl.constexpr,
    WIDTH_S: tl.constexpr,
    WIDTH_T: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    KIND: tl.constexpr = sums_s.dtype.element_ty
    pair = tl.program_id(0).to(tl.int64)
    row, head = pair // heads, pair % heads
    student += row * row_s + head * D_S
    teacher += row * row_t + head * D_T
    query = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_query = tl.load(mask + row * tokens + query, mask=query < tokens, other=0) != 0
    a_i = _load_states(student, query, is_query, token_s, D_S, WIDTH_S)
    b_i = _load_states(teacher, query, is_query, token_t, D_T, WIDTH_T)
    high_s = tl.full([BLOCK], NOT_THERE, KIND)
    high_t = tl.full([BLOCK], NOT_THERE, KIND)
    total_s = tl.zeros([BLOCK], KIND)
    total_t = tl.zeros([BLOCK], KIND)
    for start in range(0, tokens, BLOCK):
        key = start + tl.arange(0, BLOCK)
        is_key = tl.load(mask + row * tokens + key, mask=key < tokens, other=0) != 0
        a_j = _load_states(student, key, is_key, token_s, D_S, WIDTH_S)
        b_j = _load_states(teacher, key, is_key, token_t, D_T, WIDTH_T)
        s = tl.where(is_key[None, :], _scores(a_i, a_j, D_S, PRECISION, KIND), NOT_THERE)
        t = tl.where(is_key[None, :], _scores(b_i, b_j, D_T, PRECISION, KIND), NOT_THERE)
        high_s, total_s = _add_block(s, high_s, total_s)
        high_t, total_t = _add_block(t, high_t, total_t)
    # log Σ_j exp S_ij = m + log l
    tl.store(sums_s + pair * tokens + query, high_s + tl.log(total_s), mask=query < tokens)
    tl.store(sums_t + pair * tokens + query, high_t + tl.log(total_t), mask=query < tokens)


@triton.jit
def _divergence(
    student,  # [B, T, heads·D_S]
    teacher,  # [B, T, heads·D_T]
    mask,  # uint8 [B, T]
    shares,  # [B, T]: w
    sums_s,  # [B·heads, T]
    sums_t,  # [B·heads, T]
    parts,  # [B·heads, query blocks], out: of the loss
    gradient,  # [B, T, heads·D_S], out: contiguous
    tokens,
    heads,
    row_s,
    token_s,
    row_t,
    token_t,
    D_S: tl.constexpr,
    D_T: tl.constexpr,
    WIDTH_S: tl.constexpr,
    WIDTH_T: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
    NEED_GRAD: tl.constexpr,
):
    KIND: tl.constexpr = sums_s.dtype.element_ty
    pair = tl.program_id(0).to(tl.int64)
    row, head = pair // heads, pair % heads
    student += row * row_s + head * D_S
    teacher += row * row_t + head * D_T
    query = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_query = tl.load(mask + row * tokens + query, mask=query < tokens, other=0) != 0
    share = tl.load(shares + row * tokens + query, mask=query < tokens, other=0.0)
    a_i = _load_states(student, query, is_query, token_s, D_S, WIDTH_S)
    b_i = _load_states(teacher, query, is_query, token_t, D_T, WIDTH_T)
    sum_s_i = tl.load(sums_s + pair * tokens + query, mask=query < tokens, other=0.0)
    sum_t_i = tl.load(sums_t + pair * tokens + query, mask=query < tokens, other=0.0)
    divergence = tl.zeros([BLOCK], KIND)
    total = tl.zeros([BLOCK, WIDTH_S], KIND)
    for start in range(0, tokens, BLOCK):
        key = start + tl.arange(0, BLOCK)
        is_key = tl.load(mask + row * tokens + key, mask=key < tokens, other=0) != 0
        both = is_query[:, None] & is_key[None, :]
        a_j = _load_states(student, key, is_key, token_s, D_S, WIDTH_S)
        b_j = _load_states(teacher, key, is_key, token_t, D_T, WIDTH_T)
        s = tl.where(both, _scores(a_i, a_j, D_S, PRECISION, KIND), NOT_THERE)
        t = tl.where(both, _scores(b_i, b_j, D_T, PRECISION, KIND), NOT_THERE)
        # Σ_j Q_ij·(log Q_ij − log P_ij), with log P_ij = S_ij − log Σ_k exp S_ik
        log_p = s - sum_s_i[:, None]
        log_q = t - sum_t_i[:, None]
        p = tl.exp(log_p)
        q = tl.exp(log_q)
        divergence += tl.sum(q * (log_q - log_p), 1)
        if NEED_GRAD:
            # (G + Gᵀ)_ij / w = (P_ij − Q_ij) + (P_ji − Q_ji), with P_ji = exp(S_ij − log Σ_k exp S_jk)
            sum_s_j = tl.load(sums_s + pair * tokens + key, mask=key < tokens, other=0.0)
            sum_t_j = tl.load(sums_t + pair * tokens + key, mask=key < tokens, other=0.0)
            g = p - q + (tl.exp(s - sum_s_j[None, :]) - tl.exp(t - sum_t_j[None, :]))
            total += tl.dot(g.to(a_j.dtype), a_j, input_precision=PRECISION).to(KIND)
    tl.store(parts + pair * tl.num_programs(1) + tl.program_id(1), tl.sum(divergence * share, 0))
    if NEED_GRAD:
        # dA = w·((G + Gᵀ)/w)·A/√d: w is the same for all real tokens of a row
        column = tl.arange(0, WIDTH_S)[None, :]
        place = (row * tokens + query[:, None]) * (heads * D_S) + head * D_S + column
        found = total * share[:, None] * (1.0 / D_S**0.5)
        tl.store(gradient + place, found, mask=(query < tokens)[:, None] & (column < D_S))


def relation_kd_triton(
    student: Tensor, teacher: Tensor, mask: Tensor, shares: Tensor, heads: int, need_grad: bool
) -> tuple[Tensor, Tensor]:
    """Loss and the student's gradient (empty where none is needed); shares [B, T] are the queries' in the loss."""
    kind = accumulator(student, teacher)
    gradient = gradient_room(student, need_grad)
    if not student.numel():
        return student.new_zeros((), dtype=kind), gradient
    student, teacher = dot_ready(student, teacher)
    (rows, tokens), size_s, size_t = mask.shape, student.shape[2] // heads, teacher.shape[2] // heads
    if max(size_s, size_t) > WIDEST:
        raise ValueError(
            f"relation_kd: body triton takes heads of up to {WIDEST} numbers, and these have {max(size_s, size_t)}: "
            "use more heads, or ask for chunked"
        )
    width_s, width_t = (max(16, triton.next_power_of_2(size)) for size in (size_s, size_t))
    most = 64 if max(student.element_size(), teacher.element_size()) == 2 else 32
    block = max(16, min(most, most * 64 // max(width_s, width_t), triton.next_power_of_2(tokens)))
    grid = (rows * heads, triton.cdiv(tokens, block))
    sums_s, sums_t = (student.new_empty((rows * heads, tokens), dtype=kind) for _ in range(2))
    parts = student.new_empty(grid, dtype=kind)
    real, shares = mask.contiguous().view(torch.uint8), shares.contiguous()
    sizes = (tokens, heads, *student.stride()[:2], *teacher.stride()[:2], size_s, size_t, width_s, width_t, block)
    _log_sums[grid](student, teacher, real, sums_s, sums_t, *sizes, dot_precision())
    _divergence[grid](
        student, teacher, real, shares, sums_s, sums_t, parts, gradient, *sizes, dot_precision(), need_grad
    )
    return parts.sum(), gradient

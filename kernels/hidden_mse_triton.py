"""Triton's body of `hidden_mse`: E in pieces of some positions, and three kernels on each.

As in Liger's fused linear losses (Hsu et al. 2024, https://arxiv.org/abs/2410.10989) a piece of E is small enough to
stay in the L2 cache between the kernels. The first makes it and sums its squares, the second makes dx of it, the third
adds to dW and db. Which positions count is known to the device alone: a list of them and its length are read there, so
that the host waits for nothing, and blocks beyond its end do nothing.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from compress.kernels.bodies import accumulator
from compress.kernels.saved import gradient_rooms
from compress.kernels.triton_inputs import dot_precision, dot_ready

PIECE_BYTES = 16 * 2**20
"""Of E that are there at a time: a third of an H100's L2 cache."""
PROGRAMS = 128
"""About as many as an H100 has multiprocessors: where dW has fewer tiles, several programs share its rows."""
TILE, INNER = 64, 32
"""Rows and columns of what one program makes, and how many of a product's terms it reads at a time."""


@triton.jit
def _block(matrix, row, is_row, stride, column, columns):
    """Some rows and columns of a matrix, zero beyond its end and where `is_row` is not."""
    return tl.load(
        matrix + row.to(tl.int64)[:, None] * stride + column[None, :],
        mask=is_row[:, None] & (column < columns)[None, :],
        other=0.0,
    )


@triton.jit
def _errors(
    student,  # [N, H_S]
    weight,  # [H_T, H_S]
    teacher,  # [N, H_T]
    bias,  # [H_T], or any pointer without HAS_BIAS
    counted,  # [N]: numbers of the positions, those that count first
    count,  # [1]: how many count
    errors,  # [rows, H_T], out: E of positions counted[start : start + rows]
    squares,  # [row blocks of N, blocks of H_T], out: Σ E² of each block
    start,
    row_s,
    row_w,
    row_t,
    width_s,
    width_t,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    KIND: tl.constexpr = squares.dtype.element_ty
    local = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    last = tl.load(count) - start
    if tl.program_id(0) * ROWS < last:
        is_row = local < last
        row = tl.load(counted + start + local, mask=is_row, other=0)
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        # E = x·Wᵀ + b − t
        error = tl.zeros([ROWS, COLUMNS], KIND)
        for k in range(0, width_s, INNER):
            inner = k + tl.arange(0, INNER)
            x = _block(student, row, is_row, row_s, inner, width_s)
            w = _block(weight, column, column < width_t, row_w, inner, width_s)
            error += tl.dot(x, tl.trans(w), input_precision=PRECISION).to(KIND)
        if HAS_BIAS:
            error += tl.load(bias + column, mask=column < width_t, other=0.0).to(KIND)[None, :]
        error -= _block(teacher, row, is_row, row_t, column, width_t).to(KIND)
        within = is_row[:, None] & (column < width_t)[None, :]
        error = tl.where(within, error, 0.0)
        block = (start // ROWS + tl.program_id(0)) * tl.num_programs(1) + tl.program_id(1)
        tl.store(squares + block, tl.sum(error * error))
        tl.store(errors + local[:, None] * width_t + column[None, :], error, mask=within)


@triton.jit
def _student_gradient(
    errors,  # [rows, H_T]
    weight,  # [H_T, H_S]
    counted,  # [N]
    count,  # [1]
    scale,  # [1]: 2/(N·H_T) of the counted positions
    gradient,  # [N, H_S], out: contiguous
    start,
    row_w,
    width_s,
    width_t,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    KIND: tl.constexpr = scale.dtype.element_ty
    local = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    last = tl.load(count) - start
    if tl.program_id(0) * ROWS < last:
        is_row = local < last
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        # dx = 2·E·W/(N·H_T)
        total = tl.zeros([ROWS, COLUMNS], KIND)
        for k in range(0, width_t, INNER):
            inner = k + tl.arange(0, INNER)
            e = _block(errors, local, is_row, width_t, inner, width_t)
            w = _block(weight, inner, inner < width_t, row_w, column, width_s)
            total += tl.dot(e, w, input_precision=PRECISION).to(KIND)
        row = tl.load(counted + start + local, mask=is_row, other=0).to(tl.int64)
        within = is_row[:, None] & (column < width_s)[None, :]
        tl.store(gradient + row[:, None] * width_s + column[None, :], total * tl.load(scale), mask=within)


@triton.jit
def _weight_gradient(
    errors,  # [rows, H_T]
    student,  # [N, H_S]
    counted,  # [N]
    count,  # [1]
    weight_sums,  # [splits, H_T, H_S], added to: Eᵀ·x of every splits-th block of positions
    bias_sums,  # [splits, H_T], added to: Σ E
    start,
    rows,
    row_s,
    width_s,
    width_t,
    NEED_WEIGHT: tl.constexpr,
    NEED_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    KIND: tl.constexpr = weight_sums.dtype.element_ty
    t_column = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    s_column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.program_id(2)
    last = tl.minimum(tl.load(count) - start, rows)
    # dW = 2·Eᵀ·x/(N·H_T)    db = 2·Σ_n E_n/(N·H_T), both without their factor
    total = tl.zeros([ROWS, COLUMNS], KIND)
    shift = tl.zeros([ROWS], KIND)
    for first in range(split * INNER, last, INNER * tl.num_programs(2)):
        local = first + tl.arange(0, INNER)
        is_row = local < last
        e = _block(errors, local, is_row, width_t, t_column, width_t)
        if NEED_WEIGHT:
            row = tl.load(counted + start + local, mask=is_row, other=0)
            x = _block(student, row, is_row, row_s, s_column, width_s)
            total += tl.dot(tl.trans(e), x, input_precision=PRECISION).to(KIND)
        if NEED_BIAS and tl.program_id(1) == 0:
            shift += tl.sum(e.to(KIND), 0)
    if NEED_WEIGHT:
        place = (split.to(tl.int64) * width_t + t_column[:, None]) * width_s + s_column[None, :]
        within = (t_column < width_t)[:, None] & (s_column < width_s)[None, :]
        tl.store(weight_sums + place, tl.load(weight_sums + place, mask=within, other=0.0) + total, mask=within)
    if NEED_BIAS and tl.program_id(1) == 0:
        shifts = bias_sums + split * width_t + t_column
        tl.store(shifts, tl.load(shifts, mask=t_column < width_t, other=0.0) + shift, mask=t_column < width_t)


def hidden_mse_triton(
    student: Tensor, weight: Tensor, teacher: Tensor, mask: Tensor | None, bias: Tensor | None, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss of states [N, H], and gradients for student, weight and bias (empty where not wanted)."""
    kind = accumulator(student, weight, teacher)
    rooms = gradient_rooms((student, weight, bias), wanted)
    counted, count = _counted(student, mask)
    scale = 2 / (count * len(weight)).clamp_min(1).to(kind)
    factor = torch.promote_types(student.dtype, weight.dtype)
    student, weight, teacher = dot_ready(student.to(factor), weight.to(factor), teacher)
    bias = None if bias is None else bias.contiguous()
    (positions, width_s), width_t = student.shape, len(weight)
    rows = max(1, min(positions, PIECE_BYTES // (width_t * student.element_size())))
    rows = triton.cdiv(rows, TILE) * TILE
    tiles_s, tiles_t = triton.cdiv(width_s, TILE), triton.cdiv(width_t, TILE)
    splits = max(1, min(PROGRAMS // (tiles_s * tiles_t), rows // TILE))
    errors = student.new_empty((rows, width_t))
    squares = student.new_zeros((triton.cdiv(positions, TILE), tiles_t), dtype=kind)
    weight_sums = student.new_zeros((splits, width_t, width_s) if wanted[1] else (0,), dtype=kind)
    bias_sums = student.new_zeros((splits, width_t) if wanted[2] else (0,), dtype=kind)
    if mask is not None:
        rooms[0].zero_()
    blocks = {"ROWS": TILE, "COLUMNS": TILE, "INNER": INNER, "PRECISION": dot_precision()}
    strides = student.stride(0), weight.stride(0), teacher.stride(0)
    for start in range(0, positions, rows):
        here = min(rows, positions - start)
        grid = (triton.cdiv(here, TILE), tiles_t)
        _errors[grid](
            student, weight, teacher, weight if bias is None else bias, counted, count, errors, squares, start,
            *strides, width_s, width_t, bias is not None, **blocks,
        )  # fmt: skip
        if wanted[0]:
            _student_gradient[grid[0], tiles_s](
                errors, weight, counted, count, scale, rooms[0], start, strides[1], width_s, width_t, **blocks
            )
        if wanted[1] or wanted[2]:
            _weight_gradient[tiles_t, tiles_s if wanted[1] else 1, splits](
                errors, student, counted, count, weight_sums, bias_sums, start, here, strides[0], width_s, width_t,
                wanted[1], wanted[2], **blocks,
            )  # fmt: skip
    for room, sums, want in zip(rooms[1:], (weight_sums, bias_sums), wanted[1:], strict=True):
        if want:
            room.copy_(sums.sum(0) * scale)
    return squares.sum() * scale[0] / 2, *rooms


def _counted(student: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Numbers of the positions, those that count first, [N]; how many they are, [1]."""
    if mask is None:
        positions = torch.arange(len(student), device=student.device)
        return positions, torch.full((1,), len(student), device=student.device)
    return torch.argsort((~mask).to(torch.uint8), stable=True), mask.sum().reshape(1)

"""What `benchmarks.kernels` times: for each case its inputs, kdc's kernel, torch's eager formula and Liger's kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.kernels.formula import Formula
from compress.kernels.hidden_mse import hidden_mse
from compress.kernels.kd_kl import kd_kl
from compress.kernels.linear_kd import Head, Largest, linear_kd
from compress.kernels.relation_kd import relation_kd

TEMPERATURE = 2.0
FORMULA = Formula("kl", TEMPERATURE)
JENSEN_SHANNON = Formula("jensen_shannon", TEMPERATURE)
LIGER_BETA = {"kl": 0.0, "jensen_shannon": 0.5}
"""Liger's generalized Jensen-Shannon divergence: 0 is KL(teacher || student)."""

Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """One loss at one size.

    Attributes:
        sizes: as they are shown. leaves: what gets a gradient. runs: a scalar loss from each contestant, kdc's first.
        needs: bytes that a contestant's matrices take beyond inputs and gradients, where they may not fit.
        moves: bytes that are read or written at the least, where memory is the roof.
    """

    kernel: str
    sizes: Mapping[str, int | str]
    leaves: tuple[Tensor, ...]
    runs: Mapping[str, Run]
    needs: Mapping[str, int] = field(default_factory=dict)
    moves: int | None = None


def eager(student: Tensor, teacher: Tensor, divergence: str = "kl") -> Tensor:
    """The plain formula of logits [N, V], mean over rows."""
    ls, lt = (F.log_softmax(side / TEMPERATURE, -1) for side in (student, teacher))
    if divergence == "kl":
        return F.kl_div(ls, lt, reduction="batchmean", log_target=True) * TEMPERATURE**2
    middle = torch.logaddexp(ls, lt) - math.log(2)
    both = [F.kl_div(middle, side, reduction="batchmean", log_target=True) for side in (ls, lt)]
    return 0.5 * (both[0] + both[1]) * TEMPERATURE**2


def linear(device: torch.device, dtype: torch.dtype, rows: int, columns: int, width: int, formula: Formula) -> Case:
    """`linear_kd` against a whole teacher of the same width."""
    states, theirs = (torch.randn(rows, width, device=device, dtype=dtype) for _ in range(2))
    weight, their_weight = (torch.randn(columns, width, device=device, dtype=dtype) * 0.1 for _ in range(2))
    leaves = (states.requires_grad_(), weight.requires_grad_())
    logits = rows * columns * states.element_size()
    return Case(
        "linear_kd",
        {"N": rows, "V": columns, "H": width, "loss": formula.divergence},
        leaves,
        {
            "kdc": lambda: linear_kd(Head(states, weight), Head(theirs, their_weight), formula),
            "torch": lambda: eager(states @ weight.T, theirs @ their_weight.T, formula.divergence),
            "Liger": lambda: _liger(leaves, (theirs, their_weight), formula),
        },
        {"torch": 6 * logits, "Liger": 6 * min(logits, 1024 * columns * states.element_size())},
    )


def _liger(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], formula: Formula) -> Tensor:
    """Liger's chunked distillation loss, soft targets alone, on the scale of ours; without labels' loss, as we are."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0,
        weight_soft_loss=formula.temperature**2,
        beta=LIGER_BETA[formula.divergence],
        temperature=formula.temperature,
        compiled=student[0].is_cuda,  # on the CPU its compiled chunks are no faster, and take a C++ compiler
    )
    labels = torch.zeros(len(student[0]), dtype=torch.int64, device=student[0].device)
    found: Tensor = loss(*student, *teacher, labels)
    return found


def sparse(device: torch.device, dtype: torch.dtype, rows: int, columns: int, width: int, top_k: int) -> Case:
    """`linear_kd` against the largest logits of a teacher."""
    states = torch.randn(rows, width, device=device, dtype=dtype).requires_grad_()
    weight = (torch.randn(columns, width, device=device, dtype=dtype) * 0.1).requires_grad_()
    indices = torch.stack([torch.randperm(columns, device=device)[:top_k] for _ in range(rows)])
    said = Largest(indices, torch.randn(rows, top_k + 1, device=device))

    def plain() -> Tensor:
        logits = states @ weight.T
        rest = logits.scatter(1, indices, -torch.inf).logsumexp(1, keepdim=True)
        return eager(torch.cat([logits.gather(1, indices), rest], 1), said.logits)

    return Case(
        "linear_kd",
        {"N": rows, "V": columns, "H": width, "loss": f"kl, {top_k} largest"},
        (states, weight),
        {"kdc": lambda: linear_kd(Head(states, weight), said, FORMULA), "torch": plain},
        {"torch": 4 * rows * columns * states.element_size()},
    )


def logits(device: torch.device, dtype: torch.dtype, rows: int, columns: int) -> Case:
    """`kd_kl`, with and without the gradient in the place of the student's logits."""
    student = torch.randn(rows, columns, device=device, dtype=dtype).requires_grad_()
    teacher = torch.randn(rows, columns, device=device, dtype=dtype)
    size = student.numel() * student.element_size()

    def inplace() -> Tensor:
        # The copy stands for a layer's output; it is not a part of the loss, and counts against it all the same.
        return kd_kl(student * 1, teacher, FORMULA, inplace=True)

    return Case(
        "kd_kl",
        {"N": rows, "V": columns, "loss": "kl"},
        (student,),
        {
            "kdc": lambda: kd_kl(student, teacher, FORMULA),
            "kdc, in place of a copy": inplace,
            "torch": lambda: eager(student, teacher),
        },
        {"torch": 6 * size},
        moves=3 * size,
    )


def relations(device: torch.device, dtype: torch.dtype, rows: int, heads: int, tokens: int, width: int) -> Case:
    """`relation_kd` of one kind of state."""
    states = torch.randn(rows, tokens, width, device=device, dtype=dtype).requires_grad_()
    theirs = torch.randn(rows, tokens, width, device=device, dtype=dtype)
    mask = torch.ones(rows, tokens, dtype=torch.bool, device=device)

    def plain() -> Tensor:
        sides = []
        for side in (states, theirs):
            parts = side.view(rows, tokens, heads, width // heads).transpose(1, 2)
            scores = parts @ parts.transpose(-1, -2) / (width // heads) ** 0.5
            sides.append(F.log_softmax(scores.masked_fill(~mask[:, None, None], torch.finfo(dtype).min), -1))
        each = F.kl_div(sides[0], sides[1], reduction="none", log_target=True).sum(-1).mean(1)
        return ((each * mask).sum(-1) / mask.sum(-1)).mean()

    return Case(
        "relation_kd",
        {"B": rows, "heads": heads, "L": tokens, "H": width},
        (states,),
        {"kdc": lambda: relation_kd(states, theirs, mask, heads), "torch": plain},
        {"torch": 6 * rows * heads * tokens**2 * states.element_size()},
    )


def hidden(device: torch.device, dtype: torch.dtype, rows: int, width: int, their_width: int) -> Case:
    """`hidden_mse`, a quarter of the positions padding."""
    states = torch.randn(rows, width, device=device, dtype=dtype).requires_grad_()
    weight = (torch.randn(their_width, width, device=device, dtype=dtype) * 0.1).requires_grad_()
    theirs = torch.randn(rows, their_width, device=device, dtype=dtype)
    mask = torch.arange(rows, device=device) % 4 > 0

    def plain() -> Tensor:
        each = (F.linear(states, weight) - theirs).pow(2).mean(-1)
        return (each * mask).sum() / mask.sum()

    return Case(
        "hidden_mse",
        {"N": rows, "H student": width, "H teacher": their_width},
        (states, weight),
        {"kdc": lambda: hidden_mse(states, weight, theirs, mask), "torch": plain},
    )


def cpu_cases() -> list[Callable[[], Case]]:
    """Made one after the other, so that only one is in memory."""
    device, dtype = torch.device("cpu"), torch.float32
    return [
        lambda: linear(device, dtype, 2048, 100_000, 256, FORMULA),
        lambda: linear(device, dtype, 2048, 100_000, 256, JENSEN_SHANNON),
        lambda: sparse(device, dtype, 2048, 100_000, 256, 64),
        lambda: linear(device, dtype, 2048, 1_000_000, 256, FORMULA),
        lambda: logits(device, dtype, 2048, 30_522),
        lambda: relations(device, dtype, 32, 12, 128, 384),
        lambda: relations(device, dtype, 32, 12, 32, 384),
        lambda: hidden(device, dtype, 32 * 128, 384, 768),
    ]


def cuda_cases() -> list[Callable[[], Case]]:
    """The same for a device, at sizes of language models."""
    device, dtype = torch.device("cuda"), torch.bfloat16
    return [
        lambda: linear(device, dtype, 8192, 128_000, 4096, FORMULA),
        lambda: linear(device, dtype, 8192, 128_000, 4096, JENSEN_SHANNON),
        lambda: sparse(device, dtype, 8192, 128_000, 4096, 64),
        lambda: logits(device, dtype, 4096, 32_000),
        lambda: logits(device, dtype, 4096, 128_000),
        lambda: relations(device, dtype, 32, 12, 512, 768),
        lambda: hidden(device, dtype, 32 * 512, 768, 1024),
    ]

"""`linear_kd`: distillation straight from hidden states, without a matrix of logits at any time.

Logits are s = X·Wᵀ + b, [N, V] for a catalogue or a vocabulary of V. They are made tile by tile, in buffers of bounded
size. Where a tile holds whole rows of logits, each tile is made once. Where rows are too long for that, the columns
stream by twice: first for each row's log-sum-exp, kept online, then again for loss and gradients; for reverse KL and
Jensen-Shannon three times, since their gradient needs the row's total as well. That costs one or two products more and
reads each weight once for all rows, where whole rows would read all weights again for every few rows. Cut
Cross-Entropy (https://arxiv.org/abs/2411.09009) makes logits twice in the same way, for the loss of labels alone.

The gradients of states, weight and bias are those of `formula`; all sums are kept in fp32 (float64 for float64).
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from compress.kernels.bodies import accumulator, as_autocast, choose
from compress.kernels.formula import Formula, check_rows, shares_of
from compress.kernels.reference import mean_loss, mean_loss_of_largest
from compress.kernels.saved import gradient_rooms, times
from compress.kernels.streaming import stream
from compress.kernels.streaming_largest import stream_largest


class Head(NamedTuple):
    """A model's last layer: states [N, H], weight [V, H], bias [V] or None; logits are states·weightᵀ + bias."""

    states: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def logits(self) -> Tensor:
        """All of them, float64 [N, V]: for the reference."""
        logits = self.states.double() @ self.weight.double().T
        return logits if self.bias is None else logits + self.bias.double()


class Largest(NamedTuple):
    """A teacher of which only the K largest logits of each row are kept.

    indices: their columns, int64 [N, K], none twice in a row. logits: [N, K + 1], the last the log-sum-exp of all
    others at temperature 1; −inf where nothing remains. Student and teacher are compared on these K + 1.
    """

    indices: Tensor
    logits: Tensor


def linear_kd(
    student: Head,
    teacher: Head | Largest,
    formula: Formula = Formula(),
    *,
    labels: Tensor | None = None,
    ignore_index: int = -100,
    weights: Tensor | None = None,
    body: str = "auto",
) -> Tensor:
    """Mean of the rows' losses by `formula` -> scalar, fp32 (float64 for float64).

    Args:
        student: gradients go to its states, weight and bias, each in its own dtype. Under autocast products are made in
            autocast's dtype, and summed in fp32.
        teacher: a head of any width and the same V, or the largest of its logits; gets no gradient.
        labels: columns int64 [N]; needed for the weight hard. A row with `ignore_index` counts in neither term.
        weights: of rows, >= 0, [N]; the mean is weighted by them. None: all the same.
        body: see `bodies`.

    Raises:
        ValueError: shapes, labels or settings that do not fit.
        RuntimeError: the body cannot run here.
    """
    _check(student, teacher)
    shares = shares_of(formula, student.states, labels, weights, ignore_index)
    kind = choose(body, student.states.device)
    if kind == "reference":
        return _reference(student, teacher, shares, labels, formula)
    states, weight = as_autocast(student.states, student.weight)
    need = [torch.is_grad_enabled() and one is not None and one.requires_grad for one in student]
    given = (states, weight, student.bias, shares, labels, formula.divergence, formula.numbers, need, kind)
    if isinstance(teacher, Largest):
        loss, *_ = _linear_kd_largest(teacher.indices, teacher.logits.detach(), *given)
    else:
        their_states, their_weight = (one.detach() for one in as_autocast(teacher.states, teacher.weight))
        loss, *_ = _linear_kd(their_states, their_weight, teacher.bias, *given)
    return cast(Tensor, loss)


def _reference(
    student: Head, teacher: Head | Largest, shares: Tensor, labels: Tensor | None, formula: Formula
) -> Tensor:
    logits, dtype = student.logits(), accumulator(student.states)
    check_rows(shares, logits.shape[1], labels=labels)
    if isinstance(teacher, Largest):
        return mean_loss_of_largest(logits, (teacher.indices, teacher.logits), shares, labels, formula).to(dtype)
    return mean_loss(logits, teacher.logits().detach(), shares, labels, formula).to(dtype)


def _check(student: Head, teacher: Head | Largest) -> None:
    for name, head in (("student", student), ("teacher", teacher)):
        if isinstance(head, Head):
            _check_head(name, head)
    rows, columns = len(student.states), len(student.weight)
    if isinstance(teacher, Head):
        theirs = (len(teacher.states), len(teacher.weight))
        if theirs != (rows, columns):
            raise ValueError(
                f"the student has {rows} rows and {columns} columns, and the teacher {theirs[0]} and {theirs[1]}: "
                "both must answer the same rows about the same columns"
            )
        return
    kept = teacher.indices.shape[-1]
    if teacher.indices.shape != (rows, kept) or teacher.logits.shape != (rows, kept + 1):
        raise ValueError(
            f"indices have the shape {tuple(teacher.indices.shape)}, their logits {tuple(teacher.logits.shape)}, and "
            f"the student has {rows} rows: they must be [N, K] and [N, K + 1], the last for all other columns"
        )
    if kept > columns:
        raise ValueError(f"the teacher keeps {kept} logits of a row, and the student has {columns} columns")


def _check_head(name: str, head: Head) -> None:
    states, weight, bias = head
    if states.dim() != 2 or weight.dim() != 2 or states.shape[1] != weight.shape[1]:
        raise ValueError(
            f"{name}'s states have the shape {tuple(states.shape)} and its weight {tuple(weight.shape)}: "
            "they must be [N, H] and [V, H]"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{name}'s bias has the shape {tuple(bias.shape)}, and its weight {len(weight)} rows")


@torch.library.custom_op("kdc::linear_kd", mutates_args=())
def _linear_kd(  # noqa: PLR0913, PLR0917 - an operator's schema is flat
    their_states: Tensor,
    their_weight: Tensor,
    their_bias: Tensor | None,
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    shares: Tensor,
    labels: Tensor | None,
    divergence: str,
    numbers: list[float],
    need: list[bool],
    body: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, and the gradients of the student's states, weight and bias; [0] for one that is not needed."""
    check_rows(shares, len(weight), labels=labels)
    rows, formula = _Counted(shares), Formula(divergence, *numbers)
    student, teacher = (rows.of(states), weight, bias), (rows.of(their_states), their_weight, their_bias)
    with torch.autocast(states.device.type, enabled=False):
        made = stream(student, teacher, rows.of(shares), rows.of_some(labels), formula, need, body)
    return made[0], rows.back(made[1]), *made[2:]


@torch.library.custom_op("kdc::linear_kd_largest", mutates_args=())
def _linear_kd_largest(  # noqa: PLR0913, PLR0917 - an operator's schema is flat
    indices: Tensor,
    logits: Tensor,
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    shares: Tensor,
    labels: Tensor | None,
    divergence: str,
    numbers: list[float],
    need: list[bool],
    body: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `_linear_kd`."""
    check_rows(shares, len(weight), labels=labels, indices=indices)
    rows, formula = _Counted(shares), Formula(divergence, *numbers)
    student, teacher = (rows.of(states), weight, bias), (rows.of(indices), rows.of(logits))
    with torch.autocast(states.device.type, enabled=False):
        made = stream_largest(student, teacher, rows.of(shares), rows.of_some(labels), formula, need, body)
    return made[0], rows.back(made[1]), *made[2:]


class _Counted:
    """The rows that count: others may hold anything, and are not looked at."""

    def __init__(self, shares: Tensor) -> None:
        self.count = len(shares)
        self.rows = shares.nonzero().squeeze(1)

    def of(self, tensor: Tensor) -> Tensor:
        return tensor if len(self.rows) == self.count else tensor[self.rows]

    def of_some(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else self.of(tensor)

    def back(self, gradient: Tensor) -> Tensor:
        """A gradient of rows that count as one of all rows, 0 in the others."""
        if len(self.rows) == self.count or not gradient.dim() > 1:
            return gradient
        return gradient.new_zeros(self.count, gradient.shape[1]).index_copy_(0, self.rows, gradient)


def _fake(*given: Any) -> tuple[Tensor, ...]:
    (states, weight, bias), need = given[-9:-6], given[-2]
    return states.new_empty((), dtype=accumulator(states)), *gradient_rooms((states, weight, bias), need)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output[1:])
    ctx.dtypes = [one.dtype if wanted else None for one, wanted in zip(inputs[-9:-6], inputs[-2], strict=True)]
    ctx.before = len(inputs) - 9


def _backward(ctx: Any, upstream: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    slopes = [
        None if dtype is None or upstream is None else times(one, upstream, dtype)
        for one, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
    ]
    return (*[None] * ctx.before, *slopes, *[None] * 6)


for _operator in (_linear_kd, _linear_kd_largest):
    _operator.register_fake(_fake)
    _operator.register_autograd(_backward, setup_context=_keep)

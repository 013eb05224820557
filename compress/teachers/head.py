"""The head of a trained teacher, rewritten so that its outputs mean what the run's labels mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.artifacts import SPEC, Standard, read_spec
from compress.errors import DataError, IntegrityError
from compress.teachers.load import few


def fit_labels(model: Any, labels: Sequence[str], positive: str | None, where: str) -> None:
    """Put the outputs of a classification head in the order of the labels.

    Raises:
        DataError: the head is for other labels.
    """
    columns = match_labels(model.config.id2label, labels, where)
    positive_index = labels.index(positive) if positive in labels else len(labels) - 1
    order_head(model, columns, positive_index, where)


def match_labels(id2label: dict[Any, Any], labels: Sequence[str], where: str) -> tuple[int, ...]:
    """Position of each label among the head's outputs; () for a single-logit head on two labels.

    Names decide where they agree; a head that carries no names of its own (LABEL_0 …) is taken in order.

    Raises:
        DataError: another number of outputs than labels, or other names.
    """
    named = [str(id2label[key]) for key in sorted(id2label, key=int)]
    if len(named) == 1 and len(labels) == 2:
        return ()
    if len(labels) == 1:
        if len(named) > 1:
            raise DataError(
                f"teacher.model: the head of {where} has {len(named)} outputs ({few(named)}), but this "
                "task asks for one number; give a model with num_labels=1, or add teacher.train to fine-tune it anew"
            )
        return (0,)
    if len(named) != len(labels):
        raise DataError(
            f"teacher.model: the head of {where} has {len(named)} outputs ({few(named)}), but the data have "
            f"{len(labels)} labels ({few(labels)}): give data with the teacher's labels, or add teacher.train"
        )
    if set(named) == set(labels):
        return tuple(named.index(label) for label in labels)
    if all(name == f"LABEL_{i}" for i, name in enumerate(named)):
        return tuple(range(len(labels)))
    strangers = sorted(set(labels) - set(named))
    raise DataError(
        f"teacher.model: the head of {where} does not know the labels {few(strangers)}; it knows {few(named)}: "
        "make id2label in its config.json and the labels of the data the same"
    )


def order_head(model: Any, columns: Sequence[int], positive_index: int, where: str) -> None:
    """Rewrite the last linear layer so that its outputs stand in the order of the labels.

    A single-logit head (columns empty) becomes two outputs: 0, and the margin for the positive label.

    Raises:
        DataError: the head has no such layer.
    """
    outputs = len(columns) or 1
    if columns and list(columns) == list(range(outputs)):
        return
    last = _last_linear(model, outputs)
    if last is None:
        raise DataError(
            f"teacher.model: the classification head of {where} has no linear layer of {outputs} outputs, "
            "so its outputs cannot be put in the order of the labels"
        )
    last.weight = nn.Parameter(_reorder(last.weight.data, columns, positive_index))
    if last.bias is not None:
        last.bias = nn.Parameter(_reorder(last.bias.data, columns, positive_index))
    last.out_features = len(last.weight)
    model.config.num_labels = model.num_labels = last.out_features


def _last_linear(model: Any, outputs: int) -> nn.Linear | None:
    """The layer of a head that gives so many outputs."""
    body = set(model.base_model.modules())
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m not in body and m.out_features == outputs]
    return linear[-1] if linear else None


def standard_of(folder: Path | None) -> Standard:
    """How the numbers of a trained teacher are standardised: as its model.json says, else not at all.

    Raises:
        DataError: a model.json that cannot be read.
    """
    found = None
    if folder is not None and (folder / SPEC).is_file():
        try:
            found = read_spec(folder).standard
        except IntegrityError as error:
            raise DataError(f"teacher.model: {error}") from error
    return found or Standard(mean=0.0, std=1.0)


def change_standard(model: Any, own: Standard, wanted: Standard, where: str) -> None:
    """Rewrite the last linear layer of a head with one output, so that its numbers are standardised as wanted.

    Raises:
        DataError: the head has no such layer with a bias.
    """
    if own == wanted:
        return
    last = _last_linear(model, 1)
    if last is None or last.bias is None:
        raise DataError(
            f"teacher.model: the head of {where} has no linear layer of one output with a bias, so its numbers "
            "cannot be standardised; give its answers as a file (teacher.kind: scores)"
        )
    last.weight.data.mul_(own.std / wanted.std)
    last.bias.data.mul_(own.std).add_(own.mean - wanted.mean).div_(wanted.std)


def _reorder(rows: Tensor, columns: Sequence[int], positive_index: int) -> Tensor:
    """Rows [C, ...] in the order of `columns`; without them the one row becomes the positive one of two."""
    if columns:
        return rows[list(columns)].clone()
    both = torch.zeros_like(rows).repeat(2, *[1] * (rows.dim() - 1))
    both[positive_index] = rows[0]
    return both

"""Quality of benched models on labelled requests, so that speed and quality are of the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from compress.artifacts import ModelSpec, Standard
from compress.batch import Examples, Floats, Labels, Splits
from compress.bench import loadgen
from compress.certificate.interval import interval, resampled
from compress.certificate.weighted import Weighted, weighted_measure
from compress.errors import DataError, RecipeError
from compress.recipe import Task
from compress.runtime.answers import Answer, AnyAnswer
from compress.runtime.fields import Fields, cell_text
from compress.runtime.predictor import Request
from compress.runtime.requests import RENAME, read_requests
from compress.tasks.kind import TaskKind
from compress.tasks.kinds import task_kind

LABEL, GROUP = "label", "group"
SEED = 7
"""Of the bootstrap."""
Ask = Callable[[Sequence[Request]], Sequence[AnyAnswer]]


@dataclass(frozen=True)
class _LabelledFields(Fields):
    """Notes label and group of each row that becomes a request."""

    labels: list[tuple[str, Any]] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)

    def request(self, where: str, row: Mapping[str, Any]) -> Request:
        """The request in a row."""
        if LABEL not in row:
            there = ", ".join(map(repr, row))
            raise DataError(f"{where} has no {LABEL!r}, there are: {there}; --data needs labels: {RENAME}")
        if not _cell(where, row, LABEL):
            raise DataError(f"{where} has no label (it is {row[LABEL]!r}): give it one or leave the line out")
        self.labels.append((where, row[LABEL]))
        self.groups.append(None if row.get(GROUP) is None else _cell(where, row, GROUP))
        return super().request(where, row)


@dataclass(frozen=True)
class LabelledRequests:
    """Requests with what should be answered. labels: place in the file, and label. groups: as in the file, or None."""

    path: Path
    requests: list[Request]
    labels: list[tuple[str, Any]]
    groups: list[str | None]


def read_labelled(path: Path, *, pairs: bool) -> LabelledRequests:
    """Requests of a file with a column `label`, and for ranking `group` (without it the first text).

    Raises:
        DataError: it cannot be read, has no row, or a row lacks something.
    """
    fields = _LabelledFields(pairs=pairs, remedy=RENAME)
    requests = list(read_requests(path, fields=fields))
    return LabelledRequests(path, requests, fields.labels, fields.groups)


def check_labels(spec: ModelSpec, rows: LabelledRequests, metric: str | None) -> None:
    """Refuse, before anything is timed, labels and a metric that are not those of a model's task.

    Raises:
        DataError: naming file and line, or the metric is not defined on these labels. RecipeError: no such metric.
    """
    examples = _examples(spec, rows)
    anything = np.zeros((len(rows.requests), max(1, len(spec.labels))), np.float32)
    _measure(spec, _kind(spec, examples, metric), examples, anything, rows.path)


def quality_of(
    spec: ModelSpec, ask: Ask, rows: LabelledRequests, *, metric: str | None, batch: int, by_loadgen: bool
) -> dict[str, Any]:
    """A metric of a model, with its 95% bootstrap interval, as fields of a bench row.

    Args:
        ask: answers up to `batch` requests. metric: of the model's task; None for its first. by_loadgen: in LoadGen's
            accuracy mode; the answers are those of its log.

    Raises:
        DataError: the labels are not those of the model.
    """
    examples = _examples(spec, rows)
    kind = _kind(spec, examples, metric)

    def outputs(numbers: Sequence[int]) -> Floats:
        return np.stack([_output(spec, answer) for answer in ask([rows.requests[number] for number in numbers])])

    count = len(rows.requests)
    if by_loadgen:
        logits = loadgen.collect(count, outputs, batch)
    else:
        logits = np.concatenate([outputs(range(start, min(start + batch, count))) for start in range(0, count, batch)])
    measure = _measure(spec, kind, examples, logits, rows.path)
    found = interval(resampled(measure, SEED)[0])
    low, high = found or (None, None)
    return {
        "metric": kind.metric.name,
        "quality": float(measure.plain[0]),
        "quality_low": low,
        "quality_high": high,
        "quality_rows": count,
    }


def _measure(spec: ModelSpec, kind: TaskKind, examples: Examples, logits: Floats, path: Path) -> Weighted:
    measure = weighted_measure(kind, kind.metric.name, [logits], [spec.threshold], examples)
    if measure is None and spec.task == "ranking":
        raise DataError(f"{path} has no group with a row above 0, so a ranking of it cannot be measured")
    if measure is None or not np.isfinite(measure.plain[0]):
        raise DataError(f"{path} has labels of which {kind.metric.name} is not defined, as AUC is not of one class")
    return measure


def _kind(spec: ModelSpec, rows: Examples, metric: str | None) -> TaskKind:
    told = {"positive": spec.positive, "metric": metric}
    try:
        task = TypeAdapter[Any](Task).validate_python(
            {"kind": spec.task} | {key: value for key, value in told.items() if value is not None}
        )
        return _measured_as(task, spec, rows)
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"].replace("Input", "it")
        raise RecipeError(f"--metric is {metric!r}, but the model's task is {spec.task}: {why}") from error
    except RecipeError as error:
        raise RecipeError(str(error).replace("task.metric", "--metric")) from error


def _measured_as(task: Any, spec: ModelSpec, rows: Examples) -> TaskKind:
    splits = Splits(train=rows, validation=rows, test=rows, unlabeled=None, labels=spec.labels, fingerprint="")
    kind = task_kind(task, splits)
    if kind.standard is not None:
        kind.standard = Standard(mean=0.0, std=1.0)  # answers are in the unit of the labels already
    return kind


def _examples(spec: ModelSpec, rows: LabelledRequests) -> Examples:
    requests, groups = rows.requests, None
    if spec.task == "ranking":
        groups = [group or request.text for group, request in zip(rows.groups, requests, strict=True)]
    return Examples(
        ids=[request.id or str(number) for number, request in enumerate(requests)],
        texts=[request.text for request in requests],
        pairs=[request.text_pair or "" for request in requests] if spec.two_texts else None,
        labels=_labels(spec, rows),
        groups=groups,
    )


def _labels(spec: ModelSpec, rows: LabelledRequests) -> Labels:
    if spec.task in {"ranking", "regression"}:
        return np.array([_number(where, value) for where, value in rows.labels])
    places = {label: place for place, label in enumerate(spec.labels)}
    found = np.array([places.get(cell_text(value), -1) for _, value in rows.labels], np.int64)
    if (found < 0).all():
        where, value = rows.labels[0]
        raise DataError(
            f"{where} has the label {value!r}, and no row of the file has one of the model's, such as "
            f"{spec.labels[0]!r}: the data are of another task than the model"
        )
    return found


def _number(where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"{where} has the label {value!r}, but the model answers numbers: give finite numbers")
    return number


def _cell(where: str, row: Mapping[str, Any], column: str) -> str:
    try:
        return cell_text(row[column])
    except ValueError as error:
        raise DataError(f"{where} has {row[column]!r} under {column!r}, a text or a number is expected") from error


def _output(spec: ModelSpec, answer: AnyAnswer) -> Floats:
    """What the measures take as outputs: logarithms of probabilities, or the score."""
    if isinstance(answer, Answer):
        shares = np.array([answer.probabilities[label] for label in spec.labels], np.float64)
        return np.log(np.maximum(shares, np.finfo(np.float32).tiny)).astype(np.float32)
    return np.array([answer.score], np.float32)

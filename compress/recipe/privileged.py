"""Columns that the teacher alone reads: what cannot be asked of them, told from the recipe."""

from __future__ import annotations

from collections.abc import Iterator

from compress.recipe.data import REQUEST_FIELDS, Column, Columns, Data, FilesData, as_tuple
from compress.recipe.distill import Distill
from compress.recipe.teacher import Teacher, lead_of


def privileged_misfit(data: Data, teacher: Teacher, distill: Distill) -> str | None:
    """Why a recipe's privileged columns cannot be what they say, or None: one sentence."""
    if not isinstance(data, FilesData):
        return None
    tables = {key: source.columns for key, source in data.tables().items() if source.columns is not None}
    named = [key for key, columns in tables.items() if columns.privileged_columns]
    if not named:
        return None
    key = _key(named[0], next(iter(tables[named[0]].privileged_columns)))
    if lead_of(teacher) is None:
        return f"{key} is for a teacher that reads texts, and files of scores read none: leave it out"
    if distill.relation_stages:
        return (
            f"{key} lets the teacher read more than the student, and distill.stages.{distill.relation_stages[0]}."
            "losses.relations compares how both read the same tokens: leave one of the two out"
        )
    clashes = (
        _clash(_key(key, side), joined, columns)
        for key, columns in tables.items()
        for side, joined in columns.privileged_columns.items()
    )
    return next(filter(None, clashes), None) or _read_elsewhere(data, tables)


def _key(table: str, side: str) -> str:
    return f"{table}.columns.{'privileged_pair' if side == 'text_pair' else 'privileged'}"


def _clash(key: str, joined: tuple[Column, ...], columns: Columns) -> str | None:
    """A column that something else of the same table reads, or that a request would hold."""
    if not joined:
        return f"{key} is an empty list: name at least one column, or leave it out"
    other = dict(_others(columns))
    for column in joined:
        if column in other:
            return (
                f"{key} names {column!r}, which is also columns.{other[column]}: a privileged column is read by the "
                "teacher alone, so leave it out of one of the two"
            )
        if column in REQUEST_FIELDS:
            return (
                f"{key} names {column!r}, and that is what requests call a field that the student reads: rename the "
                "column"
            )
    return None


def _read_elsewhere(data: FilesData, tables: dict[str, Columns]) -> str | None:
    """A column that is privileged in training and read by the student where it is measured."""
    private = {name for joined in data.privileged_columns.values() for name in joined if isinstance(name, str)}
    for key in ("data.validation", "data.test"):
        for column, name in _others(tables.get(key, Columns())):
            if column in private and name in ("text", "text_pair"):
                return (
                    f"{key}.columns.{name} names {column!r}, which is privileged in data.train: the student does not "
                    "learn to read it, so leave it out of one of the two"
                )
    return None


def _others(columns: Columns) -> Iterator[tuple[Column, str]]:
    """Each column that is not privileged, and the field that it is for."""
    for name in ("text", "text_pair", "label", "id", "group", "weight"):
        for column in as_tuple(getattr(columns, name)):
            yield column, name

"""What requests and answers of one bundle look like: the checks of its requests, and the schemas that OpenAPI shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, create_model

from compress.errors import DataError
from compress.runtime.bundle import Manifest
from compress.runtime.fields import Fields
from compress.runtime.predictor import Request
from compress.runtime.shipped import can_rank
from compress.serve.errors import Refused
from compress.serve.settings import MAX_ID, MAX_TEXT, Settings
from compress.serve.succession import ranks_own_items

REMEDY = "give it"
"""What to do about a missing field; Fields puts what is missing before it."""
_STRICT = ConfigDict(extra="forbid", strict=True)
TOP = 10
"""Items in the answer to a query without candidates, where it does not say how many."""
MESSAGES = {
    "model_type": "an object is expected",
    "list_type": "a list is expected",
    "too_short": "the list is empty: give at least one",
    "string_type": "a text is expected",
    "string_too_short": "the text is empty",
    "string_pattern_mismatch": "the text is empty",
    "string_too_long": f"the text has more than {MAX_TEXT:,} characters: cut it, the model reads far less",
}
"""What pydantic says in words of its own otherwise."""


def _cell(value: Any) -> Any:
    """A column's value as rows of a file have it."""
    if value is not None and not isinstance(value, str | int | float | bool):
        raise ValueError("a text, a number, true, false or null is expected")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ValueError(f"a text of {len(value):,} characters, {MAX_TEXT:,} are allowed")
    if isinstance(value, float) and abs(value) == float("inf"):
        raise ValueError("the number is too large")
    return value


def _identity(value: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise ValueError("a string or a whole number is expected")
    if isinstance(value, str) and len(value) > MAX_ID:
        raise ValueError(f"an id of {len(value):,} characters, {MAX_ID:,} are allowed")
    return value


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=r"\S")]
Cell = Annotated[
    Any,
    AfterValidator(_cell),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"], "maxLength": MAX_TEXT}),
]
Identity = Annotated[
    Any,
    AfterValidator(_identity),
    WithJsonSchema({"type": ["string", "integer", "null"], "maxLength": MAX_ID, "description": "given back as text"}),
]
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Forms:
    """One bundle's requests and answers.

    rank and rank_answer are None where the bundle cannot order candidates. most: of the bundle's own items the most
    that are ranked for a query.
    """

    one: type[BaseModel]
    many: type[BaseModel]
    answer: type[BaseModel]
    answers: type[BaseModel]
    rank: type[BaseModel] | None
    rank_answer: type[BaseModel] | None
    fields: Fields
    candidate_fields: Fields
    most: int

    def requests(self, body: Any) -> tuple[list[Request], bool]:
        """Requests of a body of /v1/predict, and whether there were many.

        Raises:
            Refused: the body is not of the form, with the place of the first fault.
        """
        many = isinstance(body, dict) and "requests" in body
        _check(self.many if many else self.one, body)
        rows = body["requests"] if many else [body]
        return [_request(self.fields, f"requests[{i}]" if many else "body", row) for i, row in enumerate(rows)], many

    def ranking(self, body: Any) -> tuple[Request, list[Request] | None, int | None]:
        """Query, candidates, and how many are wanted, of a body of /v1/rank; None for the bundle's own items.

        Raises:
            Refused: the body is not of the form, or the bundle cannot order candidates.
        """
        if self.rank is None:
            raise Refused(404, "not_available", "this bundle compares no two texts: it cannot rank", "/v1/rank")
        _check(self.rank, body)
        query = _request(Fields(), "query", {"text": body["query"]})
        if body.get("candidates") is None:
            return query, None, self._of_own(body.get("top"))
        candidates = [
            _request(self.candidate_fields, f"candidates[{i}]", row) for i, row in enumerate(body["candidates"])
        ]
        return query, candidates, body.get("top")

    def _of_own(self, top: int | None) -> int:
        if top is not None and top > self.most:
            raise Refused(422, "too_many", f"of the bundle's own items at most {self.most} are ranked", "top")
        return TOP if top is None else top


@dataclass(frozen=True)
class _Kind:
    """All of a bundle that its forms follow from.

    columns: of each field, as the manifest has them. probable: whether an answer has a label and probabilities.
    ranks: whether it can order candidates. shipped: whether the bundle's own items are ranked where there are none.
    """

    two_texts: bool
    labels: tuple[str, ...]
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    probable: bool
    ranks: bool
    shipped: bool
    max_rows: int


def forms_of(manifest: Manifest, settings: Settings) -> Forms:
    """The forms of a bundle: its fields, the columns that may stand for them, its labels."""
    spec = manifest.spec
    return _forms(
        _Kind(
            two_texts=spec.two_texts,
            labels=spec.labels,
            columns=tuple(manifest.columns.items()),
            probable=spec.task in ("classification", "pairs"),
            ranks=can_rank(spec),
            shipped=ranks_own_items(manifest, settings.max_rows),
            max_rows=settings.max_rows,
        )
    )


@lru_cache(maxsize=4)
def _forms(kind: _Kind) -> Forms:
    """Kept, since pydantic never frees the models that it made: new ones for each bundle that is taken would add up."""
    columns = dict(kind.columns)
    names = ("text", "text_pair") if kind.two_texts else ("text",)
    row = _row("PredictRequest", {name: columns.get(name, ()) for name in names})
    answer = _answer(kind)
    rank, rank_answer = _rank(columns.get("text_pair", ()), kind) if kind.ranks else (None, None)
    return Forms(
        one=row,
        many=_many("PredictManyRequest", "requests", row, kind.max_rows),
        answer=answer,
        answers=_many("Answers", "answers", answer, kind.max_rows),
        rank=rank,
        rank_answer=rank_answer,
        fields=Fields(joined=columns, pairs=kind.two_texts, remedy=REMEDY),
        candidate_fields=Fields(joined={"text": columns["text_pair"]} if "text_pair" in columns else {}, remedy=REMEDY),
        most=kind.max_rows,
    )


def _model(name: str, fields: Mapping[str, tuple[Any, Any]], schema: dict[str, Any] | None = None) -> type[BaseModel]:
    """A model of fields of any names, which need not be Python's."""
    given: dict[str, Any] = {
        f"field_{number}": (kind, Field(default, alias=field, title=field))
        for number, (field, (kind, default)) in enumerate(fields.items())
    }
    return create_model(name, __config__=ConfigDict(**_STRICT, json_schema_extra=schema), **given)


def _row(name: str, texts: Mapping[str, Sequence[str]]) -> type[BaseModel]:
    """A row with these texts, or the columns of each that training joined into it."""
    fields: dict[str, tuple[Any, Any]] = {}
    choices = []
    for text, columns in texts.items():
        fields |= dict.fromkeys(columns, (Cell, None))
        if text not in columns:
            fields[text] = (Text if not columns else Text | None, None if columns else ...)
        if columns:
            ways = [[text], list(columns)] if text not in columns else [list(columns)]
            choices.append({"anyOf": [{"required": way} for way in ways]})
    fields.setdefault("id", (Identity, None))
    return _model(name, fields, {"allOf": choices} if choices else None)


def _many(name: str, field: str, row: type[BaseModel], count: int) -> type[BaseModel]:
    rows = Annotated[list[row], Field(min_length=1, max_length=count)]  # type: ignore[valid-type]  # made at run time
    return _model(name, {field: (rows, ...)})


def _answer(kind: _Kind) -> type[BaseModel]:
    common: dict[str, tuple[Any, Any]] = {"id": (str | None, ...)}
    if not kind.probable:
        return _model("Answer", common | {"score": (float, ...)})
    probabilities = _model("Probabilities", dict.fromkeys(kind.labels, (Probability, ...)))
    return _model(
        "Answer",
        common
        | {
            "label": (Literal[kind.labels], ...),
            "score": (Probability, ...),
            "probabilities": (probabilities, ...),
        },
    )


def _rank(columns: Sequence[str], kind: _Kind) -> tuple[type[BaseModel], type[BaseModel]]:
    candidate = _row("Candidate", {"text": columns})
    candidates = Annotated[list[candidate], Field(min_length=1, max_length=kind.max_rows)]  # type: ignore[valid-type]  # made at run time
    top = Annotated[int | None, Field(ge=1)]
    told = f"Without candidates the bundle's own items are ranked: {TOP} where top is absent, {kind.max_rows} at most."
    asked = _model(
        "RankRequest",
        {
            "query": (Text, ...),
            "candidates": (candidates | None, None) if kind.shipped else (candidates, ...),
            "top": (top, None),
        },
        {"description": told} if kind.shipped else None,
    )
    ranked = _model("Ranked", {"index": (int, ...), "id": (str | None, ...), "score": (float, ...)})
    return asked, _model("RankAnswer", {"ranking": (list[ranked], ...)})  # type: ignore[valid-type]  # made at run time


def _check(form: type[BaseModel], body: Any) -> None:
    try:
        form.model_validate(body)
    except ValidationError as error:
        raise _refusal(form, error) from None  # the cause would carry the text


def _refusal(form: type[BaseModel], error: ValidationError) -> Refused:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = place(first["loc"])
    if first["type"] == "extra_forbidden":
        return Refused(422, "unknown_field", "this field is not known here: see /openapi.json, or leave it out", where)
    if first["type"] == "missing":
        return Refused(422, "missing_field", "this field is missing: give it", where)
    if first["type"] == "too_long":
        return Refused(422, "too_many", f"there are more than {_most(error)}: send them in several requests", where)
    message = MESSAGES.get(first["type"]) or str(first["msg"]).removeprefix("Value error, ")
    return Refused(422, "bad_value", message[:1].lower() + message[1:], where)


def _most(error: ValidationError) -> int:
    return int(error.errors(include_url=False, include_input=False)[0]["ctx"]["max_length"])


def place(parts: Sequence[int | str]) -> str:
    """A place in a body as people write it: requests[3].text."""
    told = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return told.lstrip(".") or "body"


def _request(fields: Fields, where: str, row: Mapping[str, Any]) -> Request:
    try:
        return fields.request(where, row)
    except DataError as error:
        raise Refused(422, "bad_value", str(error), where) from None

"""What is wrong with a recipe, as one sentence: the key as in the file, the value given, what is allowed.

Pydantic's own places carry the names of union members; here they are taken out again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from compress.errors import RecipeError
from compress.recipe import Recipe, Section

Place = tuple[str | int, ...]

_DISCRIMINATORS = ("kind", "to")
_UNION_TYPES = ("union_tag_invalid", "union_tag_not_found")
_NEEDS_MAPPING = ("model_type", "model_attributes_type", "dict_type")
_LONGEST_VALUE = 60


def sentence(errors: Sequence[ErrorDetails], raw: Any) -> str:
    """The first thing wrong, and how many more; an unknown key comes before what it left missing."""
    grouped: dict[Place, list[ErrorDetails]] = {}
    for error in errors:
        grouped.setdefault(_place(error, raw), []).append(error)
    # A union reports each member that did not fit: only the member that got furthest is what was meant.
    kept = {p: group for p, group in grouped.items() if not any(_is_inside(other, p) for other in grouped)}
    ordered = sorted(kept.items(), key=lambda item: item[1][0]["type"] != "extra_forbidden")
    place, group = ordered[0]
    more = f" (and {len(ordered) - 1} more)" if len(ordered) > 1 else ""
    name = ".".join(map(str, place))
    return f"{name}: {_problem(place, group, raw)}{more}" if name else f"{_problem(place, group, raw)}{more}"


def unset_empty_sections(raw: Any) -> Any:
    """Without keys that lack a needed value: `gates:` with all its lines commented out means no gates."""
    return _unset(raw, (), raw)


def refuse_booleans(raw: Mapping[str, Any], recipe: Recipe, path: Path) -> None:
    """Refuse true and false where a number is needed: pydantic reads them as 1 and 0.

    Raises:
        RecipeError: with the key.
    """
    for place, given, used in _leaves(raw, recipe.model_dump(), ()):
        if isinstance(given, bool) and not isinstance(used, bool):
            name = ".".join(map(str, place))
            raise RecipeError(
                f"{path}: {name}: must be text or a number, not {str(given).lower()} (quote it if it is text)"
            )


def _leaves(raw: Any, resolved: Any, place: Place) -> Iterator[tuple[Place, Any, Any]]:
    """Every plain value as given, beside what it became."""
    if isinstance(raw, Mapping) and isinstance(resolved, Mapping):
        for key in raw.keys() & resolved.keys():
            yield from _leaves(raw[key], resolved[key], (*place, key))
    elif isinstance(raw, list) and isinstance(resolved, Sequence):
        for index, (one, other) in enumerate(zip(raw, resolved, strict=False)):
            yield from _leaves(one, other, (*place, index))
    else:
        yield place, raw, resolved


def _unset(value: Any, place: Place, root: Any) -> Any:
    if isinstance(value, list):
        return [_unset(item, (*place, index), root) for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    kept = {}
    for key, item in value.items():
        fields = _fields((*place, key), root)
        if item is None and fields and not any(type(None) in _flat(info.annotation) for info in fields):
            continue
        kept[key] = _unset(item, (*place, key), root)
    return kept


def _is_inside(place: Place, outer: Place) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _place(error: ErrorDetails, raw: Any) -> Place:
    """Where the error is, as in the file: steps that the file does not have are names of union members."""
    place: list[str | int] = []
    at = raw
    for step in error["loc"]:
        if _stands(step, at):
            place.append(step)
            at = at[step]
    if error["type"] == "missing":
        place.append(error["loc"][-1])
    if error["type"] in _UNION_TYPES:
        place.append("to" if _has_key((*place, "to"), raw) else "kind")
    return tuple(place)


def _stands(step: str | int, at: Any) -> bool:
    """Whether plain data has the step: a key of a mapping, an index of a list."""
    if isinstance(at, list):
        return isinstance(step, int) and step < len(at)
    return isinstance(at, Mapping) and step in at


def _has_key(place: Place, raw: Any) -> bool:
    return any(place[-1] in _keys(section) for section in _candidates(place, raw, fitting=False))


def _problem(place: Place, group: Sequence[ErrorDetails], raw: Any) -> str:
    """What is wrong at a place, and what would be right."""
    # A section whose keys are all right says itself what is wrong, and is the member of a union that was meant.
    error = next((each for each in group if each["type"] == "value_error"), group[0])
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(place, raw)
    if kind in ("missing", "union_tag_not_found"):
        allowed = _alternatives(place, raw)
        return f"is missing{_about(place, raw)}" + (f"; allowed: {', '.join(allowed)}" if allowed else "")
    if kind == "union_tag_invalid":
        return _not_one_of(error["ctx"]["tag"], _alternatives(place, raw))
    if kind == "literal_error":
        return _not_one_of(error["input"], _literals(place, raw))
    if kind == "value_error":
        return error["msg"].removeprefix("Value error, ")
    wanted = " or ".join(dict.fromkeys(_wanted(each) for each in group)).replace(" or must be", " or")
    quote = '; put it in quotes, as in "1"' if kind == "string_type" and isinstance(error["input"], int | float) else ""
    return f"{wanted}, not {_short(error['input'])}{quote}{_about(place, raw)}"


def _wanted(error: ErrorDetails) -> str:
    if error["type"] in _NEEDS_MAPPING:
        return "must be a mapping of keys"
    message = error["msg"].partition(", unable to")[0].partition(", got a")[0].partition(" after validation")[0]
    message = message.replace("Input should be", "must be").replace("a valid tuple", "a list")
    message = message.replace("String should", "must").replace("List should", "must").replace("Tuple should", "must")
    return message.replace("a valid ", "a ").replace("a integer", "a whole number").partition(", not ")[0]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def _unknown_key(place: Place, raw: Any) -> str:
    allowed = sorted({key for section in _candidates(place, raw) for key in _keys(section)})
    if place[-1] in allowed:
        return "cannot stand beside the other keys there; take it out, or take out those that it does not go with"
    return f"unknown key{_nearest(str(place[-1]), allowed)}; allowed: {', '.join(allowed)}"


def _not_one_of(given: Any, allowed: Sequence[str]) -> str:
    return f"must be one of {', '.join(allowed)}, not {_short(given)}{_nearest(str(given), allowed)}"


def _nearest(given: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def _about(place: Place, raw: Any) -> str:
    """The text under the field, in brackets."""
    return next((f" ({info.description.rstrip('.')})" for info in _fields(place, raw) if info.description), "")


def _literals(place: Place, raw: Any) -> list[str]:
    """Values that a field with a fixed list of them accepts."""
    return [
        str(value) for info in _fields(place, raw) for value in _flat(info.annotation) if isinstance(value, str | int)
    ]


def _alternatives(place: Place, raw: Any) -> list[str]:
    """Values of a discriminator over all members of its union."""
    key = place[-1]
    if key not in _DISCRIMINATORS:
        return []
    members = _candidates(place, raw, fitting=False)
    return [str(value) for member in members if key in member.model_fields for value in _kinds(member, str(key))]


def _fields(place: Place, raw: Any) -> list[FieldInfo]:
    """The field at a place, in each section that may stand there."""
    found = [_keys(section).get(str(place[-1])) for section in _candidates(place, raw)] if place else []
    return [info for info in found if info is not None]


def _candidates(place: Place, raw: Any, *, fitting: bool = True) -> list[type[BaseModel]]:
    """The sections that may hold the last key of a place; `fitting`: by `kind` or `to` as given."""
    sections: list[type[BaseModel]] = [Recipe]
    at = raw
    for depth, step in enumerate(place[:-1]):
        at = at[step] if _stands(step, at) else None
        if isinstance(step, str):
            infos = [section.model_fields[step] for section in sections if step in section.model_fields]
            sections = [part for info in infos for part in _flat(info.annotation) if _is_section(part)]
        if fitting or depth < len(place) - 2:
            sections = [section for section in sections if _fits(section, at)] or sections
    return sections


def _keys(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a section by their names in a file."""
    return {info.alias or name: info for name, info in section.model_fields.items()}


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, Section)


def _flat(annotation: Any) -> list[Any]:
    """The parts of an annotation: members of unions, items of lists, values of literals."""
    parts = get_args(annotation)
    if not parts:
        return [annotation]
    return [leaf for part in parts for leaf in _flat(part)]


def _kinds(section: type[BaseModel], key: str) -> tuple[Any, ...]:
    return get_args(section.model_fields[key].annotation)


def _fits(section: type[BaseModel], value: Any) -> bool:
    if not isinstance(value, Mapping):
        return True
    for key in _DISCRIMINATORS:
        if key in section.model_fields:
            given = value.get(key, section.model_fields[key].default)
            return given in _kinds(section, key)
    return True

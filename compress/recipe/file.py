"""From a YAML file, and `--set` overrides, to a recipe. Loading has no side effects and imports no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import ValidationError

from compress.errors import RecipeError
from compress.recipe import LoadedRecipe, Quantize, Recipe, Section
from compress.recipe.errors import refuse_booleans, sentence, unset_empty_sections

ENDINGS = (".yaml", ".yml")
COMMAND_LINE = Path("command-line")
"""Stands for the file of a recipe made of options; its folder is the current one."""


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2: `no` is text, 5e-4 a number; a key stands once in a mapping."""

    # types-PyYAML calls it an instance variable; PyYAML itself keeps it on the class.
    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key_node.value in seen:
                problem = f"the key {key_node.value!r} stands twice in one mapping"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key_node.value)
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}


_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan"
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def is_recipe(path: Path) -> bool:
    """Whether a command's argument is a recipe and not a model: told by the file's ending, .yaml or .yml."""
    return path.suffix.lower() in ENDINGS


def parse_yaml(text: str, origin: str) -> Any:
    """Plain data from YAML text; `origin` (a file, an option) stands in messages, with the line.

    Raises:
        RecipeError: a syntax error, or a key that stands twice.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f":{mark.line + 1}"
        problem = error.problem or error.context or "not valid YAML"
        raise RecipeError(f"{origin}{line}: {problem}; mend the YAML there") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{origin}: {' '.join(str(error).split())}; mend the YAML there") from error


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read and validate a recipe file; `overrides` are `key.path=value`, the value as YAML.

    Raises:
        RecipeError: no such file, not YAML, or not a recipe; one sentence with the key as in the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecipeError(f"{path}: no such recipe file; `kdc init DIR --task classification` writes one") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: byte {error.start} is not UTF-8; save the recipe as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{path}: the recipe cannot be read: {error.strerror}") from error
    raw = parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        given = "empty" if raw is None else f"a {type(raw).__name__}"
        raise RecipeError(f"{path}: a recipe is a mapping of keys such as name, task and data; this file is {given}")
    for override in overrides:
        apply_override(raw, override)
        if override.startswith("data.root="):
            _root_from_here(raw["data"], path.parent)
    return resolve(raw, path)


def resolve(raw: Mapping[str, Any], path: Path) -> LoadedRecipe:
    """Validate plain data as the recipe that `path` holds; nothing is read.

    Raises:
        RecipeError: one sentence about the first thing wrong, with a count of the others.
    """
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError:
        cleaned = unset_empty_sections(raw)
        try:
            recipe = Recipe.model_validate(cleaned)
        except ValidationError as second:
            raise RecipeError(f"{path}: {sentence(second.errors(include_url=False), cleaned)}") from second
    refuse_booleans(raw, recipe, path)
    return LoadedRecipe(recipe=recipe, path=path)


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one `key.path=value` in plain data; steps through lists are indexes.

    `null` sets None, and removes an item of a list.

    Raises:
        RecipeError: no `=`, an empty path, an index out of range, or a path through a plain value.
    """
    where, equals, text = override.partition("=")
    steps = where.strip().split(".")
    if not equals or not all(steps):
        raise RecipeError(f"--set {override}: write key.path=value, for example --set distill.batch_size=64")
    value = parse_yaml(text, f"--set {override}")
    target: Any = raw
    for depth, step in enumerate(steps[:-1]):
        key = _key(target, step, steps[:depth], override)
        if isinstance(target, dict) and target.get(key) is None:
            target[key] = _default_list(steps[: depth + 1]) if steps[depth + 1].isdecimal() else {}
        target = target[key]
    last = _key(target, steps[-1], steps[:-1], override)
    if isinstance(target, list) and value is None:
        del target[last]
    else:
        target[last] = value


def _default_list(path: Sequence[str]) -> list[Any]:
    """The list that a recipe has at a path where its file gives none, as somebody would have written it."""
    section: Any = Recipe
    for step in path[:-1]:
        field = section.model_fields.get(step)
        section = None if field is None else field.annotation
        if not isinstance(section, type) or not issubclass(section, Section):
            return []
    field = section.model_fields.get(path[-1])
    items = field.default if field is not None and isinstance(field.default, tuple) else ()
    return [item.model_dump(mode="json", exclude_unset=True) if isinstance(item, Section) else item for item in items]


def _key(target: Any, step: str, path: Sequence[str], override: str) -> Any:
    """The step as a key of a mapping or an index of a list."""
    where = ".".join(path) or "the recipe"
    if isinstance(target, dict):
        return step
    if not isinstance(target, list):
        raise RecipeError(f"--set {override}: {where} is {target!r}, which has no key {step!r}")
    if not step.isdecimal() or int(step) >= len(target):
        allowed = f"0 to {len(target) - 1}" if target else "none, the list is empty"
        raise RecipeError(f"--set {override}: {where} is a list of {len(target)}; {step!r} is not an index ({allowed})")
    return int(step)


def _root_from_here(data: dict[str, Any], folder: Path) -> None:
    """On the command line people mean the current folder: keep that meaning, written relative to the recipe.

    A root that exists relative to the recipe's file, as the recipe itself would mean it, wins.
    """
    root = data["root"]
    if not isinstance(root, str) or Path(root).is_absolute() or (folder / root).exists() or not Path(root).exists():
        return
    data["root"] = os.path.relpath(Path(root).resolve(), folder.resolve())


def parse_student(spec: str) -> dict[str, Any]:
    """The `student` section from a short form: `transformer:layers=3`, `mobile:width=96,blocks=5`, `static`.

    Raises:
        RecipeError: an option without `=`.
    """
    kind, _, options = spec.partition(":")
    section: dict[str, Any] = {"kind": kind.strip()}
    for option in filter(None, (part.strip() for part in options.split(","))):
        apply_override(section, option)
    return section


def quantize_section(overrides: Sequence[str]) -> Quantize:
    """The `quantize` section made of `--set quantize.key=value` alone, for models without a recipe.

    Raises:
        RecipeError: a key of another section, or the method, which has an option of its own.
    """
    raw: dict[str, Any] = {}
    for override in overrides:
        apply_override(raw, override)
    foreign = sorted(raw.keys() - {"quantize"})
    if foreign:
        raise RecipeError(
            f"--set {foreign[0]} has no effect together with a model, which has keys of quantize alone, such as "
            "quantize.bits=4; leave it out"
        )
    given = raw.get("quantize", {})
    if isinstance(given, dict) and "method" in given:
        raise RecipeError("--set quantize.method has no effect together with a model; give --method")
    try:
        return Quantize.model_validate(given)
    except ValidationError as error:
        told = [item | {"loc": ("quantize", *item["loc"])} for item in error.errors(include_url=False)]
        raise RecipeError(f"--set {sentence(told, raw)}") from error


def recipe_from_paths(
    *,
    teacher: str,
    train: str,
    student: str,
    task: str,
    name: str = "distilled",
    columns: Mapping[str, str | None] | None = None,
    unlabeled: str | None = None,
    overrides: Sequence[str] = (),
) -> LoadedRecipe:
    """A recipe made of command line options; relative paths are meant from the current folder.

    columns: role (`text`, `text_pair`, `label`, `id`) -> name or position of a column; None where not given.

    Raises:
        RecipeError: as for a recipe file.
    """
    named = {role: parse_yaml(column, f"column {role}") for role, column in (columns or {}).items() if column}
    data: dict[str, Any] = {"train": {"path": train, "columns": named}}
    if unlabeled is not None:
        data["unlabeled"] = {"path": unlabeled, "columns": {**named, "label": None}}
    raw: dict[str, Any] = {
        "name": name,
        "task": {"kind": task},
        "data": data,
        "teacher": {"model": teacher},
        "student": parse_student(student),
    }
    for override in overrides:
        apply_override(raw, override)
    return resolve(raw, COMMAND_LINE)

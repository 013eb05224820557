"""Where a teacher is and whether it can be used; nothing here imports torch."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compress.artifacts import WEIGHTS, FileEntry, digest_files, sha256_file
from compress.errors import DataError, EnvironmentProblem, KdcError, RecipeError
from compress.recipe import (
    HuggingFaceTeacher,
    LoadedRecipe,
    OneTeacher,
    ScoresTeacher,
    SeveralTeachers,
    lead_of,
    teachers_of,
)

PACKAGE = "package:"
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
OF_ONE = re.compile(r"(?<![\w/.])teacher\.(?=(?:kind|model|revision|path|format|scale|max_length|train)\b)")
"""A key of one teacher in a sentence; of several teachers each has them."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
POSITION_KEYS = ("max_position_embeddings", "n_positions", "n_ctx")
POSITION_OFFSETS = {"roberta": 2, "xlm-roberta": 2, "camembert": 2, "mpnet": 2}
"""Positions that these families keep for padding, so that fewer tokens fit."""

_QUERY_KEY_VALUE = ("query", "key", "value")
ATTENTION = dict.fromkeys(("bert", "electra", "roberta", "camembert", "xlm-roberta"), _QUERY_KEY_VALUE)
ATTENTION |= {"distilbert": ("q_lin", "k_lin", "v_lin"), "mpnet": ("q", "k", "v")}
"""Encoders whose queries, keys and values can be watched: what the layers that make them are called."""


@contextmanager
def told_of(key: str) -> Iterator[None]:
    """Tell errors about `teacher.…` under the key of the one meant, for what knows one teacher only."""
    try:
        yield
    except KdcError as error:
        if key == "teacher":
            raise
        raise type(error)(OF_ONE.sub(f"{key}.", str(error))) from error


def resolve(model: str, folder: Path) -> Path | None:
    """Local directory of a model named in a recipe, or None for a hub id.

    Raises:
        EnvironmentProblem: the Python package is not installed.
        DataError: the package or path holds no model.
    """
    if model.startswith(PACKAGE):
        return _inside_package(model.removeprefix(PACKAGE))
    path = Path(model).expanduser()
    path = path if path.is_absolute() else folder / path
    if path.is_dir():
        return path
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise DataError(
            f"teacher.model: there is no directory {path}; give a directory, package:NAME, or a hub id with its owner "
            "(openai-community/gpt2)"
        )
    return None


def _inside_package(name: str) -> Path:
    spec = importlib.util.find_spec(name.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentProblem(f"teacher.model: the Python package {name!r} is not installed: pip install {name}")
    root = Path(spec.submodule_search_locations[0])
    for candidate in (root, root / "model"):
        if (candidate / "config.json").is_file():
            return candidate
    raise DataError(f"teacher.model: the package {name!r} holds no config.json at its top or in model/")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model directory.

    Raises:
        DataError: missing or not JSON.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise DataError(f"teacher.model: {folder} has no config.json; give a directory that save_pretrained wrote")
    try:
        config: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"teacher.model: {path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise DataError(f"teacher.model: {path} holds no JSON object; give a directory that save_pretrained wrote")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model directory.

    Raises:
        DataError: there are none, or pickles only.
    """
    found = sorted(folder.glob(WEIGHTS))
    if found:
        return found
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise DataError(
            f"teacher.model: {folder} has only pickled weights ({', '.join(pickles)}), which can run code "
            "when opened; save the model again with save_pretrained(safe_serialization=True)"
        )
    raise DataError(f"teacher.model: {folder} has no weights (*.safetensors)")


def safetensors_parameters(path: Path) -> int:
    """Number of values in a safetensors file, from its header.

    Raises:
        DataError: the header is damaged or promises more bytes than the file has.
    """
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 1 << 62
        if length > path.stat().st_size - 8:
            raise DataError(f"teacher.model: {path} is cut short or damaged: its header claims {length:,} bytes")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise DataError(f"teacher.model: {path} has a damaged header: {error}") from error
    try:
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        total = sum(math.prod(map(int, entry["shape"])) for entry in tensors)
        end = max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"teacher.model: {path} has a header that does not describe tensors: copy it anew") from error
    if path.stat().st_size < 8 + length + end:
        raise DataError(f"teacher.model: {path} is cut short: {path.stat().st_size:,} bytes of {8 + length + end:,}")
    return total


def positions(config: dict[str, Any]) -> int | None:
    """Longest input of a model in tokens, or None where its positions have no end."""
    for key in POSITION_KEYS:
        if key in config:
            return int(config[key]) - POSITION_OFFSETS.get(str(config.get("model_type")), 0)
    return None


def check_positions(config: dict[str, Any], max_length: int, *, key: str) -> int | None:
    """The teacher's positions; `key` is where the recipe says `max_length`.

    Raises:
        RecipeError: max_length is beyond them.
    """
    limit = positions(config)
    if limit is not None and max_length > limit:
        raise RecipeError(f"{key} is {max_length}, but the teacher has {limit} positions; set it to {limit} or less")
    return limit


def head_labels(config: dict[str, Any]) -> list[str]:
    """Names of the head's outputs in order."""
    named = config.get("id2label")
    if isinstance(named, dict):
        try:
            return [str(named[key]) for key in sorted(named, key=int)]
        except ValueError as error:
            keys = ", ".join(map(str, named))
            raise DataError(f"teacher.model: id2label in config.json has the keys {keys}, not 0, 1, 2 …") from error
    return [f"LABEL_{i}" for i in range(int(config.get("num_labels", 2)))]


def check_teacher(loaded: LoadedRecipe) -> dict[str, Any]:
    """Check the teacher without loading it; returns kind, parameters, positions, labels and hidden size.

    Of several teachers those of the lead, or of the first file where no one is a model, and of each under `members`.

    Raises:
        DataError: no weights, pickles only, damaged files, several teachers with different labels.
        RecipeError: max_length of the teacher, or of a student cut from it, is beyond the model's positions.
        EnvironmentProblem: the package that should hold it is not installed.
    """
    found = []
    lead = lead_of(loaded.recipe.teacher)
    for key, section in teachers_of(loaded.recipe.teacher):
        with told_of(key):
            found.append(_check_one(loaded, section, leads=section is lead))
    if not isinstance(loaded.recipe.teacher, SeveralTeachers):
        return found[0]
    _check_alike(found)
    return next((each for each in found if each["kind"] != "scores"), found[0]) | {"members": found}


def _check_alike(found: Sequence[dict[str, Any]]) -> None:
    """Heads that name their labels must name the same ones; each is put in the order of the data when it is loaded."""
    named = [
        (number, each["labels"])
        for number, each in enumerate(found)
        if each["labels"] and len(each["labels"]) > 1 and each["labels"][0] != "LABEL_0"
    ]
    for number, labels in named[1:]:
        first, others = named[0]
        if set(labels) != set(others):
            raise DataError(
                f"teacher.members.{number}.model answers {few(labels)}, but teacher.members.{first}.model answers "
                f"{few(others)}: all members must have the same labels"
            )


def few(names: Sequence[str]) -> str:
    """The first names of many."""
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _check_one(loaded: LoadedRecipe, teacher: OneTeacher, *, leads: bool) -> dict[str, Any]:
    if isinstance(teacher, ScoresTeacher):
        path = loaded.folder / teacher.path
        if not path.is_file():
            raise DataError(f"teacher.path: there is no file {path}")
        return {"kind": "scores", "parameters": None, "positions": None, "labels": None, "hidden": None}
    folder = resolve(teacher.model, loaded.folder)
    if folder is None:
        return {"kind": "hub", "parameters": None, "positions": None, "labels": None, "hidden": None}
    config = read_config(folder)
    if config.get("is_encoder_decoder"):
        raise DataError(
            f"teacher.model: {folder} is an encoder-decoder model ({config.get('model_type')}), which cannot be taught "
            "from here; give an encoder or a decoder, or its scores as a file (teacher.kind: scores)"
        )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise DataError(
            f"teacher.model: {folder} has no tokenizer (tokenizer.json); save it there with tokenizer.save_pretrained"
        )
    parameters = sum(safetensors_parameters(path) for path in weight_files(folder))
    limit = check_positions(config, teacher.max_length, key="teacher.max_length")
    student = loaded.recipe.student
    if leads and student.cuts_layers and student.max_length:
        check_positions(config, student.max_length, key="student.max_length")
    hidden = config.get("hidden_size", config.get("n_embd", config.get("dim")))
    return {
        "kind": str(config.get("model_type")),
        "parameters": parameters,
        "positions": limit,
        "labels": None if teacher.train else head_labels(config),
        "hidden": hidden,
        "heads": config.get("num_attention_heads", config.get("n_head", config.get("n_heads"))),
        "intermediate": config.get("intermediate_size", config.get("n_inner", config.get("hidden_dim"))),
        "layers": config.get("num_hidden_layers", config.get("n_layer", config.get("n_layers"))),
    }


def fingerprint(teacher: HuggingFaceTeacher, folder: Path | None) -> str:
    """Hash of a teacher's files (weights, configuration, tokenizer, code); id and revision for one on a hub."""
    if folder is None:
        return f"{teacher.model}@{teacher.revision}"
    endings = (".safetensors", ".json", ".txt", ".model", ".py")
    names = [path for path in sorted(folder.iterdir()) if path.suffix in endings]
    return digest_files({path.name: FileEntry(sha256=sha256_file(path), size=path.stat().st_size) for path in names})

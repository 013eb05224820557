"""What stands at a path, whether it is intact, and the model folder behind it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from compress.artifacts import (
    IR,
    MANIFEST,
    ONNX,
    SPEC,
    TOKENIZER,
    Artifact,
    read_artifact,
    read_spec,
    verify_artifact,
    write_spec,
)
from compress.errors import IntegrityError, KdcError, RecipeError
from compress.export.graph import weight_files
from compress.extras import available
from compress.runtime.bundle import MANIFEST as BUNDLE_MANIFEST
from compress.runtime.bundle import SUFFIX, open_bundle
from compress.runtime.plan import SUFFIX as ENGINE

CONFIG = "config.json"
RECIPE = "recipe.yaml"
SUMMARY = "summary.json"
RUN_MODELS = {
    "teacher": "onnx/teacher",
    "control": "onnx/control",
    "student": "onnx/student",
    "shipped": "quantized",
}
"""Models of a run by the names that its summary gives them, and where they are exported."""


class Kind(StrEnum):
    """What can stand at a path; the value is how messages call it."""

    run = "run folder"
    stage = "stage folder"
    model = "exported model folder"
    student = "student folder"
    teacher = "Hugging Face model folder"
    bundle = "bundle"
    onnx = "ONNX file"
    engine = "TensorRT engine"
    summary = "summary of a run"


def kind_of(path: Path) -> Kind:
    """Tell what a path is, by what it holds.

    Raises:
        RecipeError: nothing is there, or nothing that kdc knows.
        IntegrityError: its model.json is damaged.
    """
    if not path.exists():
        raise RecipeError(f"there is no {path}; give the path of a file or folder that exists")
    found = _folder_kind(path) if path.is_dir() else _file_kind(path)
    if found is None:
        raise RecipeError(f"{path} is none of what kdc knows: {', '.join(Kind)} or recipe; check the path")
    return found


def _file_kind(path: Path) -> Kind | None:
    suffixes = {".onnx": Kind.onnx, SUFFIX: Kind.bundle, ENGINE: Kind.engine}
    if path.suffix.lower() in suffixes:
        return suffixes[path.suffix.lower()]
    if path.suffix == ".json" and (path.name == SUMMARY or {"run", "stages", "models"} <= read_object(path).keys()):
        return Kind.summary
    return None


def _folder_kind(folder: Path) -> Kind | None:
    names = {entry.name for entry in folder.iterdir()}
    exported = bool(names & {BUNDLE_MANIFEST, ONNX, IR})
    student = not exported and SPEC in names and read_spec(folder).student is not None
    made = SUMMARY in names or any(folder.glob(f"*/{MANIFEST}"))
    rules = (
        (BUNDLE_MANIFEST in names, Kind.bundle),
        (bool(names & {ONNX, IR}), Kind.model),
        (student, Kind.student),
        (CONFIG in names, Kind.teacher),
        (MANIFEST in names, Kind.stage),
        (RECIPE in names and made, Kind.run),
    )
    return next((kind for holds, kind in rules if holds), None)


def read_object(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        IntegrityError: it holds something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise IntegrityError(f"{path} is no readable JSON ({error}); make it anew") from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{path} holds a {type(value).__name__}, expected is a mapping; make it anew")
    return value


def verified(folder: Path) -> Artifact | None:
    """Check what a run recorded about a folder; returns the folder's own record, or None where it has none.

    Raises:
        IntegrityError: a recorded file is missing or changed.
    """
    own = read_artifact(folder)
    if own is not None:
        verify_artifact(folder, own)
        return own
    above = Path(os.path.abspath(folder)).parent
    stage = read_artifact(above)
    if stage is not None:
        inside = {name: entry for name, entry in stage.files.items() if name.startswith(f"{folder.name}/")}
        verify_artifact(above, stage.model_copy(update={"files": inside}))
    return None


def narrowed(path: Path) -> Path:
    """The one model that is meant: of a run, or of its `onnx` stage, the student; anything else as it is.

    Raises:
        RecipeError: the run has no student yet, or the stage holds no model.
    """
    kind = kind_of(path)
    if kind is Kind.run:
        candidates = [path / RUN_MODELS["student"], path / "student"]
    elif kind is Kind.stage:
        candidates = [path / "student"]
    else:
        return path
    found = next((folder for folder in candidates if folder.is_dir()), None)
    if found is None:
        raise RecipeError(f"the {kind} {path} holds no student; give a model, or run `kdc distill RECIPE` first")
    return found


def model_folder(path: Path, temporary: Path) -> Path:
    """A folder with `model.onnx` or an OpenVINO model, and with `tokenizer.json` and `model.json` where they are known.

    Args:
        path: an exported model, a bundle, or an .onnx file, beside which the other two may stand.
        temporary: a new folder, made and filled when the files do not stand under these names already.

    Raises:
        RecipeError: the path is something else.
        IntegrityError: it is damaged.
    """
    kind = kind_of(path)
    if kind is Kind.model:
        verified(path)
        return path
    if kind is Kind.bundle:
        return _unpacked(path, temporary)
    if kind is Kind.onnx:
        return _staged(path, temporary)
    remedy = f"export it first: kdc export {path} --to onnx -o DIR"
    if kind not in (Kind.student, Kind.teacher):
        remedy = f"give an {Kind.model}, a {Kind.bundle} or an {Kind.onnx}"
    raise RecipeError(f"{path} is a {kind}, which cannot be run; {remedy}")


def _unpacked(path: Path, temporary: Path) -> Path:
    bundle = open_bundle(path)
    temporary.mkdir(parents=True)
    for name in (ONNX, TOKENIZER):
        (temporary / name).write_bytes(bundle.members[name])
    write_spec(temporary, bundle.manifest.spec)
    return temporary


def variant_folders(path: Path, temporary: Path) -> dict[str, Path]:
    """A bundle's models for other runtimes than onnxruntime, by runtime, each in a new folder below `temporary`."""
    bundle = open_bundle(path)
    found: dict[str, Path] = {}
    for variant in bundle.manifest.variants:
        folder = temporary / variant.folder
        folder.mkdir(parents=True)
        for name, member in zip(variant.spec.model_files, variant.members, strict=False):  # the last is golden
            (folder / name).write_bytes(bundle.members[member])
        (folder / TOKENIZER).write_bytes(bundle.members[TOKENIZER])
        write_spec(folder, variant.spec)
        found[variant.spec.runtime] = folder
    return found


def _staged(path: Path, temporary: Path) -> Path:
    """An .onnx under the name `model.onnx`, with its weights, and with what says how it reads text."""
    if path.name == ONNX:
        verified(path.parent)
        return path.parent
    temporary.mkdir(parents=True)
    # Symbolic links will not do: onnxruntime refuses external weights that lie outside of the model's folder.
    _link(path, temporary / ONNX)
    for weights in external_weights(path):
        beside = temporary / weights.relative_to(path.parent)
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, beside)  # onnx refuses weights with several hard links, too
    if (path.parent / TOKENIZER).is_file() and (path.parent / SPEC).is_file():
        for name in (TOKENIZER, SPEC):
            shutil.copyfile(path.parent / name, temporary / name)
    return temporary


def external_weights(path: Path) -> list[Path]:
    """Files that hold weights of an .onnx: those that it names.

    Where the package onnx is not installed, those under the names that exporters give them.
    """
    names = weight_files(path) if available("onnx") else [f"{path.name}{ending}" for ending in (".data", "_data")]
    return [path.parent / name for name in names if (path.parent / name).is_file()]


def onnx_bytes(path: Path) -> int:
    """Bytes of an .onnx and of the weights that it names."""
    return sum(file.stat().st_size for file in (path, *external_weights(path)))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


@contextmanager
def speaking_of(path: Path, temporary: Path) -> Iterator[None]:
    """Errors about a temporary copy of a model name the path that the user gave."""
    try:
        yield
    except KdcError as error:
        text = str(error).replace(str(temporary / ONNX), str(path)).replace(str(temporary), str(path))
        raise type(error)(text) from error


def refuse_target(out: Path, source: Path) -> None:
    """Refuse a folder whose replacement would destroy something else than an earlier result.

    Raises:
        RecipeError: it is a file, a foreign folder, part of a run, or holds what is being read.
    """
    if not out.exists():
        return
    if out.is_file():
        raise RecipeError(f"-o {out} is a file, but a folder is written; name another path")
    if source.resolve().is_relative_to(out.resolve()):
        raise RecipeError(f"-o {out} holds {source}, which is being read; name another folder")
    inside = {entry.name for entry in out.iterdir()}
    if inside and not inside & {ONNX, IR}:
        raise RecipeError(f"-o {out} is there already and is no {Kind.model}; name a new folder")
    if MANIFEST in inside:
        raise RecipeError(f"-o {out} belongs to a run, whose stages only `kdc run` writes; name another folder")

"""NAME.kdc: one file that answers. A stored zip whose every byte is checked on opening; also usable unpacked.

Integrity has two halves. Each member's SHA-256 stands in the manifest, and the manifest carries a digest of
itself. What lies between the members (zip headers, the directory at the end) is checked by packing them anew,
which is deterministic, and comparing. So one changed byte anywhere is found.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compress import __version__
from compress.artifacts import ONNX, TOKENIZER, FileEntry, ModelSpec, Runtime
from compress.errors import EnvironmentProblem, IntegrityError, RecipeError
from compress.runtime.engine import ModelBytes, Tensor, why_not_here
from compress.runtime.predictor import Predictor

SUFFIX = ".kdc"
MANIFEST = "manifest.json"
GOLDEN = "golden.jsonl"
CARD = "README.md"
LICENSES = "LICENSES"
REQUIRED = (ONNX, TOKENIZER, GOLDEN, CARD)

SCHEMA_VERSION: Final = 1
RUNTIME_MINIMUM = "0.1.0"
"""Oldest kdc that opens what this one writes."""
MAX_BYTES = 2**31 - 1
"""Largest bundle; beyond it a zip changes its format, and ONNX cannot hold the weights in one file anyway."""
MAX_MEMBERS = 256

_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_UNREADABLE_ZIP = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
    EOFError,
    struct.error,
)


class Variant(BaseModel):
    """The same student for another runtime than onnxruntime."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    """Its members stand below it: the model's files, and golden answers of its own."""
    spec: ModelSpec
    """How text becomes an answer; the threshold is its own."""

    @property
    def members(self) -> tuple[str, ...]:
        """Names of its members."""
        return tuple(f"{self.folder}/{name}" for name in (*self.spec.model_files, GOLDEN))


class Manifest(BaseModel):
    """`manifest.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    task: str
    """Kind of task: classification, pairs, ranking or regression."""
    spec: ModelSpec
    """How text becomes an answer."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    """The first output holds the logits, float32 [batch, labels]; one column for ranking and regression."""
    columns: dict[str, tuple[str, ...]] = {}
    """Field (text, text_pair) -> columns that training joined into it, where they are named otherwise."""
    files: dict[str, FileEntry]
    """Every member but the manifest."""
    metrics: dict[str, Any] = {}
    certificate: Annotated[dict[str, Any] | None, Field(exclude_if=lambda found: found is None)] = None
    """What the model does on the test rows beside its parents and its teacher, in whole and by slice; not in bundles
    that are made from a model alone, or by a kdc that did not know it."""
    variants: Annotated[tuple[Variant, ...], Field(exclude_if=lambda found: not found)] = ()
    """The student for other runtimes, the preferred one first; where none of them can run, `model.onnx` answers."""
    provenance: dict[str, Any] = {}
    """What it was made from: digest of the recipe, hashes of data, teacher and parents, versions."""
    notes: tuple[str, ...] = ()
    """Sentences that belong beside the figures."""
    runtime_minimum: str = RUNTIME_MINIMUM
    """Oldest kdc that can open it."""
    signature: None = None
    """Reserved."""
    digest: str = ""
    """SHA-256 (hex) of this manifest without `digest` and `signature`, see `manifest_digest`."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its manifest, and its members' bytes as they were verified."""

    path: Path
    manifest: Manifest
    members: Mapping[str, bytes]

    def predictor(self, threads: int = 1, runtime: Runtime | Literal["auto"] = "auto") -> Predictor:
        """The bundle's model, ready to answer; the predictor's `runtime` says what runs it.

        Args:
            threads: threads of the runtime.
            runtime: which of the bundle's models; auto takes the first variant that can run on this machine, else
                `model.onnx`.

        Raises:
            RecipeError: the bundle has no model for that runtime.
            EnvironmentProblem: that runtime is not installed, or lacks what the model needs on this processor.
        """
        variant = self.variant(runtime)
        spec = self.manifest.spec if variant is None else variant.spec
        names = [ONNX] if variant is None else variant.members[: len(spec.model_files)]
        tokenizer_json = self.members[TOKENIZER].decode()
        return Predictor.open(spec, tokenizer_json, ModelBytes(*(self.members[n] for n in names)), threads=threads)

    def variant(self, runtime: Runtime | Literal["auto"]) -> Variant | None:
        """The variant that `predictor` takes; None for `model.onnx`.

        Raises:
            RecipeError: the bundle has no model for that runtime.
        """
        variants = self.manifest.variants
        if runtime == "onnxruntime":
            return None
        if runtime == "auto":
            return next((variant for variant in variants if why_not_here(variant.spec) is None), None)
        found = next((variant for variant in variants if variant.spec.runtime == runtime), None)
        if found is None:
            has = ", ".join(["onnxruntime", *(variant.spec.runtime for variant in variants)])
            raise RecipeError(f"{self.path} has no model for {runtime}, it has one for {has}; take another --runtime")
        return found


def open_bundle(path: Path) -> Bundle:
    """Open a bundle, packed or unpacked, and check all of it.

    Raises:
        RecipeError: nothing readable is there.
        IntegrityError: it is damaged, or not a bundle.
        EnvironmentProblem: it was made for a newer kdc.
    """
    if not path.exists():
        raise RecipeError(f"no such bundle: {path}; give the path of a {SUFFIX} file or of an unpacked one")
    try:
        members = _read_folder(path) if path.is_dir() else _read_zip(path)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if MANIFEST not in members:
        inside = sorted(path.glob(f"bundle/*{SUFFIX}")) + sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else []
        if inside:
            raise RecipeError(f"{path} is a folder that holds a bundle; give {inside[0]}")
        raise _damaged(path, f"it has no {MANIFEST}")
    manifest = _read_manifest(path, members[MANIFEST])
    _check_members(path, manifest, members)
    return Bundle(path, manifest, members)


def pack(members: Mapping[str, bytes]) -> bytes:
    """The one archive of these members: sorted, stored, without times or owners."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, members[name])
    return stream.getvalue()


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The one spelling of a manifest."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a manifest without `digest` and `signature`, as sorted JSON without spaces."""
    signed = {key: value for key, value in manifest.items() if key not in ("digest", "signature")}
    return hashlib.sha256(json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_entry(content: bytes) -> FileEntry:
    """Hash and size of a member."""
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def is_safe_name(name: str) -> bool:
    """True for plain relative POSIX paths in ASCII: no `..`, leading dot, slash, backslash or drive."""
    return _SAFE_NAME.fullmatch(name) is not None


def _damaged(path: Path, reason: str) -> IntegrityError:
    return IntegrityError(f"{path} is not an intact bundle: {reason}; do not use it, get it or make it again")


def _check_limits(path: Path, count: int, size: int) -> None:
    if count > MAX_MEMBERS:
        raise _damaged(path, f"it has {count} members, {MAX_MEMBERS} are allowed")
    if size > MAX_BYTES:
        raise _damaged(path, f"it has {size:,} bytes, {MAX_BYTES:,} are allowed")


def _read_zip(path: Path) -> dict[str, bytes]:
    _check_limits(path, 0, path.stat().st_size)
    raw = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            infos = archive.infolist()
            _check_infos(path, infos, len(raw))
            members = {info.filename: archive.read(info) for info in infos}
    except _UNREADABLE_ZIP as error:
        raise _damaged(path, f"it is not a readable zip ({error})") from error
    if pack(members) != raw:
        raise _damaged(path, "its bytes are not those that its members are packed into")
    return members


def _check_infos(path: Path, infos: list[zipfile.ZipInfo], archive_size: int) -> None:
    """Refuse, before anything is read, what an honest archive never holds."""
    _check_limits(path, len(infos), sum(info.file_size for info in infos))
    seen: set[str] = set()
    for info in infos:
        # ZipInfo cuts names at NUL and turns the system's separator round: judge the name as stored.
        if not is_safe_name(info.orig_filename):
            raise _damaged(path, f"the member name {info.orig_filename!r} is not allowed")
        if info.filename in seen:
            raise _damaged(path, f"the member {info.filename!r} is there twice")
        seen.add(info.filename)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise _damaged(path, f"the member {info.filename!r} is compressed, bundles are stored")
        if not stat.S_ISREG(info.external_attr >> 16):
            raise _damaged(path, f"the member {info.filename!r} is a link or not a plain file")
        if info.file_size > archive_size:
            raise _damaged(path, f"the member {info.filename!r} claims {info.file_size:,} of {archive_size:,} bytes")


def _read_folder(folder: Path) -> dict[str, bytes]:
    found: dict[str, Path] = {}
    size = 0
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise _damaged(folder, f"{path.relative_to(folder)} is a link or not a plain file")
        for name in names:
            path = Path(parent, name)
            found[path.relative_to(folder).as_posix()] = path
            size += path.stat().st_size
        _check_limits(folder, len(found), size)
    return {name: path.read_bytes() for name, path in sorted(found.items())}


def _read_manifest(path: Path, content: bytes) -> Manifest:
    try:
        plain = json.loads(content)
        if not isinstance(plain, dict) or manifest_bytes(plain) != content:
            raise _damaged(path, f"{MANIFEST} was changed")
        actual, recorded = manifest_digest(plain), str(plain.get("digest"))
        if actual != recorded:
            raise _damaged(path, f"the digest of {MANIFEST} is {actual[:16]}, recorded is {recorded[:16]}")
        _check_runtime(path, plain)
        return Manifest.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _damaged(path, f"{MANIFEST} is not valid at {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{MANIFEST} is not readable JSON ({error})") from error


def _check_runtime(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a bundle from the future, before its unknown fields would look like damage."""
    needed = str(manifest.get("runtime_minimum"))
    if not re.fullmatch(r"\d+(\.\d+)*", needed):
        raise _damaged(path, f"runtime_minimum is {needed!r}, a version such as {RUNTIME_MINIMUM!r} was expected")
    if _version(needed) > _version(__version__):
        raise EnvironmentProblem(
            f"{path} needs kdc {needed} or newer, installed is {__version__}: pip install --upgrade 'kdc>={needed}'"
        )


def _version(text: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"\d+", text)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _check_members(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> None:
    expected = {MANIFEST, *manifest.files}
    required = {*REQUIRED, *(name for variant in manifest.variants for name in variant.members)}
    missing = sorted((expected | required) - set(members))
    unknown = sorted(set(members) - expected)
    if missing:
        raise _damaged(path, f"the member {missing[0]!r} is missing")
    if unknown:
        raise _damaged(path, f"the member {unknown[0]!r} is not in {MANIFEST}")
    for name, entry in manifest.files.items():
        actual = file_entry(members[name])
        if actual != entry:
            raise _damaged(
                path,
                f"{name} has {actual.size:,} bytes and sha256 {actual.sha256[:16]}, "
                f"recorded are {entry.size:,} and {entry.sha256[:16]}",
            )

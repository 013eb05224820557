"""NAME.kdc: one file that answers. A stored zip whose every byte is checked on opening; also usable unpacked.

Integrity has two halves. Each member's SHA-256 stands in the manifest, and the manifest carries a digest of
itself. What lies between the members (zip headers, the directory at the end) must be what packing them gives
(`runtime/archive.py`). So one changed byte anywhere is found. That nobody changed all of it together is what a
signature of the digest says; it is checked by `kdc verify --key` and asks nothing of a device that does not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compress import __version__
from compress.artifacts import ONNX, TOKENIZER, FileEntry, ModelSpec, Runtime
from compress.errors import EnvironmentProblem, IntegrityError, RecipeError
from compress.runtime.archive import MalformedArchive
from compress.runtime.engine import ModelBytes, Tensor, why_not_here
from compress.runtime.members import read_members
from compress.runtime.predictor import Predictor
from compress.runtime.shipped import ItemsEntry, ShippedItems, misfit, read_shipped

SUFFIX = ".kdc"
MANIFEST = "manifest.json"
GOLDEN = "golden.jsonl"
CARD = "README.md"
BENCH = "bench.json"
"""What was timed when it was made; only in bundles of a run that has a bench."""
LICENSES = "LICENSES"
REQUIRED = (ONNX, TOKENIZER, GOLDEN, CARD)

SCHEMA_VERSION: Final = 1
RUNTIME_MINIMUM = "0.1.0"
"""Oldest kdc that opens a bundle without any of the fields below."""
SINCE = dict.fromkeys(("certificate", "signature", "variants", "candidates", "items"), "0.2.0")
"""Optional field -> first kdc that knows it; an older one must ask for an upgrade, not take it for damage."""
SHARED: Final = ("task", "two_texts", "labels", "positive")
"""What a bundle's models have in common: requests and answers are the same whichever runs."""
MAX_MANIFEST_BYTES = 2**23
"""Largest manifest: room for a hundred thousand labels, while what JSON of this size becomes in memory stays small."""
MAX_REASON = 300
"""Characters of a reason in an error: a reason may quote what somebody wrote into a bundle."""


class Signature(BaseModel):
    """Who vouches for a bundle: an Ed25519 signature (RFC 8032) of its digest, see `signed_message`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: Literal["ed25519"] = "ed25519"
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 (hex) of the public key's 32 bytes: tells keys apart, proves nothing."""
    value: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    """The signature's 64 bytes, hex."""
    check: str
    """SHA-256 (hex) of the above: a damaged signature is found by those, too, who do not verify it."""

    @classmethod
    def of(cls, key: str, value: str) -> Signature:
        """The signature with its check."""
        return cls(key=key, value=value, check=_signature_check(key, value))

    @model_validator(mode="after")
    def _intact(self) -> Signature:
        if self.check != _signature_check(self.key, self.value):
            raise ValueError("the signature is damaged")
        return self


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
    candidates: Annotated[tuple[dict[str, Any], ...], Field(exclude_if=lambda found: not found)] = ()
    """What the automatic choice tried, a row each, where the model was chosen by it."""
    variants: Annotated[tuple[Variant, ...], Field(exclude_if=lambda found: not found)] = ()
    """The student for other runtimes, the preferred one first; where none of them can run, `model.onnx` answers."""
    items: Annotated[ItemsEntry | None, Field(exclude_if=lambda found: found is None)] = None
    """The items that it ranks, where its maker gave some."""
    provenance: dict[str, Any] = {}
    """What it was made from: digest of the recipe, hashes of data, teacher and parents, versions."""
    notes: tuple[str, ...] = ()
    """Sentences that belong beside the figures."""
    runtime_minimum: str = RUNTIME_MINIMUM
    """Oldest kdc that can open it."""
    signature: Signature | None = None
    """Who vouches for it, if anybody does."""
    digest: str = ""
    """SHA-256 (hex) of this manifest without `digest` and `signature`, see `manifest_digest`."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its manifest, and its members' bytes as they were verified."""

    path: Path
    manifest: Manifest
    members: Mapping[str, bytes]

    def predictor(
        self,
        threads: int = 1,
        runtime: Runtime | Literal["auto"] = "auto",
        *,
        cached_texts: int = 0,
        items: ShippedItems | None = None,
    ) -> Predictor:
        """The bundle's model, ready to answer; the predictor's `runtime` says what runs it.

        Args:
            threads: threads of the runtime.
            runtime: which of the bundle's models; auto takes the first variant that can run on this machine, else
                `model.onnx`.
            cached_texts: how many texts' tokens are kept for when they come again.
            items: what `items` gave for that runtime: where texts are kept, theirs are not tokenised again.

        Raises:
            IntegrityError: the model cannot be loaded, or the items are none of it.
            RecipeError: the bundle has no model for that runtime.
            EnvironmentProblem: that runtime is not installed, or lacks what the model needs on this processor.
        """
        variant = self.variant(runtime)
        spec = self.manifest.spec if variant is None else variant.spec
        names = [ONNX] if variant is None else variant.members[: len(spec.model_files)]
        try:
            tokenizer_json = self.members[TOKENIZER].decode()
        except UnicodeDecodeError as error:
            raise _damaged(self.path, f"{TOKENIZER} is not UTF-8 ({error})") from error
        model = ModelBytes(*(self.members[n] for n in names))
        known = None if items is None else items.tokens
        predictor = Predictor.open(spec, tokenizer_json, model, threads=threads, cached_texts=cached_texts, known=known)
        if items is not None and (reason := misfit(items, predictor)) is not None:
            raise _damaged(self.path, reason)
        return predictor

    def items(self, runtime: str = "auto") -> ShippedItems | None:
        """The items that came with it, for the model that `predictor` takes; None where there are none.

        Raises:
            RecipeError: the bundle has no model for that runtime.
            IntegrityError: they are not what the manifest says.
        """
        if self.manifest.items is None:
            return None
        variant = self.variant(runtime)
        spec, folder = (self.manifest.spec, "") if variant is None else (variant.spec, variant.folder)
        try:
            return read_shipped(self.manifest.items, self.members, spec, folder, self.manifest.digest)
        except ValueError as error:
            raise _damaged(self.path, str(error)) from error

    def variant(self, runtime: str) -> Variant | None:
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

    Sizes and names are checked before anything is read, the manifest's size before it is parsed, every hash before any
    other member is. What is kept in memory is at most the file and what its manifest becomes.

    Raises:
        RecipeError: nothing readable is there.
        IntegrityError: it is damaged, or not a bundle.
        EnvironmentProblem: it was made for a newer kdc.
    """
    if not path.exists():
        raise RecipeError(f"no such bundle: {path}; give the path of a {SUFFIX} file or of an unpacked one")
    try:
        members = read_members(path)
    except MalformedArchive as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if MANIFEST not in members:
        inside = sorted(path.glob(f"bundle/*{SUFFIX}")) + sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else []
        if inside:
            raise RecipeError(f"{path} is a folder that holds a bundle; give {inside[0]}")
        raise _damaged(path, f"it has no {MANIFEST}")
    manifest = _read_manifest(path, members[MANIFEST])
    _check_models(path, manifest)
    _check_members(path, manifest, members)
    return Bundle(path, manifest, members)


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The one spelling of a manifest, and of other plain data in a bundle."""
    return b"".join(_spelled(manifest))


def _spelled(manifest: Mapping[str, Any]) -> Iterator[bytes]:
    """The spelling in pieces: that of a foreign manifest may be much longer than what it was read from."""
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False, allow_nan=False).iterencode(manifest):
        yield piece.encode()
    yield b"\n"


def _is_spelled(manifest: Mapping[str, Any], content: bytes) -> bool:
    position = 0
    for piece in _spelled(manifest):
        if not content.startswith(piece, position):
            return False
        position += len(piece)
    return position == len(content)


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a manifest without `digest` and `signature`, as sorted JSON without spaces."""
    signed = {key: value for key, value in manifest.items() if key not in ("digest", "signature")}
    return hashlib.sha256(json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_entry(content: bytes) -> FileEntry:
    """Hash and size of a member."""
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def signed_message(digest: str) -> bytes:
    """The bytes that a signature signs: they can be mistaken for no other message of the same key."""
    return f"kdc bundle {digest}".encode()


def runtime_minimum(manifest: Mapping[str, Any]) -> str:
    """Oldest kdc that opens a bundle with this manifest."""
    needed = [since for field, since in SINCE.items() if manifest.get(field)]
    return max([RUNTIME_MINIMUM, *needed], key=_version)


def _signature_check(key: str, value: str) -> str:
    return hashlib.sha256(f"ed25519 {key} {value}".encode()).hexdigest()


def _damaged(path: Path, reason: str) -> IntegrityError:
    shown = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in reason[: MAX_REASON + 1])
    if len(shown) > MAX_REASON:
        shown = shown[:MAX_REASON] + "…"
    return IntegrityError(f"{path} is not an intact bundle: {shown}; do not use it, get it or make it again")


def _read_manifest(path: Path, content: bytes) -> Manifest:
    if len(content) > MAX_MANIFEST_BYTES:
        raise _damaged(path, f"{MANIFEST} has {len(content):,} bytes, {MAX_MANIFEST_BYTES:,} are allowed")
    try:
        plain = json.loads(content)
        if not isinstance(plain, dict) or not _is_spelled(plain, content):
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
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}){0,9}", needed):
        raise _damaged(path, f"runtime_minimum is {needed!r}, a version such as {RUNTIME_MINIMUM!r} was expected")
    if _version(needed) > _version(__version__):
        raise EnvironmentProblem(
            f"{path} needs kdc {needed} or newer, installed is {__version__}: pip install --upgrade 'kdc>={needed}'"
        )
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise _damaged(
            path, f"schema_version is {manifest.get('schema_version')!r}, kdc {__version__} reads {SCHEMA_VERSION}"
        )


def _version(text: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"\d+", text)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _check_models(path: Path, manifest: Manifest) -> None:
    """One model a runtime, all of one task: else `kdc verify` would ask another one than the one that answers."""
    runtimes = [manifest.spec.runtime, *(variant.spec.runtime for variant in manifest.variants)]
    if runtimes[0] != "onnxruntime" or len(set(runtimes)) != len(runtimes):
        raise _damaged(path, f"its models are for {', '.join(runtimes)}, onnxruntime first and each once were expected")
    if manifest.task != manifest.spec.task:
        raise _damaged(path, f"its task is {manifest.task!r}, that of its model {manifest.spec.task!r}")
    for variant in manifest.variants:
        for field in SHARED:
            if getattr(variant.spec, field) != getattr(manifest.spec, field):
                raise _damaged(path, f"its models for {runtimes[0]} and {variant.spec.runtime} differ in {field}")


def _check_members(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> None:
    expected = {MANIFEST, *manifest.files}
    required = {*REQUIRED, *(name for variant in manifest.variants for name in variant.members)}
    if manifest.items is not None:
        required.update(manifest.items.members([variant.folder for variant in manifest.variants]))
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

"""Artifacts: a folder of files with hashes, published whole or not at all. Imports no torch."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.errors import EnvironmentProblem, IntegrityError

MANIFEST = "artifact.json"
SPEC = "model.json"
TOKENIZER = "tokenizer.json"
ONNX = "model.onnx"
IR, IR_WEIGHTS = "model.xml", "model.bin"
"""OpenVINO's intermediate representation: the graph, and its weights."""
WEIGHTS = "*.safetensors"
"""Trained weights, as one file or several."""
CACHE = ".cache"
"""Below a folder of runs: what they share."""
LOGITS, EMBEDDING = "logits", "text_embedding"
"""Names of a model's outputs; the second only of students that read two texts apart."""
Runtime = Literal["onnxruntime", "openvino"]
"""What can run a deployable folder."""
Arithmetic = Literal["float32", "bfloat16"]
"""What operators that are not quantized compute in."""
MODEL_FILES: dict[Runtime, tuple[str, ...]] = {"onnxruntime": (ONNX,), "openvino": (IR, IR_WEIGHTS)}
"""What each runtime reads; the first is the graph."""
PORTABLE = "portable"
"""Below a deployable folder that is not for onnxruntime: the same student for onnxruntime."""
TEMPORARY, REPLACED = ".tmp-", ".old-"
CHUNK = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FileEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int


class Artifact(BaseModel):
    """What a stage leaves behind; `artifact.json` in its folder is this, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    key: str
    """Digest of all that the content depends on: recipe section, parents, stage version."""
    recipe_digest: str
    parents: dict[str, str] = {}
    """Stage name -> hash of the parent artifact."""
    files: dict[str, FileEntry] = {}
    metrics: dict[str, Any] = {}
    versions: dict[str, str] = {}
    seconds: float = 0.0
    status: str = "done"
    reason: str | None = None

    @property
    def sha256(self) -> str:
        """Hash of the content: names and hashes of the files, nothing that changes from run to run."""
        return digest_files(self.files)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())


class Standard(BaseModel):
    """How numbers were standardised: a model answers (number - mean) / std."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: float
    std: float = Field(gt=0)


class Similarity(BaseModel):
    """How the cosine of two texts' embeddings becomes a score: scale · cosine + bias."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: float
    bias: float


TWO_TEXTS = ("pairs", "ranking")
"""Kinds of task that always compare two texts."""


class ModelSpec(BaseModel):
    """How a folder with a model or weights turns text into an answer; `model.json` is this, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    """Kind of task: classification, pairs, ranking or regression."""
    two_texts: bool
    """Whether a request has a second text; where it is not said, told by the kind of task."""
    labels: tuple[str, ...]
    """Label of each logit; for ranking and regression the name of the one output."""
    positive: str | None = None
    """For pairs with two labels: the label that counts as a match."""
    threshold: float | None = None
    """For pairs with two labels: least probability of the positive label that answers it, chosen on validation."""
    standard: Standard | None = None
    """For regression: mean and standard deviation of the training labels, which turn the output into a number."""
    max_length: int = Field(ge=1, le=2**20)
    """Tokens at the most, special tokens included."""
    inputs: tuple[str, ...]
    """Names of the model's inputs, among input_ids, attention_mask, token_type_ids; each int64 [batch, sequence]."""
    pad_id: int = Field(default=0, ge=0, lt=2**31)
    """Token that fills short rows."""
    separator: str = ""
    """Put between the texts of a pair where the tokenizer has no separator token of its own."""
    similarity: Similarity | None = None
    """For students that read two texts apart; each text then has half of max_length, its own special tokens, and in the
    model's second output an embedding."""
    student: dict[str, Any] | None = None
    """For a student: the section of the recipe that it was built from, and its sizes."""
    runtime: Annotated[Runtime, Field(exclude_if=lambda name: name == "onnxruntime")] = "onnxruntime"
    """What runs it: onnxruntime reads `model.onnx`, openvino `model.xml` with `model.bin`."""
    arithmetic: Annotated[Arithmetic, Field(exclude_if=lambda name: name == "float32")] = "float32"
    """What operators that are not quantized compute in; bfloat16 is OpenVINO's alone."""

    @property
    def model_files(self) -> tuple[str, ...]:
        """Names of the model's own files; the first is the graph."""
        return MODEL_FILES[self.runtime]

    @model_validator(mode="before")
    @classmethod
    def _texts_by_task(cls, given: Any) -> Any:
        if isinstance(given, dict) and "two_texts" not in given:
            return given | {"two_texts": given.get("task") in TWO_TEXTS}
        return given


def read_spec(folder: Path) -> ModelSpec:
    """model.json of a folder.

    Raises:
        IntegrityError: it is no specification of a model.
    """
    try:
        return ModelSpec.model_validate_json((folder / SPEC).read_bytes())
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise IntegrityError(f"{folder / SPEC} is not readable ({reason}); make {folder} anew") from error


def write_spec(folder: Path, spec: ModelSpec) -> None:
    """Write model.json into a folder."""
    (folder / SPEC).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")


def digest_files(files: dict[str, FileEntry]) -> str:
    """One SHA-256 (hex) over names and hashes of files."""
    lines = "".join(f"{name}\0{files[name].sha256}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Every file below a folder but its manifest, by relative POSIX name."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.relative_to(folder).as_posix() != MANIFEST)
    return {p.relative_to(folder).as_posix(): FileEntry(sha256=sha256_file(p), size=p.stat().st_size) for p in found}


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, by rename."""
    with publishing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_artifact(folder: Path) -> Artifact | None:
    """The artifact in a folder, or None where none was published.

    Raises:
        IntegrityError: the manifest is there but unreadable.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return None
    try:
        return Artifact.model_validate_json(manifest.read_bytes())
    except ValueError as error:
        raise IntegrityError(
            f"{manifest} is not a readable artifact manifest; delete {folder} to make it anew"
        ) from error


def damage(folder: Path, artifact: Artifact) -> str | None:
    """Compare every file with its hash; the sentence for the first that is missing or changed, or None."""
    for name, entry in artifact.files.items():
        path = folder / name
        actual = sha256_file(path) if path.is_file() else "missing"
        if actual != entry.sha256:
            return f"{path} is damaged: sha256 is {actual[:16]}, recorded was {entry.sha256[:16]}"
    return None


def verify_artifact(folder: Path, artifact: Artifact) -> None:
    """Compare every file with its hash.

    Raises:
        IntegrityError: a file is missing or changed.
    """
    found = damage(folder, artifact)
    if found is not None:
        raise IntegrityError(f"{found}; delete {folder} to make it anew")


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A second name for a file, or a copy where the file systems have no hard links."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def take_over(source: Path, found: Artifact, target: Path) -> None:
    """Publish the files of an artifact in another folder too, by hard links, with the manifest as given.

    Raises:
        IntegrityError: a file is missing or changed; `source` may be in use, so what was linked is what is verified.
        FileNotFoundError: it was removed meanwhile.
    """
    with publishing(target) as temporary:
        for name in found.files:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(source / name, temporary / name)
        temporary.mkdir(exist_ok=True)  # of an artifact without files
        verify_artifact(temporary, found)
        (temporary / MANIFEST).write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")


@contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`, and rename it to `target` when the block ends well.

    The block makes a file or a folder there. An older `target` is replaced. On any error nothing is left behind.

    Raises:
        EnvironmentProblem: the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unique = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = target.with_name(f"{TEMPORARY}{target.name}-{unique}")
    replaced = target.with_name(f"{REPLACED}{unique}-{target.name}")
    try:
        yield temporary
        if target.is_dir() and not target.is_symlink():
            # Deleting takes time, and a kill would leave half of it under its name.
            os.replace(target, replaced)
        try:
            os.replace(temporary, target)
        except OSError:
            if replaced.exists():
                os.replace(replaced, target)
            raise
    except Exception as error:
        if is_disk_full(error):
            raise EnvironmentProblem(
                f"the disk is full: {target} could not be written ({free_bytes(target.parent):,} bytes free); "
                "free some space and run the same command again"
            ) from error
        raise
    finally:
        remove(temporary)
        remove(replaced)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that a disk or a quota has no room left."""
    if isinstance(error, OSError):
        return error.errno in FULL
    # safetensors and tokenizers write in Rust, and raise classes of their own
    return any(f"(os error {number})" in str(error) for number in FULL)


def remove(path: Path) -> None:
    """Delete a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep_temporaries(folder: Path) -> None:
    """Delete what a killed process left half written in a folder; only for the holder of the folder's lock.

    A folder that was moved aside for a new one which never came goes back to its name.
    """
    for leftover in folder.glob(f"{REPLACED}*"):
        target = folder / leftover.name.removeprefix(REPLACED).split("-", 2)[2]
        if not target.exists():
            os.replace(leftover, target)
    for pattern in (TEMPORARY, REPLACED):
        for leftover in folder.glob(f"{pattern}*"):
            remove(leftover)


def weights_bytes(folder: Path) -> int:
    """Bytes of trained weights in a folder."""
    return sum(path.stat().st_size for path in folder.glob(WEIGHTS))


def model_bytes(folder: Path) -> int:
    """Bytes of the exported model in a folder, with its weights as far as they are there."""
    files = [folder / IR, folder / IR_WEIGHTS] if (folder / IR).is_file() else folder.glob(f"{ONNX}*")
    return sum(path.stat().st_size for path in files if path.is_file())


def free_bytes(folder: Path) -> int:
    """Free bytes on the file system of the nearest existing parent."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free

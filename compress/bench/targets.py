"""What a model is timed on: onnxruntime, OpenVINO, or torch as it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress.artifacts import (
    IR,
    IR_WEIGHTS,
    ONNX,
    SPEC,
    TOKENIZER,
    WEIGHTS,
    FileEntry,
    Runtime,
    digest_files,
    read_spec,
    sha256_file,
)
from compress.bench.bare import BareModel, answers_text
from compress.extras import available, install_hint
from compress.runtime.predictor import Predictor

if TYPE_CHECKING:
    from compress.bench.lanes import Answering

ONNXRUNTIME, OPENVINO, TORCH = "onnxruntime-cpu", "openvino-cpu", "torch-cpu"
RUNTIMES: dict[str, Runtime] = {ONNXRUNTIME: "onnxruntime", OPENVINO: "openvino"}


def own_target(folder: Path) -> str:
    """What a folder is for: torch where it has weights and no model that a runtime reads."""
    if (folder / IR).is_file():
        return OPENVINO
    return ONNXRUNTIME if (folder / ONNX).is_file() or not any(folder.glob(WEIGHTS)) else TORCH


def why_not(folder: Path, target: str) -> str | None:
    """Why a folder cannot be timed on a target, or None where it can be tried; loads no model."""
    own = own_target(folder)
    if TORCH in (own, target):
        return _why_not_torch(own, target)
    if own == ONNXRUNTIME and not (folder / ONNX).is_file():
        return f"{folder.name} has no {ONNX}"
    if target == ONNXRUNTIME:
        return None if own == target else f"{folder.name} holds an OpenVINO model, which onnxruntime does not read"
    from compress.runtime.openvino_engine import problem

    return problem(read_spec(folder).arithmetic if (folder / SPEC).is_file() else "float32")


def _why_not_torch(own: str, target: str) -> str | None:
    if target != TORCH:
        return f"{target} runs exported models, not trained weights"
    if own != TORCH:
        return "torch-cpu runs trained weights, not an exported model: give the student folder of a run"
    return None if available("torch") else f"torch is not installed: {install_hint('train')}"


def open_model(folder: Path, threads: int, target: str) -> Answering:
    """What to time in a folder: from text where it can answer text, else a BareModel.

    Raises:
        IntegrityError: a file of it is damaged.
        DataError: it cannot be run on generated inputs, or OpenVINO does not read one of its operators.
        EnvironmentProblem: a package is missing, or the processor lacks what the model needs.
    """
    if target == TORCH:
        from compress.bench.eager import open_eager

        return open_eager(folder, threads)
    if answers_text(folder):
        return Predictor.from_folder(folder, threads=threads, runtime=RUNTIMES[target])
    graph = IR if own_target(folder) == OPENVINO else ONNX
    return BareModel(folder / graph, threads=threads, runtime=RUNTIMES[target])


def deployed_files(folder: Path) -> list[Path]:
    """What answering needs: the model with its weights, tokenizer.json, model.json."""
    if own_target(folder) == TORCH:
        needed = [*folder.glob(WEIGHTS), folder / TOKENIZER, folder / SPEC]
    else:
        needed = [*folder.glob(f"{ONNX}*"), *(folder / name for name in (IR, IR_WEIGHTS, TOKENIZER, SPEC))]
    return [path for path in needed if path.is_file()]


def deployed_bytes(folder: Path) -> int:
    """Bytes of `deployed_files`."""
    return sum(path.stat().st_size for path in deployed_files(folder))


def deployed_sha256(folder: Path, weights: Sequence[Path] = ()) -> str:
    """One SHA-256 (hex) over names and contents of `deployed_files`, and of weights that have other names."""
    files = [*deployed_files(folder), *weights]
    return digest_files({path.name: FileEntry(sha256=sha256_file(path), size=path.stat().st_size) for path in files})

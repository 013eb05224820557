"""What a model is timed on: onnxruntime, OpenVINO, TensorRT, or torch as it was trained; on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from compress.errors import DataError
from compress.extras import available, install_hint
from compress.runtime import onnx_cuda, tensorrt_engine
from compress.runtime.engine import Engine, open_engine
from compress.runtime.plan import SUFFIX as ENGINE
from compress.runtime.plan import Builder, read_plan
from compress.runtime.predictor import Predictor

if TYPE_CHECKING:
    from compress.bench.lanes import Answering

ONNXRUNTIME, OPENVINO, TORCH = "onnxruntime-cpu", "openvino-cpu", "torch-cpu"
ONNXRUNTIME_CUDA, TORCH_CUDA = "onnxruntime-cuda", "torch-cuda"
ENGINES: dict[str, Builder] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx"}
"""Targets that run engine files, and what must have built these."""
EAGER = (TORCH, TORCH_CUDA)
"""Targets that run trained weights."""
ON_GPU = (ONNXRUNTIME_CUDA, TORCH_CUDA, *ENGINES)
RUNTIMES: dict[str, Runtime] = {ONNXRUNTIME: "onnxruntime", OPENVINO: "openvino"}


def own_target(folder: Path) -> str:
    """What a folder is for: torch where it has weights, TensorRT where it has an engine, and no other model.

    Raises:
        IntegrityError: the engine is none.
    """
    if (folder / IR).is_file():
        return OPENVINO
    if (folder / ONNX).is_file():
        return ONNXRUNTIME
    if (engine := engine_of(folder)) is not None:
        return read_plan(engine).builder
    return TORCH if any(folder.glob(WEIGHTS)) else ONNXRUNTIME


def any_on_gpu(targets: Iterable[str]) -> bool:
    """Whether one of the targets is a GPU's."""
    return not set(ON_GPU).isdisjoint(targets)


def engine_of(folder: Path) -> Path | None:
    """The engine that a folder holds, or None."""
    return next(iter(sorted(folder.glob(f"*{ENGINE}"))), None)


def why_not(folder: Path, target: str) -> str | None:
    """Why a folder cannot be timed on a target, or None where it can be tried; loads no model.

    Raises:
        IntegrityError: an engine is none.
    """
    own = own_target(folder)
    if own in EAGER or target in EAGER:
        return _why_not_torch(own, target)
    if own in ENGINES or target in ENGINES:
        return _why_not_engine(folder, own, target)
    if own == ONNXRUNTIME and not (folder / ONNX).is_file():
        return f"{folder.name} has no {ONNX}"
    if target in (ONNXRUNTIME, ONNXRUNTIME_CUDA):
        if own != ONNXRUNTIME:
            return f"{folder.name} holds an OpenVINO model, which onnxruntime does not read"
        return None if target == ONNXRUNTIME else onnx_cuda.problem()
    from compress.runtime.openvino_engine import problem

    return problem(read_spec(folder).arithmetic if (folder / SPEC).is_file() else "float32")


def _why_not_torch(own: str, target: str) -> str | None:
    if target not in EAGER:
        return f"{target} runs exported models, not trained weights"
    if own not in EAGER:
        return f"{target} runs trained weights, not an exported model: give the student folder of a run"
    if not available("torch"):
        return f"torch is not installed: {install_hint('train')}"
    if target == TORCH:
        return None
    from compress.bench.eager import cuda_problem

    return cuda_problem()


def _why_not_engine(folder: Path, own: str, target: str) -> str | None:
    engine = engine_of(folder)
    if target not in ENGINES:
        return f"{folder.name} holds an engine of {own}, which {target} does not read"
    if engine is None or own not in ENGINES:
        return f"{folder.name} has no engine: build one with `kdc export --to {target}` and give it, NAME{ENGINE}"
    return tensorrt_engine.problem(engine, ENGINES[target])


def open_model(folder: Path, threads: int, target: str) -> Answering:
    """What to time in a folder: from text where it can answer text, else a BareModel.

    Raises:
        IntegrityError: a file of it is damaged.
        DataError: it cannot be run on generated inputs, or its target does not run it as a whole.
        EnvironmentProblem: a package is missing, the processor lacks what the model needs, or a session did not get the
            GPU that it asked for.
    """
    if target in EAGER:
        import torch

        from compress.bench.eager import open_eager

        return open_eager(folder, threads, torch.device("cpu" if target == TORCH else "cuda"))
    if target == ONNXRUNTIME_CUDA:
        return _answering(folder, onnx_cuda.CudaOnnxEngine(folder / ONNX, threads), ONNX)
    if target in ENGINES:
        path = engine_of(folder)
        if path is None:
            raise DataError(f"{folder} has no engine; build one with `kdc export --to {target}`")
        return _answering(folder, tensorrt_engine.TensorRtEngine(path, ENGINES[target], threads), path.name)
    if answers_text(folder):
        return Predictor.from_folder(folder, threads=threads, runtime=RUNTIMES[target])
    graph = folder / (IR if own_target(folder) == OPENVINO else ONNX)
    return BareModel(open_engine(graph, runtime=RUNTIMES[target], threads=threads), graph)


def _answering(folder: Path, engine: Engine, name: str) -> Answering:
    if not answers_text(folder):
        return BareModel(engine, folder / name)
    return Predictor(read_spec(folder), (folder / TOKENIZER).read_text(encoding="utf-8"), engine)


def deployed_files(folder: Path) -> list[Path]:
    """What answering needs: the model with its weights, tokenizer.json, model.json."""
    needed = [*model_files(folder), folder / TOKENIZER, folder / SPEC]
    return [path for path in needed if path.is_file()]


def model_files(folder: Path) -> list[Path]:
    """The model with its weights, without what says how it reads text."""
    own = own_target(folder)
    if own == TORCH:
        return [*folder.glob(WEIGHTS)]
    if own in ENGINES:
        return [*folder.glob(f"*{ENGINE}")]
    return [*folder.glob(f"{ONNX}*"), *(folder / name for name in (IR, IR_WEIGHTS) if (folder / name).is_file())]


def deployed_bytes(folder: Path) -> int:
    """Bytes of `deployed_files`."""
    return sum(path.stat().st_size for path in deployed_files(folder))


def deployed_sha256(folder: Path, weights: Sequence[Path] = ()) -> str:
    """One SHA-256 (hex) over names and contents of `deployed_files`, and of weights that have other names."""
    files = [*deployed_files(folder), *weights]
    return digest_files({path.name: FileEntry(sha256=sha256_file(path), size=path.stat().st_size) for path in files})

"""ONNX models on onnxruntime's CPU provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.artifacts import ONNX
from compress.errors import IntegrityError
from compress.runtime.engine import Array, Model, Tensor

PROVIDERS = ["CPUExecutionProvider"]
NUMPY_NAMES = {"float": "float32", "double": "float64"}


class OnnxEngine:
    """A session of onnxruntime; see compress.runtime.engine.Engine.

    Raises:
        IntegrityError: onnxruntime cannot load the model, or runs it on something else than the CPU.
    """

    runtime = "onnxruntime"

    def __init__(self, model: Model, threads: int) -> None:
        source = str(model) if isinstance(model, Path) else model.graph
        try:
            self._session = self._open(source, threads)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            name = model if isinstance(model, Path) else ONNX
            raise IntegrityError(f"{name} cannot be loaded by onnxruntime ({str(error).strip()})") from error
        self._check_provider(self._session)
        self.inputs = tuple(map(_tensor, self._session.get_inputs()))
        self.outputs = tuple(map(_tensor, self._session.get_outputs()))
        self.threads = threads

    def _open(self, source: str | bytes, threads: int) -> Any:
        import onnxruntime

        return onnxruntime.InferenceSession(source, sess_options=session_options(threads), providers=PROVIDERS)

    def _check_provider(self, session: Any) -> None:
        if session.get_providers() != PROVIDERS:
            raise IntegrityError(f"onnxruntime runs the model on {session.get_providers()}, {PROVIDERS} was asked for")

    def run(self, feed: Mapping[str, Array], names: Sequence[str] | None = None) -> list[Array]:
        """The named outputs, or all, for these inputs."""
        found: list[Array] = self._session.run(names, feed)
        return found


def session_options(threads: int) -> Any:
    """Options of a session that computes with so many threads and says nothing but errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _tensor(item: Any) -> Tensor:
    dtype = item.type.removeprefix("tensor(").removesuffix(")")
    return Tensor(item.name, NUMPY_NAMES.get(dtype, dtype), tuple(item.shape))

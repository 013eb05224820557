"""OpenVINO models (model.xml with model.bin) and ONNX models on OpenVINO's CPU plugin."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from compress.artifacts import IR, Arithmetic
from compress.errors import DataError, EnvironmentProblem, IntegrityError
from compress.extras import available, install_hint, require
from compress.runtime.engine import Array, Model, Tensor

PRECISIONS: dict[Arithmetic, str] = {"float32": "f32", "bfloat16": "bf16"}
NO_BFLOAT16 = "this processor has no bfloat16 arithmetic"


def openvino() -> Any:
    """The package.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    return require("openvino", extra="openvino", why="running a model with OpenVINO")


@cache
def core() -> Any:
    """OpenVINO's one entry, which knows the devices of this machine."""
    return openvino().Core()


@cache
def has_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def problem(arithmetic: Arithmetic) -> str | None:
    """Why a model cannot run on this machine, or None where it can."""
    if not available("openvino"):
        return f"openvino is not installed: {install_hint('openvino')}"
    return NO_BFLOAT16 if arithmetic == "bfloat16" and not has_bfloat16() else None


class OpenVinoEngine:
    """A model compiled by OpenVINO for latency; see compress.runtime.engine.Engine.

    `threads` is what OpenVINO took: it takes no more than there are cores.

    Raises:
        EnvironmentProblem: openvino is not installed, or cannot compute in `arithmetic` here.
        IntegrityError: OpenVINO cannot load the model.
        DataError: an .onnx file has operators that OpenVINO does not read.
    """

    runtime = "openvino"

    def __init__(self, model: Model, threads: int, arithmetic: Arithmetic) -> None:
        openvino()
        wrong = problem(arithmetic)
        if wrong is not None:
            raise EnvironmentProblem(f"the model computes in {arithmetic}, but {wrong}; take its float32 form")
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Left to itself OpenVINO computes in bfloat16 wherever it can: other answers on other machines.
            "INFERENCE_PRECISION_HINT": PRECISIONS[arithmetic],
            # Pinned processes of one thread each would all meet on the first core.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = _load(model, options)
        self.inputs = tuple(map(_tensor, self._compiled.inputs))
        self.outputs = tuple(map(_tensor, self._compiled.outputs))
        self.threads = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))
        self._positions = {tensor.name: position for position, tensor in enumerate(self.outputs)}
        self._own = threading.local()

    def run(self, feed: Mapping[str, Array], names: Sequence[str] | None = None) -> list[Array]:
        """The named outputs, or all, for these inputs."""
        # Sharing saves copies that are a fifth of a small model's time; what is given out must outlive the next call.
        found = self._request().infer(feed, share_inputs=True, share_outputs=True)
        return [found[self._positions[name]].copy() for name in names or self._positions]

    def _request(self) -> Any:
        """This thread's request: one request holds the tensors of one call."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        return self._own.request


def check_exact(model: Any, name: object) -> None:
    """Refuse a graph that OpenVINO would answer wrongly.

    Raises:
        DataError: it takes the remainder of whole numbers, which OpenVINO 2026.4 computes in float32.
    """
    remainders = (op for op in model.get_ops() if op.get_type_name() in ("FloorMod", "Mod"))
    if any(op.get_output_element_type(0).is_integral_number() for op in remainders):
        raise DataError(
            f"{name} takes remainders of whole numbers, as a static student with bigrams does, and OpenVINO computes "
            "them in float32, which is wrong beyond 2^24; take onnxruntime"
        )


def _load(model: Model, options: dict[str, Any]) -> Any:
    is_onnx = isinstance(model, Path) and model.name.endswith(".onnx")
    try:
        read = core().read_model(model) if isinstance(model, Path) else core().read_model(model.graph, model.weights)
        check_exact(read, model if isinstance(model, Path) else IR)
        return core().compile_model(read, "CPU", options)
    except RuntimeError as error:  # OpenVINO's own errors, all of them
        reason = " ".join(str(error).split())
        if is_onnx:
            raise DataError(f"OpenVINO cannot read {model} ({reason}); time it on onnxruntime-cpu") from error
        name = model if isinstance(model, Path) else IR
        raise IntegrityError(f"{name} cannot be loaded by OpenVINO ({reason})") from error


def _tensor(port: Any) -> Tensor:
    shape = tuple("?" if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    return Tensor(port.get_any_name(), port.get_element_type().to_dtype().name, shape)

"""One interface to what runs a model on the CPU: onnxruntime, or OpenVINO where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from compress.artifacts import Arithmetic, ModelSpec, Runtime

Array = npt.NDArray[Any]


class ModelBytes(NamedTuple):
    """A model that is no file: its graph, and its weights where they stand apart."""

    graph: bytes
    weights: bytes = b""


Model = Path | ModelBytes


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model; shape entries are sizes, or names (`?` where there is none) of free ones."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Engine(Protocol):
    """A loaded model. Several threads may run it at a time.

    runtime: what runs it. inputs, outputs: in the model's order; dtypes by numpy's names. threads: how many it
    computes with.
    """

    runtime: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    threads: int

    def run(self, feed: Mapping[str, Array], names: Sequence[str] | None = None) -> list[Array]:
        """The named outputs, or all, for these inputs."""
        ...


def open_engine(
    model: Model, *, runtime: Runtime = "onnxruntime", arithmetic: Arithmetic = "float32", threads: int = 1
) -> Engine:
    """Load a model.

    Args:
        model: model.onnx, or for openvino model.xml beside model.bin, or model.onnx too; as file or bytes.
        runtime: what shall run it; never another one in its place.
        arithmetic: of operators that are not quantized; bfloat16 for openvino alone.
        threads: threads inside one operator.

    Raises:
        IntegrityError: it cannot be loaded.
        DataError: an .onnx file has operators that OpenVINO does not read.
        EnvironmentProblem: openvino is not installed, or the processor has no bfloat16.
    """
    if runtime == "onnxruntime":
        from compress.runtime.onnx_engine import OnnxEngine

        return OnnxEngine(model, threads)
    from compress.runtime.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(model, threads, arithmetic)


def why_not_here(spec: ModelSpec) -> str | None:
    """Why a model cannot run on this machine, or None where it can; loads no model."""
    if spec.runtime == "onnxruntime":
        return None
    from compress.runtime.openvino_engine import problem

    return problem(spec.arithmetic)

"""The ways to lower precision, each under one interface, by the names that `quantize.method` gives them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from compress.artifacts import ONNX, Arithmetic, Runtime
from compress.quantize import openvino
from compress.quantize.calibration import Feed
from compress.quantize.dynamic import quantize_dynamic_int8
from compress.quantize.static import quantize_static_int8
from compress.recipe import Quantize

Feeds = Callable[[], Iterable[Feed]]
"""Gives the calibration inputs anew at each call; int64 [B, T] each."""


@dataclass(frozen=True)
class Work:
    """What a method is asked to do.

    source: the float32 .onnx file. folder: where the model file is written, for onnxruntime as model.onnx.
    section: the method's options. keep_float: names of the source's nodes that must stay in float.
    """

    source: Path
    folder: Path
    feeds: Feeds
    section: Quantize
    keep_float: frozenset[str] = frozenset()

    @property
    def target(self) -> Path:
        """The .onnx file to write."""
        return self.folder / ONNX


@dataclass(frozen=True)
class Method:
    """One way: what writes the model, the runtime that the result is for, whether it reads calibration inputs.

    arithmetic: what the runtime is told to compute in where nothing is quantized.
    """

    write: Callable[[Work], None]
    runtime: Runtime = "onnxruntime"
    calibrates: bool = False
    arithmetic: Arithmetic = "float32"


def _none(work: Work) -> None:
    shutil.copyfile(work.source, work.target)


def _dynamic(work: Work) -> None:
    quantize_dynamic_int8(work.source, work.target)


def _static(work: Work) -> None:
    quantize_static_int8(work.source, work.target, work.feeds())


def _openvino(work: Work) -> None:
    openvino.write_float(work.source, work.folder)


def _openvino_bf16(work: Work) -> None:
    openvino.write_bfloat16(work.source, work.folder)


def _openvino_int8(work: Work) -> None:
    openvino.write_int8(work.source, work.folder, work.feeds(), work.keep_float)


def _openvino_weights(work: Work) -> None:
    openvino.write_int8_weights(work.source, work.folder, work.keep_float)


METHODS: dict[str, Method] = {
    "none": Method(_none),
    "dynamic": Method(_dynamic),
    "static": Method(_static, calibrates=True),
    "openvino": Method(_openvino, runtime="openvino"),
    "openvino-bf16": Method(_openvino_bf16, runtime="openvino", arithmetic="bfloat16"),
    "openvino-int8": Method(_openvino_int8, runtime="openvino", calibrates=True),
    "openvino-weights": Method(_openvino_weights, runtime="openvino"),
}

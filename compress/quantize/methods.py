"""The ways to lower precision, each under one interface, by the names that `quantize.method` gives them.

| method | weights | activations | for |
| --- | --- | --- | --- |
| `dynamic` | int8 per channel | uint8, a scale for each token | transformer, two-tower, static: their default |
| `dynamic-tensor` | int8 per channel | uint8, a range for the whole batch | transformer, speed over exactness |
| `static` | int8 per channel | uint8 or int8, ranges from real rows | mobile, residual: their default |
| `smoothquant` | int8 per channel | as `dynamic`, smoothed on real rows | transformer with outlier channels |
| `weights` | 8 or 4 bits, a scale for 32 numbers | float | transformer whose activations do not bear int8 |
| `half` | float16 | float | every family, where int8 loses too much |
| `none` | float | float | every family |
| `openvino-int8`, `openvino-int8-bf16` | int8 per channel | int8, ranges from real rows | transformer, convolutions |
| `openvino-weights` | int8 per channel | float, or int8 by token as the processor has it | transformer |
| `openvino`, `openvino-bf16` | float | float | every family |

Those of OpenVINO are for its runtime, the others for onnxruntime; `…-bf16` computes what is not int8 in bfloat16.
With `dynamic-tensor` an answer depends on the rows beside it in its batch; with all others it does not.
Embeddings (most of a small student's bytes) are int8 by row in all that lower weights, float16 in `half`, and by
`quantize.embedding_bits` 4 bits or float for onnxruntime.

`aware` is not among them: it makes no file of another, but trains the student once more (`distill/aware.py`,
`quantize/aware_export.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from compress.artifacts import ONNX, Arithmetic, Runtime
from compress.quantize import openvino
from compress.quantize.calibration import Feed
from compress.quantize.dynamic import quantize_dynamic_int8, quantize_dynamic_tensor
from compress.quantize.half import HALF_BITS, store_half
from compress.quantize.preprocess import copy_whole
from compress.quantize.smooth import quantize_smooth
from compress.quantize.static import Ranges, quantize_static_int8
from compress.quantize.weights import quantize_weights
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

    @property
    def embedding_bits(self) -> int:
        """The bits of embeddings that int8 methods are asked for."""
        return 8 if self.section.embedding_bits is None else self.section.embedding_bits


@dataclass(frozen=True)
class Method:
    """One way: what writes the model, the runtime that the result is for, whether it reads calibration inputs.

    arithmetic: what the runtime is told to compute in where nothing is quantized. by_layer: whether it lowers layers,
    each of which could stay in float.
    """

    write: Callable[[Work], None]
    runtime: Runtime = "onnxruntime"
    calibrates: bool = False
    arithmetic: Arithmetic = "float32"
    by_layer: bool = True


def _none(work: Work) -> None:
    copy_whole(work.source, work.target)


def _dynamic(work: Work) -> None:
    quantize_dynamic_int8(work.source, work.target, embedding_bits=work.embedding_bits, keep_float=work.keep_float)


def _dynamic_tensor(work: Work) -> None:
    quantize_dynamic_tensor(work.source, work.target, embedding_bits=work.embedding_bits, keep_float=work.keep_float)


def _static(work: Work) -> None:
    section = work.section
    quantize_static_int8(
        work.source,
        work.target,
        work.feeds(),
        op_types=section.operators,
        ranges=Ranges(section.calibrator, section.symmetric),
        embedding_bits=work.embedding_bits,
        keep_float=work.keep_float,
    )


def _smoothquant(work: Work) -> None:
    quantize_smooth(
        work.source,
        work.target,
        work.feeds(),
        alpha=work.section.alpha,
        embedding_bits=work.embedding_bits,
        keep_float=work.keep_float,
    )


def _weights(work: Work) -> None:
    quantize_weights(
        work.source,
        work.target,
        bits=work.section.bits,
        embedding_bits=work.embedding_bits,
        keep_float=work.keep_float,
    )


def _half(work: Work) -> None:
    bits = work.section.embedding_bits
    store_half(work.source, work.target, embedding_bits=HALF_BITS if bits is None else bits, keep_float=work.keep_float)


def _openvino(work: Work) -> None:
    openvino.write_float(work.source, work.folder)


def _openvino_bf16(work: Work) -> None:
    openvino.write_bfloat16(work.source, work.folder)


def _openvino_int8(work: Work) -> None:
    openvino.write_int8(work.source, work.folder, work.feeds(), work.keep_float)


def _openvino_int8_bf16(work: Work) -> None:
    openvino.require_bfloat16("openvino-int8-bf16")
    _openvino_int8(work)


def _openvino_weights(work: Work) -> None:
    openvino.write_int8_weights(work.source, work.folder, work.keep_float)


METHODS: dict[str, Method] = {
    "none": Method(_none, by_layer=False),
    "dynamic": Method(_dynamic),
    "dynamic-tensor": Method(_dynamic_tensor),
    "static": Method(_static, calibrates=True),
    "smoothquant": Method(_smoothquant, calibrates=True),
    "weights": Method(_weights),
    "half": Method(_half),
    "openvino": Method(_openvino, runtime="openvino", by_layer=False),
    "openvino-bf16": Method(_openvino_bf16, runtime="openvino", arithmetic="bfloat16", by_layer=False),
    "openvino-int8": Method(_openvino_int8, runtime="openvino", calibrates=True),
    "openvino-int8-bf16": Method(_openvino_int8_bf16, runtime="openvino", calibrates=True, arithmetic="bfloat16"),
    "openvino-weights": Method(_openvino_weights, runtime="openvino"),
}


def candidates(*, convolutional: bool) -> list[str]:
    """What `quantize.method: auto` tries, float among them; a runtime that is missing is told by the method itself."""
    left_out = () if convolutional else ("static",)
    return [name for name in METHODS if name not in left_out]

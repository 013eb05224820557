"""From a float model to the ONNX that TensorRT builds in a precision: strongly typed, so the graph says it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from compress.errors import RecipeError
from compress.export.halves import to_bf16, to_fp16
from compress.export.typed import TypedGraph
from compress.quantize.blocks import quantize_weights_int4
from compress.quantize.calibration import Feed
from compress.quantize.float8 import quantize_fp8
from compress.quantize.static import quantize_static_int8
from compress.recipe import EnginePrecision

PARTS: dict[EnginePrecision, tuple[str | None, str]] = {
    "fp32": (None, "fp32"),
    "fp16": (None, "fp16"),
    "bf16": (None, "bf16"),
    "int8": ("int8", "fp32"),
    "int8-fp16": ("int8", "fp16"),
    "fp8": ("fp8", "fp32"),
    "fp8-fp16": ("fp8", "fp16"),
    "int4": ("int4", "fp16"),
}
"""Precision -> what products are quantized to, and what all else is computed in."""
CALIBRATED = ("int8", "fp8")
"""Those of which activations are quantized, too."""

Feeds = Callable[[], Iterable[Feed]]
"""Gives the calibration inputs anew at each call; int64 [B, T] each."""


def wants_calibration(model: Path, precision: EnginePrecision) -> bool:
    """Whether the model must be shown real inputs to get this precision."""
    return PARTS[precision][0] in CALIBRATED and not TypedGraph.read(model).codes


def typed_onnx(source: Path, target: Path, precision: EnginePrecision, feeds: Feeds) -> Path:
    """The model in a precision: `source` itself where it is in it already, or `target`, written.

    Args:
        source: a float32 .onnx file, or one that is quantized or cast already as the precision asks.
        feeds: called where activations are quantized.

    Raises:
        RecipeError: the source is of another precision.
        DataError: it cannot be read, or there is nothing in it to quantize.
    """
    graph = TypedGraph.read(source)
    codes, arithmetic = PARTS[precision]
    have = graph.arithmetic
    if (graph.codes and graph.codes != {codes}) or not have <= {"fp32", arithmetic}:
        held = " and ".join(sorted(graph.codes | have))
        raise RecipeError(
            f"export.precision: {precision} cannot be made of {source}, which holds {held}: give the float32 model, "
            "or the precision that it has"
        )
    if codes is not None and not graph.codes:
        if have != {"fp32"}:
            raise RecipeError(
                f"export.precision: {precision} quantizes a float32 model, {source} holds {' and '.join(sorted(have))}"
            )
        quantized = target.with_name(f"{codes}-{target.name}")
        _quantize(source, quantized, codes, feeds)
        source = quantized
    if "fp32" not in have or arithmetic == "fp32":
        return source
    {"fp16": to_fp16, "bf16": to_bf16}[arithmetic](source, target)
    return target


def _quantize(source: Path, target: Path, codes: str, feeds: Feeds) -> None:
    if codes == "int8":
        quantize_static_int8(source, target, feeds(), tensorrt=True)
    elif codes == "fp8":
        quantize_fp8(source, target, feeds())
    else:
        quantize_weights_int4(source, target)

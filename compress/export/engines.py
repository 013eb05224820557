"""The engines that a recipe or options name, from one float ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compress.recipe import TensorRTExport


def build_engines(
    model: Path,
    out: Path,
    sections: Sequence[TensorRTExport],
    work: Path,
    *,
    max_length: int,
    to_int8: Callable[[Path, Path], None] | None = None,
) -> dict[str, Any]:
    """Build `out`/NAME.engine for each section; returns NAME -> figures.

    Args:
        model: an .onnx file.
        work: an empty folder for what is made on the way.
        max_length: tokens of the longest input.
        to_int8: writes the int8 form of a float .onnx for engines of that precision; None: the model is int8 itself.

    Raises:
        EnvironmentProblem: the package, the GPU or a library is missing.
        DataError: TensorRT cannot build the model.
    """
    from compress.export.tensorrt import build_engine, to_fp16

    found: dict[str, Any] = {}
    for section in sections:
        name = f"{section.to}-{section.precision}" + "".join(f"-{gpu}" for gpu in section.gpus)
        given = model
        if section.precision == "fp16":
            given = work / "fp16.onnx"
            to_fp16(model, given)
        elif section.precision == "int8" and to_int8 is not None:
            given = work / "int8.onnx"
            to_int8(model, given)
        found[name] = build_engine(
            given,
            out / f"{name}.engine",
            to=section.to,
            precision=section.precision,
            gpus=section.gpus,
            max_batch=section.max_batch,
            max_length=max_length,
        )
    return found

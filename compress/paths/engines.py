"""TensorRT engines from a folder with float ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compress.artifacts import ONNX, SPEC, read_spec
from compress.errors import RecipeError
from compress.export.engines import build_engines
from compress.export.graph import read_graph
from compress.extras import require
from compress.progress import reporter
from compress.recipe import TensorRTExport

FORMATS = ("onnx", "tensorrt", "tensorrt-rtx")
MAX_LENGTH = 128
"""Longest input of an engine whose model does not say its own, in tokens."""
ONNXRUNTIME_ONLY = "com.microsoft"
"""Domain of operators that TensorRT does not know."""
OPTION_OF = {"gpus": "--gpu", "precision": "--precision", "to": "--to"}


def engine_sections(to: Sequence[str], gpus: Sequence[str], precision: str) -> list[TensorRTExport]:
    """The engines that options ask for, as sections of a recipe.

    Raises:
        RecipeError: an unknown format, GPU or precision, or GPUs where they mean nothing.
        EnvironmentProblem: the package of a format is not installed.
    """
    unknown = [name for name in to if name not in FORMATS]
    if unknown:
        raise RecipeError(f"--to is {unknown[0]!r}, known are {', '.join(FORMATS)}")
    engines = [name for name in dict.fromkeys(to) if name != "onnx"]
    if gpus and "tensorrt-rtx" not in engines:
        raise RecipeError(f"--gpu {gpus[0]} has no effect without --to tensorrt-rtx; leave it out, or add that")
    return [_section(name, gpus if name == "tensorrt-rtx" else [], precision) for name in engines]


def _section(to: str, gpus: Sequence[str], precision: str) -> TensorRTExport:
    try:
        section = TensorRTExport.model_validate({"to": to, "gpus": list(gpus), "precision": precision})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise RecipeError(
                "--to tensorrt-rtx builds ahead of time: name the GPUs, for example --gpu sm89"
            ) from error
        option = OPTION_OF[str(first["loc"][0])]
        raise RecipeError(f"{option} is {first['input']!r}: {first['msg'].replace('Input', 'it')}") from error
    require(to.replace("-", "_"), extra=to, why=f"--to {to}")
    return section


def engines_of_folder(source: Path, out: Path, sections: Sequence[TensorRTExport], work: Path) -> dict[str, Any]:
    """Build engines from the ONNX in `source` into the folder `out`; returns name -> figures.

    Raises:
        RecipeError: the model is quantized already, or int8 is asked of a float one.
        EnvironmentProblem: the GPU or a library is missing.
    """
    if not sections:
        return {}
    _check_precision(source / ONNX, sections[0].precision)
    work.mkdir()
    max_length = MAX_LENGTH
    if (source / SPEC).is_file():
        max_length = read_spec(source).max_length
    else:
        reporter.say(f"  {source / ONNX} does not say how long its inputs get: engines take up to {MAX_LENGTH} tokens")
    return build_engines(source / ONNX, out, sections, work, max_length=max_length)


def _check_precision(model: Path, precision: str) -> None:
    graph = read_graph(model)
    quantization = graph.quantization
    if precision == "int8" and (quantization != "static" or ONNXRUNTIME_ONLY in graph.opsets):
        raise RecipeError(
            f"--precision int8 needs ranges calibrated for TensorRT, which {model.name} does not hold; "
            "take fp16, or a recipe with export: [{to: tensorrt-rtx, precision: int8, gpus: [sm89]}]"
        )
    if precision != "int8" and quantization != "none":
        raise RecipeError(
            f"--precision {precision} needs a float model, but {model.name} is quantized ({quantization}); "
            "give the float one"
        )

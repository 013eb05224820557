"""The engines that a recipe or options name, from one ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compress.export.plain import NotRunnable, PlainSession
from compress.export.profile import check_longest, shapes_of
from compress.export.refusals import refuse
from compress.export.typed import TypedGraph
from compress.progress import reporter
from compress.recipe import EnginePrecision, TensorRTExport

Convert = Callable[[Path, Path, EnginePrecision], Path]
"""`quantize.typed.typed_onnx`: source, file to write, precision -> the file that is in the precision."""
Measure = Callable[[PlainSession], dict[str, Any]]
"""What a model says in onnxruntime, in figures."""
TIMINGS = "timings"
"""Below the cache of all runs: how fast kernels of `tensorrt` were."""


def build_engines(
    model: Path,
    out: Path,
    sections: Sequence[TensorRTExport],
    work: Path,
    *,
    max_length: int,
    convert: Convert,
    measure: Measure | str,
    timings: Path | None = None,
) -> dict[str, Any]:
    """Build `out`/NAME.engine for each section; returns NAME -> figures.

    Args:
        model: an .onnx file.
        work: an empty folder for what is made on the way.
        max_length: tokens of the longest input, where a section does not say.
        convert: makes the ONNX of a precision.
        measure: measures that ONNX, since no engine is run here; or why nothing is measured.
        timings: folder that keeps what `tensorrt` measured of kernels.

    Returns:
        For each engine the figures of `build_engine`, and `source`: those of `measure` or why there are none.

    Raises:
        EnvironmentProblem: the package, the GPU, room or a library is missing.
        DataError: TensorRT cannot build the model.
        RecipeError: GPU, precision or profile do not suit the model.
    """
    from compress.export.tensorrt import build_engine

    graph = TypedGraph.read(model)
    refuse(graph)
    found: dict[str, Any] = {}
    for section in sections:
        name = f"{section.to}-{section.precision}" + "".join(f"-{gpu}" for gpu in section.gpus)
        longest = section.max_length or max_length
        _check_profile(graph, section, longest)
        given = convert(model, work / f"{name}.onnx", section.precision)
        figures = build_engine(
            given,
            out / f"{name}.engine",
            to=section.to,
            precision=section.precision,
            gpus=section.gpus,
            max_batch=section.max_batch,
            max_length=longest,
            timings=timings,
        )
        found[name] = figures | {"source": measure if isinstance(measure, str) else _measured(given, measure)}
    return found


def _check_profile(graph: TypedGraph, section: TensorRTExport, longest: int) -> None:
    """Before any work: does the model take the largest input, and which axes are free?"""
    shapes = shapes_of(graph, section.max_batch, longest)
    for name, shape in shapes.items():
        if shape.fixed:
            reporter.say(f"  {name} is fixed to {shape.largest[0]} x {shape.largest[1]}: the engine takes nothing else")
    try:
        session = PlainSession(graph.path)
    except NotRunnable as error:
        reporter.say(f"  whether {graph.path} takes {longest} tokens is {error}; TensorRT's own check stands")
        return
    check_longest(session, shapes, graph.path)


def _measured(path: Path, measure: Measure) -> dict[str, Any] | str:
    try:
        return measure(PlainSession(path))
    except NotRunnable as error:
        return str(error)

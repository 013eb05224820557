"""TensorRT engines from a folder with ONNX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compress.artifacts import ONNX, SPEC, read_spec
from compress.bench.bare import answers_text
from compress.bundle.write import STOCK_GOLDEN
from compress.errors import KdcError, RecipeError
from compress.export.engines import Measure, build_engines
from compress.export.parity import agreement
from compress.export.plain import PlainSession
from compress.extras import require
from compress.progress import reporter
from compress.recipe import TensorRTExport
from compress.runtime.predictor import Predictor, Request

FORMATS = ("onnx", "tensorrt", "tensorrt-rtx")
MAX_LENGTH = 128
"""Longest input of an engine whose model does not say its own, in tokens."""
OPTION_OF = {
    "gpus": "--gpu",
    "precision": "--precision",
    "to": "--to",
    "max_batch": "--max-batch",
    "max_length": "--max-length",
}
NO_REQUESTS = "not run: no tokenizer.json and model.json beside the model say how it reads text"


def engine_sections(to: Sequence[str], gpus: Sequence[str], **given: Any) -> list[TensorRTExport]:
    """The engines that options ask for, as sections of a recipe.

    Args:
        to: formats, of which `onnx` is none of an engine. gpus: for tensorrt-rtx.
        given: precision, max_batch, max_length; None where an option was not given.

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
    values = {name: value for name, value in given.items() if value is not None}
    return [_section({"to": name, "gpus": list(gpus) if name == "tensorrt-rtx" else [], **values}) for name in engines]


def _section(values: dict[str, Any]) -> TensorRTExport:
    to = values["to"]
    try:
        section = TensorRTExport.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"] and not values["gpus"]:
            raise RecipeError(
                "--to tensorrt-rtx builds ahead of time: name the GPUs, for example --gpu sm89"
            ) from error
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise RecipeError(f"--gpu: {message}") from error
        option = OPTION_OF[str(first["loc"][0])]
        raise RecipeError(f"{option} is {first['input']!r}: {message.replace('Input', 'it')}") from error
    require(to.replace("-", "_"), extra=to, why=f"--to {to}")
    return section


def engines_of_folder(
    source: Path,
    out: Path,
    sections: Sequence[TensorRTExport],
    work: Path,
    calibration: Sequence[Request],
    timings: Path | None,
) -> dict[str, Any]:
    """Build engines from the ONNX in `source` into the folder `out`; returns name -> figures.

    Args:
        calibration: requests that set the ranges of int8 and fp8 and are compared with float; may be none.
        timings: folder that keeps what `tensorrt` measured of kernels.

    Raises:
        RecipeError: the model is of another precision, or ranges must be set and nothing sets them.
        EnvironmentProblem: the GPU or a library is missing.
    """
    if not sections:
        return {}
    from compress.quantize.calibration import feeds
    from compress.quantize.typed import typed_onnx, wants_calibration

    model = source / ONNX
    for section in sections:
        if not calibration and wants_calibration(model, section.precision):
            raise RecipeError(
                f"--precision {section.precision} needs ranges, and {model} holds none calibrated for TensorRT: give "
                "requests with --calibration FILE, or take fp16"
            )
    work.mkdir()
    predictor = Predictor.from_folder(source) if answers_text(source) else None
    if not (source / SPEC).is_file() and any(section.max_length is None for section in sections):
        reporter.say(f"  the model does not say how long its inputs get: engines take up to {MAX_LENGTH} tokens")
    with _in_options():
        return build_engines(
            model,
            out,
            sections,
            work,
            max_length=read_spec(source).max_length if (source / SPEC).is_file() else MAX_LENGTH,
            convert=partial(typed_onnx, feeds=lambda: [] if predictor is None else feeds(predictor, calibration)),
            measure=NO_REQUESTS if predictor is None else _measure(predictor, calibration or STOCK_GOLDEN),
            timings=timings,
        )


def _measure(predictor: Predictor, requests: Sequence[Request]) -> Measure:
    """Compares what an engine is built from with the model that was given."""
    from compress.quantize.calibration import feeds

    def measure(session: PlainSession) -> dict[str, Any]:
        return {"parity": agreement(predictor.logits(requests), session.logits(feeds(predictor, requests)))}

    return measure


@contextmanager
def _in_options() -> Iterator[None]:
    """Errors about keys of a recipe name the options in their place."""
    try:
        yield
    except KdcError as error:
        text = str(error)
        for key, option in OPTION_OF.items():
            text = text.replace(f"export.{key}", option)
        raise type(error)(text) from error

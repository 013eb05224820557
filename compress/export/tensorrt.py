"""TensorRT engines: one backend for `tensorrt-rtx` (ahead of time, no GPU) and `tensorrt` (on the GPU).

Both packages have one API and are strongly typed: precision lives in the ONNX graph. An engine is only built
here, never run, and the result says so. Two builds of one model may differ in names that TensorRT makes up.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from compress import artifacts
from compress.errors import DataError, EnvironmentProblem, RecipeError
from compress.export.profile import Shapes, shapes_of
from compress.export.quiet import native_output_to_stderr
from compress.export.refusals import refuse
from compress.export.tensorrt_build import build, keep_timings, load_timings
from compress.export.tensorrt_log import Told, logger, short
from compress.export.typed import TypedGraph
from compress.extras import require, version
from compress.recipe import EngineBuilder, EnginePrecision, incapable
from compress.runtime import cuda
from compress.runtime.plan import CAPABILITY_BITS, GPUS_AT, HEADER_BYTES, LENGTH_AT, MAGIC

PACKAGES: dict[EngineBuilder, str] = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
NOT_RUN = "not run: no GPU"
INCONSISTENT_PROFILE = "kMAX values are not self-consistent"
CODE_BYTES = 5_000_000
"""What an engine needs beside its weights; 1 to 5 MB, whatever the number of GPUs (tensorrt-rtx 1.7)."""


def build_engine(
    onnx: Path,
    out: Path,
    *,
    to: EngineBuilder,
    precision: EnginePrecision,
    gpus: Sequence[str] = (),
    max_batch: int = 64,
    max_length: int,
    timings: Path | None = None,
) -> dict[str, Any]:
    """Build an engine for batches of 1 … max_batch rows of 1 … max_length tokens; fixed axes stay as they are.

    Args:
        onnx: a model in its precision already (`quantize.typed`).
        out: the engine file to write; replaced whole or not at all.
        to: `tensorrt-rtx` builds ahead of time for `gpus`, `tensorrt` for the GPU of this machine.
        precision: what `onnx` is in; goes into the result.
        gpus: compute capabilities, for example sm89.
        timings: a folder in which `tensorrt` keeps how fast kernels were, so that the next build is faster.

    Returns:
        What was built: the file's size, inputs with their profile, outputs, types of weights as the builder told
        them; and that neither quality nor latency of the engine was measured.

    Raises:
        EnvironmentProblem: the package, the GPU or room on the disk is missing, or the build fails.
        RecipeError: an unknown GPU or one that lacks the precision, or a profile that the model does not allow.
        DataError: TensorRT cannot read the model.
        IntegrityError: the file is no ONNX model.
        KeyboardInterrupt: after Ctrl-C, when the build has stopped.
    """
    trt = require(PACKAGES[to], extra=to, why=f"export.to: {to}")
    if to == "tensorrt":
        _require_gpu()
    else:
        _check_gpus(trt, precision, gpus)
    graph = TypedGraph.read(onnx)
    refuse(graph)
    _check_space(graph, out)
    shapes = shapes_of(graph, max_batch, max_length)
    log = logger(trt)
    log.clear()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    with native_output_to_stderr():
        _parse(parser, network, graph, log)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _name_gpus(trt, config, gpus)
    _add_profile(builder, config, shapes)
    found = load_timings(config, timings, trt.__version__)
    if not builder.is_network_supported(network, config):
        raise EnvironmentProblem(f"{to} does not support {onnx}: {log.first_error() or 'no reason given'}")
    with native_output_to_stderr():
        engine = build(trt, builder, network, config, f"{to} {precision}")
    _check_build(engine, onnx, to, log)
    told = log.told()
    if told is not None:
        _check_told(told, shapes, [network.get_output(place).name for place in range(network.num_outputs)])
    content = bytes(engine)
    if to == "tensorrt-rtx":
        check_header(content, gpus)
    with artifacts.publishing(out) as temporary:
        temporary.write_bytes(content)
    return {
        "file": out.name,
        "to": to,
        "precision": precision,
        "gpus": list(gpus),
        "max_batch": max(shape.largest[0] for shape in shapes.values()),
        "max_length": max(shape.largest[1] for shape in shapes.values()),
        "profile": "fixed" if all(shape.fixed for shape in shapes.values()) else "dynamic",
        "inputs": {name: shape.dump() for name, shape in shapes.items()},
        "outputs": told.outputs if told is not None else None,
        "weights": told.weights if told is not None else None,
        "size_bytes": len(content),
        "version": trt.__version__,
        "timing_cache": keep_timings(config, timings, trt.__version__, found),
        "quality": NOT_RUN,
        "latency": NOT_RUN,
    }


def builders(targets: Collection[EngineBuilder]) -> dict[str, str | None]:
    """What decides an engine besides its model: the package's version and, for `tensorrt`, the GPU at hand."""
    found: dict[str, str | None] = {to: version(to) for to in sorted(targets)}
    if "tensorrt" in targets:
        import torch

        found["gpu"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return found


def check_header(engine: bytes, gpus: Sequence[str]) -> None:
    """Look at the 64-byte header of a tensorrt-rtx engine.

    Raises:
        EnvironmentProblem: the magic, the length or the GPUs in it are not those of the engine asked for.
    """
    if len(engine) < HEADER_BYTES or engine[:4] != MAGIC:
        raise EnvironmentProblem(
            f"tensorrt-rtx wrote {len(engine)} bytes that begin with {engine[:4]!r}, an engine begins with "
            f"{MAGIC!r}; install tensorrt-rtx 1.7 and build again"
        )
    length, mask = struct.unpack_from("<Q", engine, LENGTH_AT)[0], engine[GPUS_AT]
    wanted = sum(CAPABILITY_BITS[gpu] for gpu in gpus)
    if length > len(engine) or mask != wanted:
        raise EnvironmentProblem(
            f"the engine's header tells of {length} bytes and GPUs {mask:#b}, it has {len(engine)} bytes and "
            f"was built for {', '.join(gpus)} ({wanted:#b}); install tensorrt-rtx 1.7 and build again"
        )


def _require_gpu() -> None:
    """TensorRT times its kernels on the GPU it builds for.

    Raises:
        EnvironmentProblem: there is no driver or no device.
    """
    if (reason := cuda.problem()) is None:
        return
    raise EnvironmentProblem(
        f"export.to: tensorrt builds on the GPU that the engine will run on, but there is {reason}; run it where an "
        "NVIDIA GPU and its driver are, or take export.to: tensorrt-rtx, which builds ahead of time"
    )


def _check_gpus(trt: Any, precision: EnginePrecision, gpus: Sequence[str]) -> None:
    """An engine is compiled for GPUs that were named, and for no other; all of them must have the precision."""
    known = [gpu for gpu in CAPABILITY_BITS if gpu.upper() in trt.ComputeCapability.__members__]
    unknown = [gpu for gpu in gpus if gpu not in known]
    if unknown or not gpus:
        raise RecipeError(
            f"export.gpus: {unknown[0] if unknown else 'nothing'} is named, tensorrt-rtx {trt.__version__} "
            f"builds for {', '.join(known)}"
        )
    if (reason := incapable(precision, gpus)) is not None:
        raise RecipeError(f"export.gpus: {reason}")


def _check_space(graph: TypedGraph, out: Path) -> None:
    needed, free = graph.size_bytes + CODE_BYTES, artifacts.free_bytes(out.parent)
    if free < needed:
        raise EnvironmentProblem(
            f"the engine of {graph.path} takes about {needed:,} bytes, {free:,} are free in {out.parent}; free some "
            "space, or write it elsewhere"
        )


def _parse(parser: Any, network: Any, graph: TypedGraph, log: Any) -> None:
    """Read the model; bytes that are no model parse without an error, into a network of nothing."""
    unknown = sorted({node.op_type for node in graph.nodes if not parser.supports_operator(node.op_type)})
    if unknown and not graph.model.functions:
        raise DataError(f"{graph.path} has the operator {unknown[0]}, which TensorRT does not have: export it without")
    if not parser.parse_from_file(str(graph.path)):
        # The parser keeps the reason; the log spreads it over lines of its own.
        reason = parser.get_error(0).desc() if parser.num_errors else log.first_error() or "no reason given"
        raise DataError(f"TensorRT cannot read {graph.path} ({short(reason)}); try precision fp32 or another opset")
    if not network.num_layers or not network.num_outputs:
        raise DataError(
            f"TensorRT reads {network.num_layers} layers and {network.num_outputs} outputs from {graph.path}: "
            "it is no ONNX model; export it again"
        )


def _name_gpus(trt: Any, config: Any, gpus: Sequence[str]) -> None:
    """Name the GPUs to compile for, where the package builds ahead of time."""
    if not hasattr(config, "set_compute_capability"):
        return
    config.num_compute_capabilities = len(gpus)
    for position, gpu in enumerate(gpus):
        config.set_compute_capability(getattr(trt.ComputeCapability, gpu.upper()), position)


def _add_profile(builder: Any, config: Any, shapes: Mapping[str, Shapes]) -> None:
    """One optimization profile for all shapes up to the largest."""
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape.least, shape.usual, shape.largest)
    if config.add_optimization_profile(profile) < 0:
        shape = next(iter(shapes.values()))
        raise RecipeError(
            f"export.max_batch: TensorRT refuses shapes from {_times(shape.least)} to {_times(shape.largest)} for "
            "this model; give positive sizes that its inputs allow"
        )


def _check_build(engine: Any, onnx: Path, to: EngineBuilder, log: Any) -> None:
    """Raise what the build complained about first; later errors are noise of a missing driver."""
    if warning := log.containing(INCONSISTENT_PROFILE):
        raise RecipeError(
            f"export.max_length: {onnx} does not take the longest input of the profile ({short(warning)}); lower it "
            "to the positions that the model has"
        )
    if engine is None:
        reason = log.first_error() or "no reason given"
        raise EnvironmentProblem(f"{to} could not build {onnx} ({short(reason)}); try precision fp32 or another opset")


def _check_told(told: Told, shapes: Mapping[str, Shapes], outputs: Sequence[str]) -> None:
    """Compare inputs, profile and outputs that the builder tells of with those that were asked for."""
    wanted = {name: shape.dump() for name, shape in shapes.items()}
    if told.inputs != wanted or set(told.outputs) != set(outputs):
        raise EnvironmentProblem(
            f"the engine takes {told.inputs} and gives {list(told.outputs)}, asked for were {wanted} and "
            f"{list(outputs)}: this version of the package is not the one that kdc was tested with, install "
            "tensorrt-rtx 1.7 or tensorrt 11"
        )


def _times(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"

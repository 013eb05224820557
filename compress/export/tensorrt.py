"""TensorRT engines: one backend for `tensorrt-rtx` (ahead of time, no GPU) and `tensorrt` (on the GPU).

Both packages have one API and are strongly typed: precision lives in the ONNX graph. An engine is only built
here, never run, and the result says so. Two builds of one model may differ in names that TensorRT makes up.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

from compress import artifacts
from compress.errors import DataError, EnvironmentProblem, RecipeError
from compress.export.onnx import write_onnx
from compress.export.quiet import native_output_to_stderr, quiet
from compress.extras import require, version
from compress.progress import Bar, reporter

Target = Literal["tensorrt-rtx", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8"]

PACKAGES: dict[Target, str] = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
NOT_RUN = "not run: no GPU"
USUAL_BATCH, USUAL_LENGTH = 8, 32
"""The shape that tactics are chosen for; the engine takes all others up to its maximum."""
MAGIC = b"vtrt"
CAPABILITY_BITS = {"sm75": 1, "sm80": 2, "sm86": 4, "sm89": 8, "sm120": 16, "sm121": 32}
"""Bit of each GPU generation in the byte 32 of a tensorrt-rtx engine."""
INCONSISTENT_PROFILE = "kMAX values are not self-consistent"
SYMMETRIC = "quantize_static_int8, tensorrt=True"
MENDS = {
    "unsupported input type of UINT8": f"quantize it with int8 activations ({SYMMETRIC})",
    "Non-zero zero point": f"quantize it symmetrically ({SYMMETRIC})",
    "must have type FP8": f"quantize it without its biases ({SYMMETRIC})",
    "must have the same number of dimensions": "give the graph as exported, not one fused for onnxruntime",
    "Half and Float": "convert it with to_fp16",
}


def to_fp16(source: Path, target: Path) -> None:
    """Write a float32 ONNX model with fp16 weights and arithmetic; inputs and outputs keep their types.

    The same source gives the same bytes. Values beyond ±65504 are cut to it.

    Raises:
        DataError: the source is missing.
    """
    if not source.is_file():
        raise DataError(f"{source} does not exist: name an .onnx file")
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet():
        model = convert_float_to_float16(onnx.load(source), keep_io_types=True, op_block_list=[])
    write_onnx(model, target)


def build_engine(
    onnx: Path,
    out: Path,
    *,
    to: Target,
    precision: Precision,
    gpus: Sequence[str] = (),
    max_batch: int = 64,
    max_length: int,
) -> dict[str, Any]:
    """Build an engine for batches of 1 … max_batch rows of 1 … max_length tokens.

    Args:
        onnx: a model in its precision already: float32, `to_fp16`'s, or symmetric int8 QDQ.
        out: the engine file to write; replaced whole or not at all.
        to: `tensorrt-rtx` builds ahead of time for `gpus`, `tensorrt` for the GPU of this machine.
        precision: what `onnx` is in; goes into the result.
        gpus: compute capabilities, for example sm89.

    Returns:
        What was built, and that neither quality nor latency of the engine was measured.

    Raises:
        EnvironmentProblem: the package or the GPU is missing, or the build fails.
        RecipeError: an unknown GPU, or a profile that the model does not allow.
        DataError: TensorRT cannot read the model.
        KeyboardInterrupt: after Ctrl-C, when the build has stopped.
    """
    trt = require(PACKAGES[to], extra=to, why=f"export.to: {to}")
    if to == "tensorrt":
        _require_gpu()
    if not onnx.is_file():
        raise DataError(f"{onnx} does not exist: name an .onnx file")
    log = _logger(trt)
    log.messages.clear()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    with native_output_to_stderr():
        _parse(parser, network, onnx, log)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    named = _name_gpus(trt, config, gpus)
    _add_profile(builder, network, config, max_batch, max_length)
    if not builder.is_network_supported(network, config):
        raise EnvironmentProblem(f"{to} does not support {onnx}: {log.first_error() or 'no reason given'}")
    with native_output_to_stderr():
        engine = _build(trt, builder, network, config, f"{to} {precision}")
    _check_build(engine, onnx, to, log, max_batch, max_length)
    content = bytes(engine)
    if to == "tensorrt-rtx":
        check_header(content, named)
    with artifacts.publishing(out) as temporary:
        temporary.write_bytes(content)
    return {
        "file": out.name,
        "to": to,
        "precision": precision,
        "gpus": named,
        "max_batch": max_batch,
        "max_length": max_length,
        "size_bytes": len(content),
        "version": trt.__version__,
        "quality": NOT_RUN,
        "latency": NOT_RUN,
    }


def builders(targets: Collection[Target]) -> dict[str, str | None]:
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
    if len(engine) < 64 or engine[:4] != MAGIC:
        raise EnvironmentProblem(
            f"tensorrt-rtx wrote {len(engine)} bytes that begin with {engine[:4]!r}, an engine begins with "
            f"{MAGIC!r}; install tensorrt-rtx 1.7 and build again"
        )
    length, mask = struct.unpack_from("<Q", engine, 16)[0], engine[32]
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
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        reason = str(error)
    else:
        count = ctypes.c_int(0)
        status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
        if status == 0 and count.value > 0:
            return
        reason = f"CUDA error {status}, {count.value} devices"
    raise EnvironmentProblem(
        "export.to: tensorrt builds on the GPU that the engine will run on, and this machine has none "
        f"({reason}); run it where an NVIDIA GPU and its driver are, or take export.to: tensorrt-rtx, "
        "which builds ahead of time"
    )


@functools.cache
def _logger(trt: Any) -> Any:
    """The one logger of this process; TensorRT ignores a second one while a builder lives."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the package is only known when it runs
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[tuple[Any, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.VERBOSE, trt.ILogger.INFO):
                return
            self.messages.append((severity, message))
            reporter.detail(f"  tensorrt: {message}")

        def first_error(self) -> str | None:
            errors = (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
            return next((message for severity, message in self.messages if severity in errors), None)

        def containing(self, text: str) -> str | None:
            return next((message for _, message in self.messages if text in message), None)

    return Log()


def _parse(parser: Any, network: Any, onnx: Path, log: Any) -> None:
    """Read the model; bytes that are no model parse without an error, into a network of nothing."""
    if not parser.parse_from_file(str(onnx)):
        # The parser keeps the reason; the log spreads it over lines of its own.
        reason = parser.get_error(0).desc() if parser.num_errors else log.first_error() or "no reason given"
        raise DataError(f"TensorRT cannot read {onnx} ({_short(reason)}); {_mend(reason)}")
    if not network.num_layers or not network.num_outputs:
        raise DataError(
            f"TensorRT reads {network.num_layers} layers and {network.num_outputs} outputs from {onnx}: "
            "it is no ONNX model; export it again"
        )


def _name_gpus(trt: Any, config: Any, gpus: Sequence[str]) -> list[str]:
    """Name the GPUs to compile for, where the package builds ahead of time."""
    if not hasattr(config, "set_compute_capability"):
        return []
    known = sorted(set(CAPABILITY_BITS) & {name.lower() for name in trt.ComputeCapability.__members__})
    unknown = [gpu for gpu in gpus if gpu not in known]
    if unknown or not gpus:
        raise RecipeError(
            f"export.gpus: {unknown[0] if unknown else 'nothing'} is named, tensorrt-rtx {trt.__version__} "
            f"builds for {', '.join(known)}"
        )
    config.num_compute_capabilities = len(gpus)
    for position, gpu in enumerate(gpus):
        config.set_compute_capability(getattr(trt.ComputeCapability, gpu.upper()), position)
    return list(gpus)


def _add_profile(builder: Any, network: Any, config: Any, max_batch: int, max_length: int) -> None:
    """One optimization profile for all shapes up to the largest."""
    profile = builder.create_optimization_profile()
    usual = (min(USUAL_BATCH, max_batch), min(USUAL_LENGTH, max_length))
    for position in range(network.num_inputs):
        profile.set_shape(network.get_input(position).name, (1, 1), usual, (max_batch, max_length))
    if config.add_optimization_profile(profile) < 0:
        raise RecipeError(
            f"export.max_batch: TensorRT refuses shapes from 1 x 1 to {max_batch} x {max_length} for this "
            "model; give positive sizes that its inputs allow"
        )


def _build(trt: Any, builder: Any, network: Any, config: Any, name: str) -> Any:
    """Build in a thread of its own, so that Ctrl-C reaches this one and stops the build at its next step."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the package is only known when it runs
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self.bars: dict[str, Bar] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.bars[phase_name] = Bar(f"{name}: {phase_name.lower()}", num_steps, "steps")

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.bars:
                self.bars[phase_name].advance(1)
            return not self.cancelled

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self.bars:
                self.bars.pop(phase_name).close()

    monitor = Monitor()
    config.progress_monitor = monitor
    try:
        with ThreadPoolExecutor(1) as pool:  # leaving it waits for the thread, which needs the builder
            pool.submit(int).result()  # an interrupted start would lose the thread: start it before the build
            try:
                future = pool.submit(builder.build_serialized_network, network, config)
                while not future.done():
                    wait([future], timeout=0.2)  # a signal is only seen between two waits
                return future.result()
            except KeyboardInterrupt:
                monitor.cancelled = True
                raise
    finally:
        for shown in list(monitor.bars.values()):
            shown.close()


def _check_build(engine: Any, onnx: Path, to: Target, log: Any, max_batch: int, max_length: int) -> None:
    """Raise what the build complained about first; later errors are noise of a missing driver."""
    if warning := log.containing(INCONSISTENT_PROFILE):
        raise RecipeError(
            f"export: the model does not take {max_batch} x {max_length} tokens ({_short(warning)}); "
            "lower max_length to the positions that it has"
        )
    if engine is None:
        reason = log.first_error() or "no reason given"
        raise EnvironmentProblem(f"{to} could not build {onnx} ({_short(reason)}); {_mend(reason)}")


def _short(reason: str) -> str:
    """The first two lines of a message, without the source files that it names."""
    return ": ".join(line.split(" In ")[0].rstrip(" .") for line in reason.strip().splitlines()[:2])


def _mend(reason: str) -> str:
    return next((mend for text, mend in MENDS.items() if text in reason), "try precision fp32 or another opset")

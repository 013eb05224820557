"""`quantize`, `export`, `bench`, `gates` and `bundle`: what follows training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from compress.recipe.aware import Aware
from compress.recipe.base import Metric, Section

AUTO = "auto"
"""The method that tries the others."""
QuantizeMethod = Literal[
    "auto",
    "dynamic",
    "dynamic-tensor",
    "static",
    "smoothquant",
    "weights",
    "half",
    "aware",
    "openvino",
    "openvino-bf16",
    "openvino-int8",
    "openvino-int8-bf16",
    "openvino-weights",
    "none",
]
LOWERING = ("dynamic", "dynamic-tensor", "static", "smoothquant", "weights", "half")
EFFECTIVE: dict[str, tuple[str, ...]] = {
    "bits": ("weights", "aware"),
    "aware": ("aware",),
    "embedding_bits": (*LOWERING, AUTO),
    "calibrator": ("static",),
    "symmetric": ("static",),
    "operators": ("static",),
    "alpha": ("smoothquant",),
    "fastest": (AUTO,),
}
"""Option of `quantize` -> the methods that read it; those that are not named here are read by all."""


class Quantize(Section):
    """Lower precision after training."""

    method: QuantizeMethod | None = None
    """Absent: static (QDQ) for convolutions, which dynamic makes slower; dynamic for all other students. The openvino
    ones are for OpenVINO: float32, bfloat16 arithmetic, int8 (with the rest in bfloat16), int8 weights; the bundle then
    has both, the absent one for onnxruntime and the named one. aware: the student is distilled a little further while
    its numbers are rounded, and the scales are learned (QDQ). auto: all that run here are built and timed, and the
    fastest that keeps max_quality_loss ships."""
    fastest: Annotated[
        Literal["single-stream", "offline"], Field(exclude_if=lambda scenario: scenario == "single-stream")
    ] = "single-stream"
    """Method auto: whether the latency of one request decides, or the throughput of batches of bench.batch_size."""
    bits: Literal[4, 8] = 8
    """Bits of weights (and of activations, where the method lowers them); 4 is for `weights` and `aware`."""
    aware: Annotated[Aware | None, Field(exclude_if=lambda section: section is None)] = None
    """Method aware: how long it learns, and from what."""
    embedding_bits: Annotated[Literal[4, 8, 32] | None, Field(exclude_if=lambda bits: bits is None)] = None
    """Bits of embeddings: 8 (a scale a row), 4 (a scale for 32 numbers) or 32 (float); absent: 8, for half 16."""
    calibrator: Annotated[
        Literal["minmax", "entropy", "percentile"], Field(exclude_if=lambda calibrator: calibrator == "minmax")
    ] = "minmax"
    """How `static` sets ranges: all that was seen, the range that loses least information, or 99.999% of the values."""
    symmetric: Annotated[bool, Field(exclude_if=lambda symmetric: not symmetric)] = False
    """Whether `static` codes activations as int8 around 0 instead of uint8 with a zero point."""
    operators: Annotated[
        tuple[Literal["Conv", "MatMul", "Gemm"], ...],
        Field(min_length=1, exclude_if=lambda operators: operators == ("Conv",)),
    ] = ("Conv",)
    """Operators that `static` gives measured ranges; other MatMul and Gemm are quantized as by `dynamic`."""
    alpha: Annotated[float, Field(ge=0, le=1, exclude_if=lambda alpha: alpha == 0.5)] = 0.5
    """Share of the difficulty that `smoothquant` moves from activations to weights: 0 none, 1 all."""
    calibration: Annotated[int, Field(ge=8)] = 256
    """Training rows that set ranges, and by which the layers to blame for a lost quality are found."""
    max_quality_loss: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest loss of the task's metric on validation that is accepted, for errors (rmse, mae) their growth as a share;
    beyond it layers stay in float until it is met, and if it cannot be, the run ends with exit code 5."""

    def misfit(self, method: str) -> str | None:
        """The first option that has no effect with a method, as a sentence; None where all have one."""
        for name, methods in EFFECTIVE.items():
            value = getattr(self, name)
            if method not in methods and value != type(self).model_fields[name].default:
                return (
                    f"quantize.{name} has no effect with method {method}, only with {', '.join(methods)}: leave it out"
                )
        return None

    @property
    def learning(self) -> Aware | None:
        """How the quantized student learns; None where it does not."""
        return (self.aware or Aware()) if self.method == "aware" else None


class OnnxExport(Section):
    """ONNX for onnxruntime."""

    to: Literal["onnx"]
    """The format."""
    opset: Annotated[int, Field(ge=17, le=24)] = 20
    """ONNX operator set."""


EngineBuilder = Literal["tensorrt", "tensorrt-rtx"]
EnginePrecision = Literal["fp32", "fp16", "bf16", "int8", "int8-fp16", "fp8", "fp8-fp16", "int4"]
Gpu = Literal["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"]
LACKED_BY: dict[EnginePrecision, tuple[Gpu, ...]] = {
    "fp32": ("sm75",),
    "bf16": ("sm75",),
    "int8": ("sm75",),
    "fp8": ("sm75", "sm80", "sm86"),
    "fp8-fp16": ("sm75", "sm80", "sm86"),
    "int4": ("sm75",),
}
"""GPUs that tensorrt-rtx 1.7 compiles no engine of a precision for; sm75 has no products of float32 either."""


def incapable(precision: EnginePrecision, gpus: Sequence[str]) -> str | None:
    """Why an engine cannot be built for one of these GPUs, with what can be done, or None."""
    lacking = LACKED_BY.get(precision, ())
    first = next((gpu for gpu in gpus if gpu in lacking), None)
    if first is None:
        return None
    able = ", ".join(gpu for gpu in get_args(Gpu) if gpu not in lacking)
    return f"{precision} is not for {first}, only for {able}: take fp16 or int8-fp16 for it, or leave {first} out"


class TensorRTExport(Section):
    """An engine for NVIDIA GPUs, from the float ONNX of the student."""

    to: EngineBuilder
    """`tensorrt` builds on the GPU of this machine, `tensorrt-rtx` ahead of time for the GPUs named."""
    precision: EnginePrecision = "fp16"
    """int8 and fp8: products in 8 bits, all else in float32, or with -fp16 in float16; int4: weights alone, all else in
    float16."""
    gpus: tuple[Gpu, ...] = ()
    """Compute capabilities to build for; must be named for tensorrt-rtx."""
    max_batch: Annotated[int, Field(ge=1, le=4096)] = 64
    """Largest batch of the optimization profile."""
    max_length: Annotated[int | None, Field(ge=1, le=65536, exclude_if=lambda length: length is None)] = None
    """Longest input of the optimization profile in tokens; absent: the student's."""

    @model_validator(mode="after")
    def _gpus_named(self) -> TensorRTExport:
        if self.to == "tensorrt-rtx" and not self.gpus:
            raise ValueError("tensorrt-rtx builds ahead of time: name the GPUs, for example gpus: [sm89]")
        twice = next((gpu for gpu in self.gpus if self.gpus.count(gpu) > 1), None)
        if twice is not None:
            raise ValueError(f"gpus names {twice} twice: leave one out")
        if (reason := incapable(self.precision, self.gpus)) is not None:
            raise ValueError(reason)
        return self


Export = Annotated[OnnxExport | TensorRTExport, Field(discriminator="to")]


STREAMS = 8
BenchTarget = Literal[
    "onnxruntime-cpu", "openvino-cpu", "torch-cpu", "onnxruntime-cuda", "tensorrt", "tensorrt-rtx", "torch-cuda"
]
Cores = Annotated[tuple[Annotated[int, Field(ge=0, le=4095)], ...], Field(min_length=1)]


class Bench(Section):
    """What is timed."""

    targets: tuple[BenchTarget, ...] = ("onnxruntime-cpu",)
    """Runtimes; that of the shipped model is always timed. torch-cpu, torch-cuda: the float models as trained.
    tensorrt, tensorrt-rtx: a row "not run" in a run; `kdc bench RUN` times its engines."""
    threads: tuple[Annotated[int, Field(ge=1, le=256)], ...] = (1,)
    """Threads of the runtime, one measurement each."""
    processes: Annotated[int, Field(ge=1, le=256, exclude_if=lambda count: count == 1)] = 1
    """Processes that are asked at once, each with its own model; not where MLPerf LoadGen asks."""
    affinity: Annotated[tuple[Cores, ...] | None, Field(exclude_if=lambda cores: cores is None)] = None
    """Cores that each process is pinned to, a list a process; absent: where the system puts them."""
    scenarios: tuple[Literal["single-stream", "multi-stream", "server", "offline"], ...] = ("single-stream", "offline")
    """single-stream: one request after the other (latency); multi-stream: queries of `streams` requests, one after the
    other; server: `qps` requests a second at random times; offline: batches, as many as possible (throughput)."""
    qps: Annotated[float | None, Field(gt=0, le=1e6, exclude_if=lambda rate: rate is None)] = None
    """For server: mean arrivals a second (Poisson)."""
    streams: Annotated[int, Field(ge=1, le=4096, exclude_if=lambda count: count == STREAMS)] = STREAMS
    """For multi-stream: requests in a query; MLPerf has 8."""
    loadgen: Annotated[bool, Field(exclude_if=lambda asked: not asked)] = False
    """MLPerf LoadGen asks in single-stream and offline too, as it always does in multi-stream and server."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Requests in a batch of the offline scenario."""
    requests: Annotated[int, Field(ge=10)] = 300
    """Requests timed for each artifact, drawn from the test split."""
    rounds: Annotated[int, Field(ge=1)] = 5
    """Rounds in which the artifacts take turns."""

    @property
    def asks_loadgen(self) -> bool:
        """Whether MLPerf LoadGen is needed."""
        return self.loadgen or not {"server", "multi-stream"}.isdisjoint(self.scenarios)

    def batch(self, scenario: str) -> int:
        """Requests in a call of a scenario."""
        return {"offline": self.batch_size, "multi-stream": self.streams}.get(scenario, 1)

    @model_validator(mode="after")
    def _processes_that_ask_themselves(self) -> Bench:
        if self.affinity is not None and len(self.affinity) != self.processes:
            raise ValueError(
                f"affinity has cores of {len(self.affinity)} processes, processes is {self.processes}: give cores for "
                "each process"
            )
        if self.asks_loadgen and (self.processes > 1 or self.affinity is not None):
            raise ValueError(
                "processes and affinity have no effect where MLPerf LoadGen asks, which knows one process: take "
                "single-stream and offline without loadgen"
            )
        return self

    @model_validator(mode="after")
    def _rate_where_it_counts(self) -> Bench:
        if ("server" in self.scenarios) != (self.qps is not None):
            raise ValueError("server and qps belong together: requests arrive at random, qps a second on average")
        return self


class QualityGate(Section):
    """Quality that the shipped model must keep."""

    metric: Metric
    """Metric on the test split."""
    retain: Annotated[float, Field(gt=0, le=2)]
    """Least share of the teacher's value; for errors (rmse, mae) the teacher's value over the shipped model's."""


class Gates(Section):
    """Limits; one that is not met ends the run with exit code 5, artifacts kept."""

    quality: QualityGate | None = None
    """Least quality."""
    p99_ms: Annotated[float, Field(gt=0)] | None = None
    """Largest 99th percentile of the single-stream latency in milliseconds, first entry of bench.threads."""
    size_mb: Annotated[float, Field(gt=0)] | None = None
    """Largest size of the bundle in megabytes (10^6 bytes)."""
    speedup: Annotated[float, Field(gt=0)] | None = None
    """Least speed-up over the teacher."""


class BundleSection(Section):
    """What is packed."""

    targets: tuple[Literal["python"], ...] = ("python",)
    """Where the bundle shall run."""
    licenses: tuple[str, ...] = ()
    """Licence files of teacher and data, packed below LICENSES/; relative to the recipe's file."""
    items: Annotated[str | None, Field(min_length=1, exclude_if=lambda path: path is None)] = None
    """JSON lines or CSV of the items to rank, `id` and `text`, which the bundle brings along: of a two-tower student
    embedded by the shipped model, of others tokenised. Relative to the recipe's file."""

"""`quantize`, `export`, `bench`, `gates` and `bundle`: what follows training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.recipe.aware import Aware
from compress.recipe.base import Metric, Section


class Quantize(Section):
    """Lower precision after training."""

    method: Literal["dynamic", "static", "aware", "none"] | None = None
    """Absent: static (QDQ) for convolutions, which dynamic makes slower; dynamic for all other students. aware: the
    student is distilled a little further while its numbers are rounded, and the scales are learned (QDQ)."""
    bits: Literal[8, 4] = 8
    """Bits of the weights; 4 for method aware. Activations have 8."""
    aware: Annotated[Aware | None, Field(exclude_if=lambda section: section is None)] = None
    """Method aware: how long it learns, and from what."""
    calibration: Annotated[int, Field(ge=8)] = 256
    """Training rows that set the ranges of static quantization, and where method aware starts from."""
    max_quality_loss: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest loss of the task's metric on validation that is accepted, for errors (rmse, mae) their growth as a share;
    beyond it the run ends with exit code 5."""

    @model_validator(mode="after")
    def _fits_method(self) -> Quantize:
        asked = self.method or "that of the student's kind"
        if self.bits != 8 and self.method != "aware":
            raise ValueError(
                f"bits: {self.bits} loses too much unless the student learns to be rounded, and method is {asked}: "
                "set method: aware, or bits: 8"
            )
        if self.aware is not None and self.method != "aware":
            raise ValueError(f"aware says how method: aware learns, and method is {asked}: leave one of the two out")
        return self

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


class TensorRTExport(Section):
    """An engine for NVIDIA GPUs, from the float ONNX of the student."""

    to: Literal["tensorrt", "tensorrt-rtx"]
    """`tensorrt` builds on the GPU of this machine, `tensorrt-rtx` ahead of time for the GPUs named."""
    precision: Literal["fp32", "fp16", "int8"] = "fp16"
    """Arithmetic: fp16, or symmetric int8 (QDQ)."""
    gpus: tuple[Literal["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"], ...] = ()
    """Compute capabilities to build for; must be named for tensorrt-rtx."""
    max_batch: Annotated[int, Field(ge=1, le=4096)] = 64
    """Largest batch of the optimization profile."""

    @model_validator(mode="after")
    def _gpus_named(self) -> TensorRTExport:
        if self.to == "tensorrt-rtx" and not self.gpus:
            raise ValueError("tensorrt-rtx builds ahead of time: name the GPUs, for example gpus: [sm89]")
        return self


Export = Annotated[OnnxExport | TensorRTExport, Field(discriminator="to")]


class Bench(Section):
    """What is timed."""

    targets: tuple[Literal["onnxruntime-cpu"], ...] = ("onnxruntime-cpu",)
    """Runtimes."""
    threads: tuple[Annotated[int, Field(ge=1, le=256)], ...] = (1,)
    """Threads of the runtime, one measurement each."""
    scenarios: tuple[Literal["single-stream", "offline"], ...] = ("single-stream", "offline")
    """single-stream: one request after the other (latency); offline: batches, as many as possible (throughput)."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Requests in a batch of the offline scenario."""
    requests: Annotated[int, Field(ge=10)] = 300
    """Requests timed for each artifact, drawn from the test split."""
    rounds: Annotated[int, Field(ge=1)] = 5
    """Rounds in which the artifacts take turns."""


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

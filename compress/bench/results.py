"""One row of the bench: what was timed, how, and what came out."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Scenario = Literal["single-stream", "offline"]
"""single-stream: one request after the other, closed loop; offline: full batches, as many as possible."""


class BenchResult(BaseModel):
    """End-to-end figures of one artifact, from text to answer; a number is None when it was not measured.

    A call is one request in single-stream and one batch in offline; latencies are those of a call.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    artifact: str
    """Name of the contender: teacher, student, shipped …"""
    target: str = "onnxruntime-cpu"
    """The runtime."""
    scenario: Scenario
    """How requests arrive."""
    threads: int
    """Threads of the runtime inside one operator."""
    batch: int = 1
    """Requests in a call."""
    requests: int = 0
    """Requests actually timed, over all rounds."""
    rounds: int = 0
    """Rounds actually timed."""
    p50_ms: float | None = None
    """Median latency of a call in milliseconds, over all rounds."""
    p90_ms: float | None = None
    """90th percentile of the latency of a call in milliseconds."""
    p99_ms: float | None = None
    """99th percentile of the latency of a call in milliseconds; an observed value, never interpolated."""
    p50_low: float | None = None
    """Least of the rounds' medians in milliseconds."""
    p50_high: float | None = None
    """Largest of the rounds' medians in milliseconds."""
    qps: float | None = None
    """Requests a second while calls were running."""
    cpu_ms: float | None = None
    """Processor time of a request in milliseconds, all threads together."""
    tokenizer_ms: float | None = None
    """Median time that tokenising takes in a call, in milliseconds; part of the latency above."""
    peak_mb: float | None = None
    """Peak resident memory, in 10^6 bytes, of a fresh process that loads it and answers 20 requests."""
    size_bytes: int | None = None
    """Bytes of the files that are deployed: model, tokenizer, model.json."""
    status: str = "ok"
    """`ok`, or `not run: ` and why."""
    reason: str | None = None
    """Why it was not run; None when it was."""

    @classmethod
    def not_run(
        cls,
        artifact: str,
        scenario: Scenario,
        *,
        threads: int,
        batch: int,
        reason: str,
        target: str = "onnxruntime-cpu",
    ) -> BenchResult:
        """The row of something that could not be measured; every number is None."""
        return cls(
            artifact=artifact,
            target=target,
            scenario=scenario,
            threads=threads,
            batch=batch,
            status=f"not run: {reason}",
            reason=reason,
        )

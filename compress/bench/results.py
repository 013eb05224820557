"""One row of the bench: what was timed, how, and what came out."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from compress.bench.statistics import Verdict

Scenario = Literal["single-stream", "multi-stream", "server", "offline"]
"""single-stream: one request after the other, closed loop; multi-stream: the same with a batch of requests a query;
server: requests at random times (Poisson), open loop; offline: full batches, as many as possible."""


class TriedRate(BaseModel):
    """A rate that the search for the highest one has asked, and what came of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    offered_qps: float
    """Mean arrivals a second."""
    qps: float
    """Requests a second from the first arrival to the last answer; lower where the queue grew."""
    requests: int
    """Requests asked."""
    p50_ms: float
    """Median latency in milliseconds."""
    p99_ms: float
    """99th percentile of the latency in milliseconds; an observed value."""
    verdict: Verdict
    """Whether p99 was shown to be within the bound (held), beyond it or behind its arrivals (missed), or neither."""
    disturbed: bool = False
    """Whether the processor was slower meanwhile than it can be, though the rate was asked again."""


class BenchResult(BaseModel):
    """End-to-end figures of one artifact, from text to answer; a number is None when it was not measured.

    A call is one request in single-stream and server, one batch in multi-stream and offline; latencies are those of a
    call. By LoadGen they count from the scheduled arrival, which for all of offline is the beginning.
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
    processes: int = 1
    """Processes asked at once, each with its own model; latencies are pooled, requests a second are of all."""
    affinity: str | None = None
    """Cores that each process was pinned to, as `0,1 2,3`."""
    batch: int = 1
    """Requests in a call."""
    length: int | None = None
    """Tokens of every request, where they were made alike."""
    load: str | None = None
    """What asked: None for the loop of the bench itself, or LoadGen with its version."""
    offered_qps: float | None = None
    """For server: mean arrivals a second."""
    p99_bound_ms: float | None = None
    """The bound on p99 that `offered_qps` is the highest rate for, in milliseconds."""
    requests: int = 0
    """Requests actually timed, over all rounds."""
    rounds: int = 0
    """Rounds actually timed."""
    repeated_rounds: int | None = None
    """Rounds that were taken again, and counted then, since the processor was slower than it can be: told by a fixed
    piece of work before and after each turn, not by the latencies. Of a search: runs of LoadGen that were."""
    disturbed_rounds: int | None = None
    """Of the rounds that count those in which it still was."""
    p50_ms: float | None = None
    """Median latency of a call in milliseconds, over all rounds."""
    p90_ms: float | None = None
    """90th percentile of the latency of a call in milliseconds."""
    p99_ms: float | None = None
    """99th percentile of the latency of a call in milliseconds; an observed value, never interpolated."""
    min_ms: float | None = None
    """Least latency of a call in milliseconds."""
    p999_ms: float | None = None
    """99.9th percentile of the latency of a call in milliseconds; an observed value."""
    p50_ci_low: float | None = None
    """Lower end of the 95% interval of the median over all calls, in milliseconds."""
    p50_ci_high: float | None = None
    """Upper end of it."""
    p99_ci_low: float | None = None
    """Lower end of the 95% interval of the 99th percentile, in milliseconds."""
    p99_ci_high: float | None = None
    """Upper end of it; None where there are too few calls to give one, below 368."""
    p99_early_stopping_ms: float | None = None
    """MLPerf's early-stopping estimate: p99 does not exceed it with 99% confidence; None below 662 calls."""
    latency_quantiles_ms: tuple[tuple[float, float], ...] | None = None
    """The distribution: probability and latency in milliseconds, from the least (0) to the largest (1)."""
    tried_rates: tuple[TriedRate, ...] | None = None
    """Of a search for the highest rate: every rate that was tried, in that order."""
    p50_low: float | None = None
    """Least of the rounds' medians in milliseconds."""
    p50_high: float | None = None
    """Largest of the rounds' medians in milliseconds."""
    qps: float | None = None
    """Requests a second while calls were running; by LoadGen, from the first arrival to the last answer."""
    cpu_ms: float | None = None
    """Processor time of a request in milliseconds, all threads together."""
    energy_mj: float | None = None
    """Energy of a request in millijoules, all that the processor took; None where RAPL cannot be read."""
    cost_per_million: float | None = None
    """What a million requests cost at this `qps`, in the unit of the price that was given for a core and hour."""
    startup_ms: float | None = None
    """From the start of a fresh process to its first answer in milliseconds, median of three."""
    tokenizer_ms: float | None = None
    """Median time that tokenising takes in a call, in milliseconds; part of the latency above."""
    peak_mb: float | None = None
    """Peak resident memory, in 10^6 bytes, of a fresh process that loads it and answers 20 requests."""
    mapped_mb: float | None = None
    """Of what is resident in that process at its end, pages of files (libraries, mapped weights), which the processes
    of a machine share."""
    model_bytes: int | None = None
    """Bytes of the model with its weights alone, without what says how it reads text."""
    gpu_mb: float | None = None
    """Device memory, in 10^6 bytes, that the same process took on a GPU."""
    gpu_by: str | None = None
    """What tells `gpu_mb`: nvml, all that the process held; torch, its allocator's most; or `not run: ` and why."""
    metric: str | None = None
    """What `quality` is, where labelled requests were given: a metric of the task."""
    quality: float | None = None
    """Its value on them, of answers in calls of `batch` requests; by LoadGen, in its accuracy mode."""
    quality_low: float | None = None
    """Lower end of its 95% interval, a bootstrap over rows (for ranking over groups)."""
    quality_high: float | None = None
    """Upper end of it."""
    quality_rows: int | None = None
    """How many requests it was measured on."""
    sha256: str | None = None
    """Hash of the files that are deployed."""
    size_bytes: int | None = None
    """Bytes of the files that are deployed: model, tokenizer, model.json."""
    partial: bool | None = None
    """True where the measurement was interrupted; the figures are of the rounds that were finished."""
    status: str = "ok"
    """`ok`, `not run: ` and why, or of a search `no rate: ` and the lowest p99 that was seen."""
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

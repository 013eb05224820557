"""MLPerf LoadGen as the source of requests (Reddi et al., https://arxiv.org/abs/1911.02549).

LoadGen calls on the thread that started it, and the answer is given inside that call: there is one worker and one
queue, first come first served. Answers from another thread crash its offline scenario (version 6.0.17), and would add
a change of threads to every latency. A call that comes late, because the worker was busy, does not make its latency
shorter: LoadGen counts from the scheduled arrival.
"""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.bench.results import Scenario
from compress.extras import require, version

SCENARIOS: dict[Scenario, str] = {
    "single-stream": "SingleStream",
    "multi-stream": "MultiStream",
    "server": "Server",
    "offline": "Offline",
}
"""LoadGen's names."""
ALWAYS: tuple[Scenario, ...] = ("multi-stream", "server")
"""Scenarios that only LoadGen has."""
SAMPLE = re.compile(
    r'"ph":"b",.*?"ts":([\d.]+).*?"query_seq":(\d+),"sample_idx":\d+,"issue_start_ns":\d+,"complete_ns":(\d+)'
)
"""A sample in LoadGen's trace: scheduled arrival in µs, number of its query, ns from there to its answer."""
UNBOUNDED_NS = 10**12
"""Latency bound of a server run of which only the figures are wanted."""
AUDIT = "audit.config"
"""A file whose settings replace those of a run; without another path LoadGen reads that of the current folder."""
Answers = Callable[[Sequence[int]], npt.NDArray[np.float32]]
"""float32 [B, C] for the numbers of B requests."""


@dataclass(frozen=True)
class Load:
    """What LoadGen shall ask for.

    queries: how many; for offline, samples of the one query. batch: samples of a multi-stream query, or that are
    answered together of an offline one. library: requests to draw from, with replacement. qps: of server, mean arrivals
    a second. seed: of arrivals and draws, so that equal loads ask the same at the same times.
    """

    scenario: Scenario
    queries: int
    library: int
    batch: int = 1
    qps: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Driven:
    """What came of it, in the order of arrival.

    arrivals_ns: when each query (offline: each sample) was scheduled, from the first. latencies_ns: from there to its
    answer. summary: LoadGen's own figures by its names for them.
    """

    arrivals_ns: list[int]
    latencies_ns: list[int]
    summary: dict[str, str]

    @property
    def span_ns(self) -> int:
        """From the first arrival to the last answer."""
        return max(arrival + took for arrival, took in zip(self.arrivals_ns, self.latencies_ns, strict=True))


@dataclass(frozen=True)
class Audited:
    """What came of a run under an audit configuration.

    summary: LoadGen's own figures and settings by its names for them. logged: what its log says was answered to the
    requests that it sampled: number of the request, float32 [C].
    """

    summary: dict[str, str]
    logged: list[tuple[int, npt.NDArray[np.float32]]]


@dataclass
class _Stop:
    """Why the worker shall answer no more: a signal, or an error of the model."""

    signals: list[int] = field(default_factory=list)
    error: Exception | None = None

    def __bool__(self) -> bool:
        return bool(self.signals) or self.error is not None


def load_name() -> str:
    """What rows call this source of requests."""
    return f"loadgen {version('mlcommons-loadgen')}"


def drive(load: Load, answer: Callable[[Sequence[int]], object]) -> Driven:
    """Run LoadGen in performance mode; `answer` is given numbers of requests, below `load.library`, of one call.

    After Ctrl-C or an error what is still scheduled is waited for, unanswered, since LoadGen cannot be stopped.

    Raises:
        EnvironmentProblem: LoadGen is not installed.
    """
    lg = _library()
    settings = _settings(lg, load)
    settings.mode = lg.TestMode.PerformanceOnly

    def respond(samples: Sequence[Any]) -> list[Any]:
        answer([sample.index for sample in samples])
        return [lg.QuerySampleResponse(sample.id, 0, 0) for sample in samples]

    with TemporaryDirectory(prefix="kdc-loadgen-") as folder:
        _start(lg, settings, load, respond, Path(folder), trace=True)
        return _driven(Path(folder))


def collect(rows: int, answer: Answers, batch: int) -> Any:
    """Run LoadGen in accuracy mode: each of `rows` is asked once; returns what its log says was answered.

    Args:
        answer: of at most `batch` rows.

    Returns:
        float32 [rows, C], in the order of the rows.

    Raises:
        EnvironmentProblem: LoadGen is not installed.
    """
    lg = _library()
    load = Load("offline", rows, rows, batch)
    settings = _settings(lg, load)
    settings.mode = lg.TestMode.AccuracyOnly
    with TemporaryDirectory(prefix="kdc-loadgen-") as folder:
        _start(lg, settings, load, _with_data(lg, answer), Path(folder), trace=False)
        answered = dict(_logged(Path(folder)))
    return np.stack([answered[row] for row in range(rows)])


def audited(load: Load, answer: Answers, config: Mapping[str, int]) -> Audited:
    """Run LoadGen in performance mode under an `audit.config`, as MLPerf's compliance tests do.

    Args:
        answer: of at most `load.batch` requests, whose numbers are below `load.library`.
        config: settings of that file for every model and scenario, such as `performance_issue_same`.

    Raises:
        EnvironmentProblem: LoadGen is not installed.
    """
    lg = _library()
    settings = _settings(lg, load)
    settings.mode = lg.TestMode.PerformanceOnly
    with TemporaryDirectory(prefix="kdc-loadgen-") as name:
        folder = Path(name)
        lines = [f"*.*.{key} = {value}\n" for key, value in config.items()]
        (folder / AUDIT).write_text("".join(lines), encoding="utf-8")
        _start(lg, settings, load, _with_data(lg, answer), folder, trace=False)
        return Audited(_summary(folder), _logged(folder))


def _with_data(lg: Any, answer: Answers) -> Callable[[Sequence[Any]], list[Any]]:
    """Responses that carry the answers, for LoadGen to log."""
    kept: list[npt.NDArray[np.float32]] = []  # LoadGen is given addresses

    def respond(samples: Sequence[Any]) -> list[Any]:
        answers = np.ascontiguousarray(answer([sample.index for sample in samples]), np.float32)
        kept[:] = [answers]
        return [
            lg.QuerySampleResponse(sample.id, row.ctypes.data, row.nbytes)
            for sample, row in zip(samples, answers, strict=True)
        ]

    return respond


def _logged(folder: Path) -> list[tuple[int, npt.NDArray[np.float32]]]:
    entries = json.loads((folder / "mlperf_log_accuracy.json").read_text(encoding="utf-8"))
    return [(entry["qsl_idx"], np.frombuffer(bytes.fromhex(entry["data"]), np.float32)) for entry in entries]


def _library() -> Any:
    return require("mlperf_loadgen", extra="bench", why="load by MLPerf LoadGen")


def _settings(lg: Any, load: Load) -> Any:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, SCENARIOS[load.scenario])
    settings.min_query_count = settings.max_query_count = load.queries
    settings.min_duration_ms = 0
    settings.qsl_rng_seed = settings.sample_index_rng_seed = settings.schedule_rng_seed = load.seed
    settings.performance_sample_count_override = load.library
    settings.single_stream_target_latency_percentile = 0.99
    settings.multi_stream_samples_per_query = load.batch
    if load.qps is not None:
        settings.server_target_qps = load.qps
        settings.server_target_latency_ns = UNBOUNDED_NS
        settings.server_target_latency_percentile = 0.99
    return settings


def _start(
    lg: Any, settings: Any, load: Load, respond: Callable[[Sequence[Any]], list[Any]], folder: Path, *, trace: bool
) -> None:
    log = lg.LogSettings()
    log.enable_trace = trace
    log.log_output.outdir = str(folder)
    stop = _Stop()

    def issue(samples: Sequence[Any]) -> None:
        # Nothing may be raised here: LoadGen's threads would live on and crash the process when it ends.
        for start in range(0, len(samples), load.batch):
            part = samples[start : start + load.batch]
            responses = None
            if not stop:
                try:
                    responses = respond(part)
                except Exception as error:  # raised again after LoadGen's own thread has ended
                    stop.error = error
            lg.QuerySamplesComplete(responses or [lg.QuerySampleResponse(sample.id, 0, 0) for sample in part])

    system = lg.ConstructSUT(issue, _nothing)
    library = lg.ConstructQSL(load.library, load.library, _nothing, _nothing)
    try:
        with _signals_wait(stop):
            lg.StartTestWithLogSettings(system, library, settings, log, str(folder / AUDIT))
    finally:
        lg.DestroyQSL(library)
        lg.DestroySUT(system)
    if stop.error is not None:
        raise stop.error


def _nothing(*_: object) -> None:
    """There is nothing to load, to unload or to flush."""


@contextmanager
def _signals_wait(stop: _Stop) -> Iterator[None]:
    """Ctrl-C and SIGTERM are noted, and handled as they would have been once the block has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda caught, _: stop.signals.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.signals:
        signal.raise_signal(stop.signals[0])


def _driven(folder: Path) -> Driven:
    trace = (folder / "mlperf_log_trace.json").read_text(encoding="utf-8")
    queries: dict[int, tuple[int, int]] = {}
    offline: list[tuple[int, int]] = []
    for arrival, query, took in SAMPLE.findall(trace):
        found = (round(float(arrival) * 1000), int(took))
        offline.append(found)
        queries[int(query)] = max(queries.get(int(query), found), found)
    summary = _summary(folder)
    seen = offline if summary["Scenario"] == "Offline" else [queries[number] for number in sorted(queries)]
    first = min(arrival for arrival, _ in seen)
    return Driven([arrival - first for arrival, _ in seen], [took for _, took in seen], summary)


def _summary(folder: Path) -> dict[str, str]:
    return dict(_pairs((folder / "mlperf_log_summary.txt").read_text(encoding="utf-8")))


def _pairs(summary: str) -> Iterator[tuple[str, str]]:
    """Name and value of each line of LoadGen's summary that has both."""
    for line in summary.splitlines():
        name, colon, value = line.strip(" *").partition(":")
        if colon and value.strip():
            yield name.strip(), value.strip()

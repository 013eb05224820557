"""MLPerf's compliance tests that apply to `kdc bench`, on a finished run's model, through kdc's own use of LoadGen.

    python -m benchmarks.compliance RUN [--artifact quantized] [--queries 1000] [--repeats 5] [--check]

Each test hands LoadGen an `audit.config` with the settings of https://github.com/mlcommons/inference/tree/master/compliance
and is judged by the criteria of the scripts there:

TEST01  Accuracy in performance mode. LoadGen logs some answers of a performance run. Each must be that of accuracy mode
        (`verify_accuracy.py`; here the whole answer bit by bit, there its first element), and the performance that of a
        run without logging within 10%, within 20% where that run's latency is at most 200 µs (`verify_performance.py`).
TEST04  No answers are kept. The same request is asked again and again, which may be faster by at most as much. Requests
        that differ in length make no sense of it (MLPerf exempts BERT for that), so all are made --length tokens long.

MLPerf asks no more for TEST05, other seeds, since version 5.0 (pull request 1925); TEST06 to TEST09 are for language
models and recommenders. Performance is the early-stopping estimate of the 90th percentile in single-stream and the
throughput in offline. A server's is the rate at which it is asked, which says nothing here. Requests are answered one
by one, since an int8 model may answer otherwise beside other rows; that leaves out multi-stream. Runs with and without
a test take turns, each on a model that was opened anew, and medians over --repeats of them are compared: the official
scripts compare one with one.

A row for each test and scenario is appended to benchmarks/results/compliance.jsonl, which `python -m benchmarks.record`
draws. --check ends with exit code 5 where a test is not passed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, append, exit_codes, origin
from benchmarks.run_requests import distinct_requests
from compress.artifacts import TOKENIZER, read_spec
from compress.bench.loadgen import Answers, Audited, Load, audited, collect
from compress.bench.measure import no_garbage_collection
from compress.bench.results import Scenario
from compress.errors import DataError, EnvironmentProblem, GateError, RecipeError
from compress.extras import version
from compress.paths.lengths import cut_to, lengthened
from compress.progress import reporter
from compress.runtime.answers import Answer
from compress.runtime.predictor import Predictor, Request
from compress.runtime.text import TextEncoder

COMPLIANCE_ROWS = RESULTS / "compliance.jsonl"
SCENARIOS: tuple[Scenario, ...] = ("single-stream", "offline")
SCORES = {"single-stream": "Early stopping 90.0th percentile estimate", "offline": "Samples per second"}
"""LoadGen's name of a scenario's performance: nanoseconds, and requests a second."""
PLAIN = {"mode": 2, "target_latency_percentile": 90}
"""A performance run (mode 2), scored as MLPerf scores single-stream."""
LOGGED = PLAIN | {"accuracy_log_rng_seed": 720381539243781796, "accuracy_log_sampling_target": 256}
SAME = PLAIN | {"performance_issue_unique": 0, "performance_issue_same": 1, "performance_issue_same_index": 3}
TOLERANCE, QUICK_TOLERANCE, QUICK_NS = 0.1, 0.2, 200_000
WARM_CALLS = 20
LEAST_QUERIES = 64
"""LoadGen estimates a 90th percentile from so many queries on."""
LEAST_DISTINCT = 4
"""A library smaller than this share of the queries would have a cache help in both runs."""

Row = dict[str, Any]
Fresh = Callable[[], Answers]
"""A model that was opened anew, and was asked nothing yet."""


@dataclass(frozen=True)
class Sizes:
    """library: different requests. queries: asked in a run. repeats: runs of each kind."""

    library: int
    queries: int
    repeats: int


def accuracy_in_performance_mode(fresh: Fresh, scenario: Scenario, sizes: Sizes) -> Row:
    """TEST01."""
    truth = collect(sizes.library, fresh(), 1)
    plain, logging = _runs(fresh, scenario, sizes, LOGGED)
    answers = [logged for run in logging for logged in run.logged]
    apart = [float(np.abs(answer - truth[number]).max()) for number, answer in answers]
    wrong = sum(not np.array_equal(answer, truth[number]) for number, answer in answers)
    found = compared(scenario, plain, logging)
    kept = abs(found["ratio"] - 1) <= found["tolerance"]
    return {
        "test": "TEST01",
        "scenario": scenario,
        "logged": len(answers),
        "otherwise": wrong,
        "largest_difference": max(apart, default=None),
        **found,
        "passed": bool(answers) and not wrong and kept and found["valid"],
    }


def no_kept_answers(fresh: Fresh, scenario: Scenario, sizes: Sizes) -> Row:
    """TEST04."""
    found = compared(scenario, *_runs(fresh, scenario, sizes, SAME))
    return {
        "test": "TEST04",
        "scenario": scenario,
        **found,
        "passed": found["speed_up"] < 1 + found["tolerance"] and found["valid"],
    }


def compared(scenario: Scenario, plain: Sequence[Audited], tested: Sequence[Audited]) -> Row:
    """Performance with and without a test, medians, in LoadGen's unit; `speed_up` is above 1 where the test was faster.

    valid: LoadGen calls each run so. tolerance: share by which the two may differ.
    """
    scores = [statistics.median(float(run.summary[SCORES[scenario]]) for run in runs) for runs in (plain, tested)]
    latency = scenario == "single-stream"
    ratio = scores[1] / scores[0]
    return {
        "plain": scores[0],
        "tested": scores[1],
        "ratio": round(ratio, 4),
        "speed_up": round(1 / ratio if latency else ratio, 4),
        "tolerance": QUICK_TOLERANCE if latency and scores[0] <= QUICK_NS else TOLERANCE,
        "valid": all(run.summary["Result is"] == "VALID" for run in (*plain, *tested)),
    }


def _runs(
    fresh: Fresh, scenario: Scenario, sizes: Sizes, config: Mapping[str, int]
) -> tuple[list[Audited], list[Audited]]:
    """Runs without the test and with it, which take turns."""
    found: tuple[list[Audited], list[Audited]] = ([], [])
    for repeat in range(sizes.repeats):
        load = Load(scenario, sizes.queries, sizes.library, seed=repeat)
        for settings, runs in zip((PLAIN, config), found, strict=True):
            runs.append(_run(fresh(), load, settings))
    return found


def _run(model: Answers, load: Load, config: Mapping[str, int]) -> Audited:
    for number in range(min(WARM_CALLS, load.library)):
        model([number])
    with no_garbage_collection():
        found = audited(load, model, config)
    for name, value in config.items():
        if name in found.summary and found.summary[name] != str(value):
            raise EnvironmentProblem(
                f"the audit configuration says {name} = {value}, and LoadGen ran with {found.summary[name]}; "
                "install another version of mlcommons-loadgen"
            )
    return found


def opener(folder: Path, requests: Sequence[Request]) -> Fresh:
    """The model of a deployable folder, opened as `kdc bench` does: one thread, and no cache of tokens."""

    def fresh() -> Answers:
        predictor = Predictor.from_folder(folder, threads=1)

        def answer(numbers: Sequence[int]) -> Any:
            answers = predictor.answer([requests[number] for number in numbers])
            return np.array([_numbers(found) for found in answers], np.float32)

        return answer

    return fresh


def _numbers(answer: Any) -> list[float]:
    return list(answer.probabilities.values()) if isinstance(answer, Answer) else [answer.score]


def shortest(folder: Path, requests: Sequence[Request], tokens: int) -> list[Request]:
    """Requests without the words that the model of `folder` would not read, which only the tokenizer would.

    Args:
        requests: of each the model reads `tokens` tokens, and of what is returned as well.
    """
    spec = read_spec(folder)
    tokenizer_json = (folder / TOKENIZER).read_text(encoding="utf-8")
    encoder = TextEncoder(tokenizer_json, max_length=tokens, separator=spec.separator, pad_id=spec.pad_id)

    def read(request: Request) -> int:
        ids, _, _ = encoder.encode([request.text], [request.text_pair or ""] if spec.two_texts else None)
        return len(ids[0])

    def cut(request: Request) -> Request:
        while (shorter := _without_last_word(request)) != request and read(shorter) == tokens:
            request = shorter
        return request

    return [cut(request) for request in requests]


def _without_last_word(request: Request) -> Request:
    """The longer of the two texts loses it."""
    text, pair = request.text.split(), (request.text_pair or "").split()
    if len(pair) > len(text):
        return replace(request, text_pair=" ".join(pair[:-1]))
    return replace(request, text=" ".join(text[:-1] or text))


def rows_of(folder: Path, requests: Sequence[Request], sizes: Sizes, length: int) -> list[Row]:
    """Both tests in each scenario on a deployable folder; TEST04 says `not_run` where requests have no one length."""
    rows = []
    with TemporaryDirectory(prefix="kdc-compliance-") as work:
        try:
            tokens = min(length, read_spec(folder).max_length)
            cut = cut_to(folder, folder.name, tokens, Path(work) / "cut")
            alike = opener(cut, shortest(cut, lengthened(cut, requests, tokens), tokens))
            not_run = None
        except RecipeError as error:
            alike, not_run = None, str(error)
        for scenario in SCENARIOS:
            reporter.say(
                f"  {scenario}: TEST01, TEST04, {sizes.repeats} times {sizes.queries} queries with and without"
            )
            rows.append(accuracy_in_performance_mode(opener(folder, requests), scenario, sizes))
            if alike is None:
                rows.append({"test": "TEST04", "scenario": scenario, "passed": None, "not_run": not_run})
            else:
                rows.append(no_kept_answers(alike, scenario, sizes) | {"tokens": tokens})
    return rows


def check(rows: Sequence[Row]) -> None:
    """Raise where a test is not passed.

    Raises:
        GateError: naming tests and scenarios.
    """
    failed = [f"{row['test']} in {row['scenario']}" for row in rows if row["passed"] is False]
    if failed:
        raise GateError(f"not passed: {', '.join(failed)}; the rows say by how much, repeat it on a quiet machine")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, test, append, print, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--artifact", default="quantized", help="which of its folders is the model")
    parser.add_argument("--queries", type=int, default=1000, help="of each run of LoadGen")
    parser.add_argument("--repeats", type=int, default=5, help="runs with and without each test")
    parser.add_argument("--length", type=int, default=16, help="tokens of a request in TEST04")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="data.root=… when data moved")
    parser.add_argument("-o", "--out", type=Path, default=COMPLIANCE_ROWS)
    parser.add_argument("--check", action="store_true", help="exit code 5 where a test is not passed")
    options = parser.parse_args(arguments)
    with exit_codes("compliance"):
        rows = _measured(options)
        append(options.out, rows)
        for row in rows:
            print(json.dumps(row))
        if options.check:
            check(rows)


def _measured(options: argparse.Namespace) -> list[Row]:
    for name, least in (("queries", LEAST_QUERIES), ("repeats", 1)):
        if getattr(options, name) < least:
            raise RecipeError(f"--{name} is {getattr(options, name)}, but it takes at least {least}; raise it")
    requests = distinct_requests(options.run, options.queries, options.set)
    sizes = Sizes(len(requests), options.queries, options.repeats)
    if sizes.library * LEAST_DISTINCT < sizes.queries:
        raise DataError(
            f"{options.run}: its test split has {sizes.library} different requests, too few for {sizes.queries} "
            f"queries, since a cache would serve both runs; give at most --queries {sizes.library * LEAST_DISTINCT}"
        )
    name = options.run.resolve().name
    command = [f"python -m benchmarks.compliance runs/{name}", f"--artifact {options.artifact}"]
    command += [f"--{given} {getattr(options, given)}" for given in ("queries", "repeats", "length")]
    common = {
        "benchmark": "compliance",
        "run": name,
        "artifact": options.artifact,
        **{"library": sizes.library, "queries": sizes.queries, "repeats": sizes.repeats},
        "loadgen": version("mlcommons-loadgen"),
        "command": " ".join(command),
    }
    made = origin(["mlcommons-loadgen"])
    return [common | row | made for row in rows_of(options.run / options.artifact, requests, sizes, options.length)]


if __name__ == "__main__":
    main()

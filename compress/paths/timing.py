"""`kdc bench` on artifacts: each is opened as it would be deployed, all take turns on the same requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from compress.artifacts import SPEC, TOKENIZER, read_spec
from compress.bench.affinity import check_affinity
from compress.bench.files import check_appendable
from compress.bench.lanes import Contender
from compress.bench.machine import lasting_warnings
from compress.bench.results_report import check_report
from compress.bench.targets import ONNXRUNTIME, deployed_sha256
from compress.bundle.verify import read_golden
from compress.bundle.write import STOCK_GOLDEN
from compress.errors import RecipeError
from compress.extras import require
from compress.paths.entries import Entry, cut_entries, read_entries
from compress.paths.judging import LabelledRequests, check_labels, read_labelled
from compress.paths.lengths import lengthened
from compress.paths.locate import Kind, kind_of
from compress.paths.session import BenchOptions, Row, Session
from compress.progress import reporter
from compress.recipe import Bench
from compress.runtime.bundle import SUFFIX, open_bundle
from compress.runtime.fields import Fields
from compress.runtime.predictor import Request
from compress.runtime.requests import RENAME, read_requests

OPTION_OF = {
    "targets": "--target",
    "scenarios": "--scenario",
    "threads": "--threads",
    "qps": "--qps",
    "requests": "--queries",
    "processes": "--processes",
    "affinity": "--affinity",
}


def bench_paths(
    artifacts: Sequence[Path],
    *,
    targets: Sequence[str] | None,
    scenarios: Sequence[str],
    threads: Sequence[int],
    requests: Path | None,
    more: BenchOptions = BenchOptions(),
) -> list[Row]:
    """Time artifacts side by side.

    Args:
        artifacts: exported models, runs (all their models), bundles, .onnx and .engine files; for torch-cpu and
            torch-cuda folders of trained weights. One without tokenizer.json and model.json beside it is timed on
            generated inputs, which its row's `notes` say.
        targets: names of runtimes; None times each model on the one that it is for. scenarios: as in the recipe.
        threads: one measurement each.
        requests: texts to ask; without them and without `more.data` a bundle's golden requests, or stock ones.
        more: the other options.

    Returns:
        A row (see BenchResult) for each of threads, scenario, target and model, with `notes` added: sentences.

    Raises:
        RecipeError: a path that is no artifact, or an unknown target or scenario.
        DataError: the requests or the data cannot be used, or the results file holds something else.
        EnvironmentProblem: LoadGen is needed, and not installed.
        IntegrityError: an artifact is damaged.
        KeyboardInterrupt: after the rows of what was measured went to `more.seen` and the results file.
    """
    bench = _section(targets or [ONNXRUNTIME], scenarios, threads, more)
    _check(bench, requests, more)
    with TemporaryDirectory(prefix="kdc-bench-") as temporary:
        entries = read_entries(artifacts, Path(temporary), targets)
        if targets is None:
            own = dict.fromkeys(entry.own_target for entry in entries.values())
            bench = bench.model_copy(update={"targets": tuple(own)})
        given = {"--data": more.data, "--requests": requests}
        unread = next((option for option, path in given.items() if path is not None), None)
        if unread is not None and not any(entry.from_text for entry in entries.values()):
            raise RecipeError(
                f"{unread} needs texts, but {', '.join(entries)} has no {TOKENIZER} and {SPEC}, which say how it reads "
                "them: its inputs are generated; leave the option out"
            )
        pairs = any(entry.from_text and read_spec(entry.folder).two_texts for entry in entries.values())
        labelled = None if more.data is None else _labelled(more.data, entries.values(), more.metric, pairs=pairs)
        asked = _requests(requests, artifacts, pairs=pairs) if labelled is None else labelled.requests
        hashes = {name: deployed_sha256(entry.folder, entry.weights) for name, entry in entries.items()}
        if more.length is not None:
            entries = cut_entries(entries, more.length, Path(temporary) / "cut")
        contenders = {
            name: Contender(
                name,
                entry.folder,
                None if more.length is None else lengthened(entry.folder, asked, more.length),
                entry.timed_on if targets else (entry.own_target,),
            )
            for name, entry in entries.items()
        }
        session = Session(entries, contenders, bench, more, hashes, labelled)
        for warning in [*session.device["warnings"], *lasting_warnings(bench.threads, bench.processes, bench.affinity)]:
            reporter.warn(warning)
        return session.run(asked)


def _section(targets: Sequence[str], scenarios: Sequence[str], threads: Sequence[int], more: BenchOptions) -> Bench:
    """The recipe's section of these options, with the first of the rates, all of which are checked."""
    raw: dict[str, Any] = {"targets": list(targets), "scenarios": list(scenarios), "threads": list(threads)}
    raw |= {"loadgen": more.loadgen, "processes": more.processes, "affinity": more.affinity}
    if more.queries is not None:
        raw["requests"] = more.queries
    try:
        at_rates = [Bench.model_validate({**raw, "qps": rate}) for rate in more.qps or (None,)]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise RecipeError(_in_options(first["msg"])) from error
        raise RecipeError(
            f"{OPTION_OF[str(first['loc'][0])]} is {first['input']!r}: {first['msg'].replace('Input', 'it')}"
        ) from error
    return at_rates[0]


def _in_options(message: str) -> str:
    """What is wrong with several fields together, in the words of the command."""
    text = message.removeprefix("Value error, ")
    if text.startswith("server and qps"):
        return "--scenario server and --qps belong together: requests arrive so many a second"
    for field in ("processes", "affinity"):
        text = text.replace(f"{field} ", f"--{field} ", 1)
    return text


def _check(bench: Bench, requests: Path | None, more: BenchOptions) -> None:
    """Refuse, before any work, what could not be finished."""
    if more.p99_ms is not None and (bench.processes > 1 or bench.affinity is not None):
        raise RecipeError("--processes and --affinity have no effect together with --find-qps, which asks one process")
    check_affinity(bench.affinity)
    if bench.asks_loadgen or more.p99_ms is not None:
        require("mlperf_loadgen", extra="bench", why="load by MLPerf LoadGen")
    if more.data is not None:
        require("scipy", extra="train", why="measuring quality on --data")
    if more.results is not None:
        check_appendable(more.results)
    if more.report is not None:
        check_report(more.report)
    if more.metric is not None and more.data is None:
        raise RecipeError("--metric says how --data FILE is measured; give both, or neither")
    if more.data is not None and requests is not None:
        raise RecipeError("--data and --requests both say what is asked; give one of them")


def _labelled(path: Path, entries: Iterable[Entry], metric: str | None, *, pairs: bool) -> LabelledRequests:
    """The labelled rows, which must be of the task of every model that answers text."""
    rows = read_labelled(path, pairs=pairs)
    for entry in entries:
        if entry.from_text:
            check_labels(read_spec(entry.folder), rows, metric)
    return rows


def _requests(path: Path | None, artifacts: Sequence[Path], *, pairs: bool) -> list[Request]:
    """The given requests; else the first golden ones that every model can answer, else stock ones."""
    if path is not None:
        return list(read_requests(path, fields=Fields(pairs=pairs, remedy=RENAME)))
    for artifact in artifacts:
        bundles = [artifact] if kind_of(artifact) is Kind.bundle else sorted(artifact.glob(f"bundle/*{SUFFIX}"))
        for bundle in bundles:
            golden, _ = read_golden(open_bundle(bundle))
            if not pairs or all(request.text_pair is not None for request in golden):
                reporter.say(f"  asking the {len(golden)} golden requests of {bundle}")
                return golden
    reporter.say(f"  asking {len(STOCK_GOLDEN)} stock requests; --requests FILE times your own")
    return list(STOCK_GOLDEN)

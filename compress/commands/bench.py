"""`kdc bench`: a recipe up to its bench, artifacts side by side, two files of results, or files of results drawn."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from compress.commands import options
from compress.commands.output import output, results_only
from compress.commands.runs import refuse, run_until
from compress.errors import DataError, EnvironmentProblem, GateError, RecipeError
from compress.progress import reporter

DEFAULT_SCENARIOS = ("single-stream", "offline")


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    markdown = "markdown"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(bench)


def bench(  # noqa: PLR0913, PLR0917  # one parameter an option
    artifacts: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECIPE|ARTIFACT...",
            help="A recipe, or models to time; with --compare two, with --report any number of files of results.",
            show_default=False,
        ),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="onnxruntime-cpu, openvino-cpu, torch-cpu, onnxruntime-cuda, tensorrt, tensorrt-rtx or torch-cuda; "
            "repeatable; the one that each model is for when absent.",
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            "--scenario",
            help="single-stream, multi-stream, server or offline; repeatable; single-stream and offline when absent.",
        ),
    ] = None,
    threads: Annotated[list[int] | None, typer.Option("--threads", min=1, help="Threads; repeatable.")] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Processes asked at once, each with its own model; 1.")
    ] = None,
    affinity: Annotated[
        list[str] | None,
        typer.Option("--affinity", metavar="CORES", help="Cores of a process, as 0 or 0-3 or 0,2; one a process."),
    ] = None,
    qps: Annotated[
        list[float] | None, typer.Option("--qps", help="For server: mean arrivals a second (Poisson); repeatable.")
    ] = None,
    loadgen: Annotated[
        bool,
        typer.Option("--loadgen", help="MLPerf LoadGen asks in single-stream and offline too, as it does in others."),
    ] = False,
    queries: Annotated[
        int | None, typer.Option("--queries", min=10, help="Requests timed for a row; 300 when absent.")
    ] = None,
    find_qps: Annotated[
        bool, typer.Option("--find-qps", help="Find the highest Poisson rate at which p99 is within --p99-ms.")
    ] = False,
    p99_ms: Annotated[
        float | None, typer.Option("--p99-ms", min=0, help="The bound of --find-qps, in milliseconds.")
    ] = None,
    requests: Annotated[Path | None, typer.Option(metavar="FILE", help="Requests to time, JSON lines or CSV.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labelled requests (`label`): quality of the same models beside the times."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", help="Of --data, as accuracy, weighted_f1 or ndcg@5; the first of the task when absent."
        ),
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=3, help="Make every request so many tokens long; as in the data when absent.")
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price-per-core-hour", min=0, help="Adds the cost of a million requests.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE.jsonl", help="Append the rows to a file of results.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="OUT.html", help="Draw the rows as one file that opens offline; of FILE.jsonl too."),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Ratios of the second file of results to the first.")] = (
        False
    ),
    fail_if: Annotated[
        list[str] | None,
        typer.Option("--fail-if", metavar="FIELD>NUMBER", help="Exit 5 if a row is so, as 'p99_ms>5'; repeatable."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.table,
    overrides: options.Overrides = None,
    runs: options.Runs = options.RUNS,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Time a recipe's models or several artifacts (any .onnx too) side by side; or compare or draw files of results."""
    output.configure(json=json, verbose=verbose, quiet=quiet)
    from compress.recipe.file import is_recipe

    measuring = {
        **{"--target": target, "--scenario": scenario, "--threads": threads, "--qps": qps, "--loadgen": loadgen},
        **{"--queries": queries, "--find-qps": find_qps, "--p99-ms": p99_ms, "--requests": requests, "--data": data},
        **{"--metric": metric},
        **{"--length": length, "--price-per-core-hour": price, "-o": out},
        **{"--processes": processes, "--affinity": affinity},
    }
    from compress.bench.files import SUFFIX

    files = [path for path in artifacts if path.suffix.lower() == SUFFIX]
    if json and form is not Format.table:
        raise RecipeError(f"--json and --format {form} are two forms of one output; give one of them")
    if not compare and is_recipe(artifacts[0]):
        if len(artifacts) > 1:
            raise RecipeError(
                f"kdc bench takes one recipe or several artifacts, not {len(artifacts)} with a recipe first"
            )
        refused = {**measuring, "--report": report, "--fail-if": fail_if, "--format": form is not Format.table}
        refuse(refused, "a recipe")
        run_until(artifacts[0], overrides, runs, "bench")
        return
    refuse({"--set": overrides}, "artifacts")
    from compress.bench.conditions import met, read_condition

    conditions = [read_condition(text, compared=compare) for text in fail_if or []]
    if compare:
        refuse({**measuring, "--report": report}, "--compare")
        rows = _compared(artifacts)
    elif files:
        refuse(measuring, "files of results, which are drawn and not measured")
        rows = _drawn(artifacts, files, report)
    else:
        rows = _measured(artifacts, {**measuring, "--report": report}, form)
    failed = met(rows, conditions)
    _print(rows, form, failed)
    if report is not None:
        reporter.say(f"report: {report}")
    unmet = [] if files else [f"{r['artifact']}: {r['status']}" for r in rows if str(r["status"]).startswith("no rate")]
    if failed or unmet:
        raise GateError("; ".join([*failed, *unmet]))


def _compared(files: Sequence[Path]) -> list[dict[str, Any]]:
    if len(files) != 2:
        raise RecipeError(f"--compare takes two files of results, not {len(files)}")
    from compress.bench.compare import compare
    from compress.bench.files import read_results

    return compare(*(read_results(file) for file in files))


def _drawn(given: Sequence[Path], files: Sequence[Path], report: Path | None) -> list[dict[str, Any]]:
    """The rows of files, after a report of them was written."""
    if report is None:
        raise RecipeError(f"{files[0]} is a file of results: --report OUT.html draws it, --compare takes two")
    if len(files) < len(given):
        other = next(path for path in given if path not in files)
        raise RecipeError(
            f"{files[0]} is a file of results, which is drawn, and {other} would be measured; give one kind"
        )
    from compress.bench.files import read_results
    from compress.bench.results_report import check_report, write_results_report

    check_report(report)
    rows = [row for file in files for row in read_results(file)]
    if not rows:
        raise DataError(
            f"{', '.join(map(str, files))}: there is no row to draw; `kdc bench ARTIFACT -o FILE` adds some"
        )
    write_results_report(rows, report)
    return rows


def _measured(artifacts: Sequence[Path], given: Mapping[str, Any], form: Format) -> list[dict[str, Any]]:
    if bool(given["--find-qps"]) != (given["--p99-ms"] is not None):
        raise RecipeError("--find-qps and --p99-ms belong together: the rate is the highest that holds the bound")
    if given["--find-qps"]:
        single = {name: given[name] for name in ("--scenario", "--qps", "--loadgen", "--queries")}
        refuse(single, "--find-qps, which asks as the server scenario does")
    from compress.bench.affinity import read_cores
    from compress.paths import BenchOptions, bench_paths

    rows: list[dict[str, Any]] = []
    try:
        with results_only():
            return bench_paths(
                artifacts,
                targets=given["--target"],
                scenarios=given["--scenario"] or DEFAULT_SCENARIOS,
                threads=given["--threads"] or [1],
                requests=given["--requests"],
                more=BenchOptions(
                    qps=tuple(given["--qps"] or ()),
                    loadgen=given["--loadgen"],
                    queries=given["--queries"],
                    p99_ms=given["--p99-ms"],
                    data=given["--data"],
                    metric=given["--metric"],
                    length=given["--length"],
                    price=given["--price-per-core-hour"],
                    processes=given["--processes"] or 1,
                    affinity=None if given["--affinity"] is None else [*map(read_cores, given["--affinity"])],
                    results=given["-o"],
                    report=given["--report"],
                    seen=rows.extend,
                ),
            )
    except (EnvironmentProblem, OSError):
        if rows:  # what was measured is not lost with the disk that it should have gone to
            _print(rows, form, [])
        raise
    except KeyboardInterrupt as stop:
        if rows:
            _print(rows, form, [])
        stop.add_note(_kept(len(rows), given["-o"]))
        raise


def _kept(rows: int, out: Path | None) -> str:
    """What Ctrl-C has left."""
    if not rows:
        return "nothing was measured yet"
    kept = "printed" if out is None else f"in {out}"
    counted = f"{rows} rows were measured and are" if rows > 1 else "1 row was measured and is"
    return f"{counted} {kept}; rows that are not complete are marked partial"


def _print(rows: Sequence[Mapping[str, Any]], form: Format, failed: Sequence[str]) -> None:
    if output.json:
        output.object({"latency": rows, "failed": failed})
        return
    from compress.bench_table import latency_markdown, print_latency, print_ratios

    if form is Format.table:
        (print_ratios if any("qps_ratio" in row for row in rows) else print_latency)(rows)
    elif form is Format.markdown:
        sys.stdout.write(latency_markdown(rows))
    else:
        nested = {key for row in rows for key, value in row.items() if isinstance(value, dict | list | tuple)}
        columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in nested]
        writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)

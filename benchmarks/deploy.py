"""What kdc ships beside what peers make of the same student: time, size, agreement with float, and the task's metric.

    python -m benchmarks.deploy RUN [--artifact NAME=FOLDER]… [--peer NAME]… [--rounds 7] [--rows 1500] [--check]

RUN is the folder of a finished run with a `transformer` student. The student is written as a plain Hugging Face folder,
each peer makes of it what `benchmarks/deploy_peers.py` says, and all take turns in this process with one thread each:
the model alone on token ids of the test texts, cut or repeated to the length exactly. kdc's artifacts are
RUN/quantized, or each deployable folder that --artifact names. A row an artifact is appended to
benchmarks/results/deploy.jsonl, also of a peer that could not be run; `python -m benchmarks.record` draws them into
docs/results.md. With --try nothing is appended. --check ends with exit code 5 where a target of
`benchmarks/deploy_verdict.py` is missed.

Olive and ModelOpt are installed at their first use into environments of their own below benchmarks/.peers; optimum,
onnxruntime and NNCF are what kdc itself works with (`pip install 'kdc[train,nncf]'`). A whole session takes about ten
minutes of a quiet core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import append, exit_codes, origin
from benchmarks.deploy_contenders import THREADS, Contender, Feed, Times, answers, open_kdc, open_peer, take_turns
from benchmarks.deploy_peers import MODEL, PEERS, QUIET, Source
from benchmarks.deploy_student import Cell, Subject, open_subject
from benchmarks.deploy_table import DEPLOY_ROWS, deploy_table
from benchmarks.deploy_verdict import check
from benchmarks.frontier import data_set
from benchmarks.multiply_adds import multiply_adds
from benchmarks.peer_environments import pinned
from compress.artifacts import read_artifact
from compress.bench.limits import measure_limits
from compress.errors import EnvironmentProblem, RecipeError
from compress.export.parity import agreement
from compress.extras import version
from compress.progress import reporter

BATCHES, LENGTHS = (1, 32), (16, 32, 64, 128)
FEEDS = 4
"""Different batches in a cell, gone through in turn."""
ROOF: Cell = (32, 32)
"""Where the time is held against the machine's int8 roof."""
FLOAT = "kdc, float"

Row = dict[str, Any]


@dataclass
class Entry:
    """One artifact on its way to a row.

    role: kdc, peer or reference (float). packages: versions by name. open: makes it and loads it; what it raises is
    told in the row. facts: what else the row tells.
    """

    name: str
    role: str
    packages: dict[str, str | None]
    open: Callable[[], Contender]
    facts: Row = field(default_factory=dict)
    contender: Contender | None = None
    not_run: str | None = None


def entries_of(subject: Subject, source: Source, artifacts: dict[str, Path], peers: Sequence[str]) -> list[Entry]:
    """kdc's artifacts, the float models as references, the peers."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.hub)
    ours = {"onnxruntime": version("onnxruntime")}
    made = [_of_kdc(name, folder) for name, folder in artifacts.items()]
    made.append(Entry(FLOAT, "reference", ours, lambda: open_kdc(subject.folder / "onnx" / "student")))
    packages = {name: version(name) for name in ("optimum-onnx", "onnxruntime")}
    made.append(
        Entry("optimum, float", "reference", packages, lambda: open_peer(source.exported / MODEL, tokenizer, None))
    )
    return [*made, *(_of_peer(name, source, tokenizer) for name in peers)]


def _of_kdc(name: str, folder: Path) -> Entry:
    found = read_artifact(folder)
    metrics = {} if found is None else found.metrics
    runtime = "openvino" if (folder / "model.xml").is_file() else "onnxruntime"
    facts = {"method": metrics.get("method"), "candidates": metrics.get("candidates")}
    return Entry(name, "kdc", {runtime: version(runtime)}, lambda: open_kdc(folder), facts)


def _of_peer(name: str, source: Source, tokenizer: Any) -> Entry:
    peer = PEERS[name]
    versions = {package: pinned(peer.own, package) if peer.own else version(package) for package in peer.packages}

    def make() -> Contender:
        out = source.work / name
        out.mkdir()
        return open_peer(peer.make(source, out), tokenizer, peer.precision)

    return Entry(name, "peer", versions, make)


def prepare(entry: Entry, subject: Subject, cells: Mapping[str, Sequence[Feed]]) -> None:
    """Make and open an artifact, measure its quality, and run each cell once; a failure is its row, not the end."""
    reporter.say(entry.name)
    began = time.monotonic()
    try:
        contender = entry.open()
        entry.facts["seconds"] = round(time.monotonic() - began, 1)
        logits = {split: answers(contender, subject.requests(split)) for split in subject.reference}
        same = agreement(subject.reference["test"], logits["test"])
        for feeds in cells.values():
            contender.call(feeds[0])
    except Exception as error:  # a peer that fails, however, is a row with its error
        entry.not_run = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        reporter.say(f"{entry.name}: not run: {entry.not_run}")
        return
    entry.contender = contender
    entry.facts |= {
        "agreement": same["argmax_agreement"] if "argmax_agreement" in same else same["rank_correlation"],
        "max_logit_difference": same["max_logit_difference"],
        "quality": subject.quality(logits),
        "size_mb": contender.size_bytes / 1e6,
    }


def rows_of(subject: Subject, entries: Sequence[Entry], rounds: int, command: str) -> list[Row]:
    """Measure everything; a row an artifact."""
    cells = {_named(cell): subject.feeds(cell, FEEDS) for cell in cells_of(subject)}
    for entry in entries:
        prepare(entry, subject, cells)
    calls = {entry.name: entry.contender.call for entry in entries if entry.contender is not None}
    reporter.say(f"{len(calls)} artifacts take turns in {len(cells)} cells, {rounds} rounds")
    made = origin(("torch", "transformers"))  # whether others keep the machine busy is asked when timing begins
    times = take_turns(calls, cells, rounds)
    session = {
        "benchmark": "deploy",
        **_about(subject),
        "threads": THREADS,
        "rounds": rounds,
        **made,
        "command": command,
    }
    roof = _roof_of(subject) if _named(ROOF) in cells else None
    return [session | _row(entry, times.get(entry.name, {}), roof) for entry in entries]


def cells_of(subject: Subject) -> list[Cell]:
    """All batches and lengths that the model's positions allow."""
    return [(batch, length) for batch in BATCHES for length in LENGTHS if length <= subject.positions]


def _named(cell: Cell) -> str:
    return f"{cell[0]} × {cell[1]}"


def _about(subject: Subject) -> Row:
    sizes, recipe = subject.shape, subject.recipe
    named = {"recipe": recipe.name, "student": recipe.student.kind}
    metric = subject.judge.metric
    return {
        "run": subject.folder.name,
        "recipe": recipe.name,
        "data": data_set(named),
        "student": f"transformer, {sizes[0]} layers, {sizes[1]} wide",
        "metric": metric,
        "rows": len(subject.test),
        "float_quality": subject.quality(subject.reference),
        "float_mb": (subject.folder / "onnx" / "student" / MODEL).stat().st_size / 1e6,
    }


def _roof_of(subject: Subject) -> Row | None:
    """Milliseconds that the multiply-adds of kdc's float graph take at the int8 roof of one core.

    A multiply-add is two operations. None, with a warning, where the roof cannot be measured: the times stand without.
    """
    work = multiply_adds(subject.folder / "onnx" / "student" / MODEL, subject.feeds(ROOF, 1)[0])
    try:
        limit = next(limit for limit in measure_limits(THREADS) if limit["name"] == "int8 GEMM")
    except EnvironmentProblem as error:
        reporter.warn(str(error))
        return None
    value = limit["value"]
    ms = None if value is None else 2 * work / value / 1e6
    return {"cell": _named(ROOF), "multiply_adds": work, "gop_s": value, "by": limit["by"], "roof_ms": ms}


def _row(entry: Entry, times: Times, roof: Row | None) -> Row:
    facts = dict.fromkeys(
        ("seconds", "agreement", "max_logit_difference", "quality", "size_mb", "method", "candidates")
    )
    cells = {cell: _cell(found) for cell, found in times.items()}
    held = None
    if entry.role == "kdc" and cells and roof is not None and roof["roof_ms"]:
        held = roof | {"times": cells[roof["cell"]]["p50_ms"] / roof["roof_ms"]}
    return {
        "artifact": entry.name,
        "role": entry.role,
        "packages": entry.packages,
        **facts,
        **entry.facts,
        "cells": cells,
        "roof": held,
        "not_run": entry.not_run,
    }


def _cell(rounds_ms: list[float]) -> Row:
    return {
        "p50_ms": statistics.median(rounds_ms),
        "low_ms": min(rounds_ms),
        "high_ms": max(rounds_ms),
        "rounds_ms": [round(one, 5) for one in rounds_ms],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, append, print, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "--artifact", action="append", default=[], metavar="NAME=FOLDER", help="instead of RUN/quantized"
    )
    parser.add_argument("--peer", action="append", choices=PEERS, help="all when absent")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each artifact in each cell")
    parser.add_argument("--rows", type=int, default=1500, help="test rows that agreement and metric are measured on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="data.root=… when data moved")
    parser.add_argument("--try", action="store_true", dest="trial", help="append nothing")
    parser.add_argument("--check", action="store_true", help="hold the targets")
    options = parser.parse_args(arguments)
    with exit_codes("deploy"):
        rows = _session(options)
        if not options.trial:
            append(DEPLOY_ROWS, rows)
        print("\n".join(deploy_table(rows)))
        if options.check:
            check(rows)


def _session(options: argparse.Namespace) -> list[Row]:
    for name in ("rounds", "rows"):
        if getattr(options, name) < 1:
            raise RecipeError(f"--{name} is {getattr(options, name)}, but it takes at least 1; raise it")
    artifacts = dict(map(_artifact, options.artifact)) or {"kdc": options.run / "quantized"}
    os.environ.update(QUIET)
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory(prefix="kdc-deploy-") as temporary, redirect_stdout(sys.stderr):
        work = Path(temporary)
        subject = open_subject(options.run, work, rows=options.rows, overrides=options.set)
        source = Source(subject.hub, subject.calibration, work)
        entries = entries_of(subject, source, artifacts, options.peer or list(PEERS))
        return rows_of(subject, entries, options.rounds, _command(options))


def _artifact(given: str) -> tuple[str, Path]:
    name, separator, folder = given.partition("=")
    if not (name and separator and folder):
        raise RecipeError(f"--artifact {given!r} is not NAME=FOLDER; write it as fast=runs/…/quantized")
    return name, Path(folder)


def _command(options: argparse.Namespace) -> str:
    """The command as somebody else would give it: folders by their last names."""
    parts = [f"python -m benchmarks.deploy runs/{options.run.resolve().name}"]
    for name, folder in map(_artifact, options.artifact):
        parts.append(f"--artifact {name}={'/'.join(folder.resolve().parts[-2:])}")
    parts += [f"--peer {name}" for name in options.peer or []]
    return " ".join([*parts, f"--rounds {options.rounds} --rows {options.rows}"])


if __name__ == "__main__":
    main()

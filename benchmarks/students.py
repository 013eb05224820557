"""The same student trained by peers: what it reaches on test with equal start, rows, teacher's answers and steps.

    python -m benchmarks.students RUN --peer textbrewer|torchdistill|sentence-transformers|model2vec [--seed N]
    python -m benchmarks.students --table

RUN is the folder of a finished run. Its student is built anew and trained by the peer for as many steps as kdc's
took, on the same batches and the same answers of the teacher; checkpoint and threshold are chosen on validation and
the test split is measured as in a run. `benchmarks/peer_trainers.py` says what each peer does. A row is appended to
benchmarks/results/students.jsonl as soon as a peer is done, also when it cannot express the student; `python -m
benchmarks.record` draws them into docs/results.md. With --steps nothing is appended: it is for trying out.

Each peer is installed at its first use into an environment of its own below benchmarks/.peers, with pinned versions,
and this script goes on there; where that or the peer's training fails, the row says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import append, exit_codes, origin, read_rows
from benchmarks.frontier import data_set
from benchmarks.peer_apart import Said
from benchmarks.peer_environments import enter, pinned
from benchmarks.peer_study import Study, open_study
from benchmarks.peer_table import PEER_ROWS, peer_table
from benchmarks.peer_trainers import PEERS, check_torchvision
from benchmarks.record import settings_of, teacher_weights
from compress.distill.stages import encoder_of
from compress.errors import EnvironmentProblem, KdcError, RecipeError
from compress.extras import version
from compress.progress import reporter
from compress.recipe.file import load_recipe

Row = dict[str, Any]


def row_of(study: Study, peer: str, work: Path, command: str, missing: str | None = None) -> Row:
    """Train the student by a peer and measure it; where the peer cannot, or is missing, `not_run` says why."""
    metric = study.run.judge.metric
    found: Row = {"validation": None, "test": None, "quality": None, "minutes": None}
    own = PEERS[peer].package is None
    not_run = PEERS[peer].obstacle(study) or missing
    if not_run is None:
        try:
            found = _trained(study, peer, work)
        except PeerFailed as error:
            not_run = str(error)
    recipe, made = study.run.recipe, origin()
    as_run = load_recipe(study.run.folder / "recipe.yaml").recipe
    ours = {name: (kept.metrics["quality"] or {}).get(metric) for name, kept in study.kept.items()}
    named = {"recipe": recipe.name, "student": recipe.student.kind}
    return {
        "peer": peer,
        "version": pinned(peer, peer) if own or missing else version(peer),
        **named,
        "data": data_set(named),
        "digest": study.run.folder.name.rsplit("-", 1)[-1],
        "settings": settings_of(as_run.dump(), teacher_weights(study.run.folder)),
        "seed": study.seed,
        "steps": None if own else study.steps,
        "metric": metric,
        **found,
        "teacher": ours["teacher"],
        "kdc": ours["student"],
        "control": ours.get("control"),
        "not_run": not_run,
        "threads": torch.get_num_threads(),
        "device": _device(study, made["machine"]),
        "date": made["date"][:10],
        "commit": made["commit"],
        "changed": made["changed"],
        "command": command,
    }


def _device(study: Study, machine: Row) -> str:
    if study.run.device.type == "cuda":
        return torch.cuda.get_device_name(study.run.device)
    return f"{machine['processor']}, {machine['cores']} cores"


class PeerFailed(Exception):
    """What a peer raised, in a sentence."""


def _trained(study: Study, peer: str, work: Path) -> Row:
    metric, start = study.run.judge.metric, time.monotonic()
    if PEERS[peer].package is not None:
        reporter.say(f"{peer}: {study.steps:,} steps of {study.batch_size} rows, {study.epoch_steps:,} an epoch")
    torch.manual_seed(study.seed)
    try:
        made = PEERS[peer].train(study, work)
    except EnvironmentProblem as error:
        raise PeerFailed(str(error)) from error
    except KdcError:
        raise
    except Exception as error:  # whatever a peer raises is the row that tells of it
        raise PeerFailed(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    minutes = (time.monotonic() - start) / 60
    if isinstance(made, Said):
        verdict = study.run.judge.verdict(made.validation, made.test)
    else:
        verdict = study.run.judge.full(made, encoder_of(study.built), study.run.device)
    return {
        "validation": verdict.validation[metric],
        "test": verdict.test[metric],
        "quality": verdict.test,
        "minutes": round(minutes, 2),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, train, record, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--peer", choices=PEERS, help="who trains")
    parser.add_argument("--seed", type=int, help="of start, order and dropout; the recipe's by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="instead of as many as kdc's student took; nothing is appended")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="data.root=… when data moved")
    parser.add_argument("--table", action="store_true", help="print the table of all rows instead")
    options = parser.parse_args(arguments)
    with exit_codes("students"):
        if options.table:
            print("\n".join(peer_table(read_rows(PEER_ROWS))))
            return
        if options.run is None or options.peer is None:
            raise RecipeError("give the folder of a finished run and --peer, or --table alone")
        if options.steps is not None and options.steps < 1:
            raise RecipeError(f"--steps is {options.steps}, but it takes at least 1 step; raise it")
        print(json.dumps(_run(options, arguments)))


def _run(options: argparse.Namespace, arguments: Sequence[str] | None) -> Row:
    inside = PEERS[options.peer].package is not None
    missing = enter(options.peer, "benchmarks.students", arguments) if inside else None
    check_torchvision()
    torch.set_num_threads(options.threads)
    given = [f"python -m benchmarks.students runs/{options.run.resolve().name}", f"--peer {options.peer}"]
    given += [] if options.seed is None else [f"--seed {options.seed}"]
    given += [f"--threads {options.threads}"]
    # What peers print would stand beside the row.
    with tempfile.TemporaryDirectory() as work, redirect_stdout(sys.stderr):
        study = open_study(options.run, Path(work), seed=options.seed, steps=options.steps, overrides=options.set)
        row = row_of(study, options.peer, Path(work), " ".join(given), missing)
    if row["not_run"]:
        reporter.say(f"{options.peer}: not run: {row['not_run']}")
    if options.steps is None:
        append(PEER_ROWS, [row])
    return row


if __name__ == "__main__":
    main()

"""Every benchmark that a figure of the README or of docs/ comes from, one after the other.

    python -m benchmarks all --data PATH [--runs runs] [--only NAME…]
    python -m benchmarks all --list

PATH is the folder of the data sets that recipes name in `data.root`. Each benchmark is a process of its own with the
arguments that its figures were recorded with (benchmarks/plan.py), appends its own rows to benchmarks/results/, and is
one line here: done, not run and why (exit code 4: a device or a run is missing), or failed. What one of them
found stays when another fails or all are stopped: runs go on from where they were, and --only starts the rest. At the
end docs/results.md is drawn. The exit code is that of the first that failed. It all takes days of two cores; `--only
readme`, what the README's own figures come from, takes about an hour.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import ROOT
from benchmarks.plan import README, Command, Place, Task, module, plan
from compress.errors import DataError, EnvironmentProblem, Interrupted, KdcError, RecipeError


def selected(tasks: Sequence[Task], only: Sequence[str]) -> list[Task]:
    """Those whose name or group is asked for; all where none is.

    Raises:
        RecipeError: a name that no benchmark has.
    """
    unknown = set(only) - {name for task in tasks for name in task.known_as}
    if unknown:
        raise RecipeError(f"--only names {', '.join(sorted(unknown))}, which is no benchmark; --list shows them")
    return [task for task in tasks if not only or task.known_as & set(only)]


def check_data(tasks: Sequence[Task], data: Path) -> None:
    """Refuse before hours of work what cannot be read.

    Raises:
        DataError: the folder is not there, or lacks data sets.
    """
    if not data.is_dir():
        raise DataError(f"--data is {data}, which is no folder; give the one that holds the data sets of recipes/")
    needed = sorted(set().union(*(task.data_sets() for task in tasks)))
    missing = [name for name in needed if not (data / name).exists()]
    if missing:
        raise DataError(f"{data} has no {', '.join(missing)}; add what is missing, or leave it out by --only")


def carry_out(task: Task, place: Place) -> tuple[str, int]:
    """Start a benchmark's commands; says what came of it, and its exit code (0 where it was not run)."""
    start = time.monotonic()
    try:
        for command in task.commands(place):
            code, last = _start(command)
            if code == EnvironmentProblem.exit_code:
                return f"not run: {last}", 0
            if code != 0:
                return f"failed with exit code {code}: {last}", code
    except EnvironmentProblem as error:
        return f"not run: {error}", 0
    return f"done in {time.monotonic() - start:,.0f} s", 0


def _start(command: Command) -> tuple[int, str]:
    """Exit code and the last line on stderr, which is passed on."""
    last = "no message"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        for line in process.stderr or ():
            sys.stderr.write(line)
            last = line.strip() or last
    return process.returncode, last


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, then start one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["all"])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the runs")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names or groups of --list, or readme")
    parser.add_argument("--list", action="store_true", help="name all benchmarks, and start none")
    options = parser.parse_args(arguments)
    try:
        sys.exit(_all(options))
    except KdcError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("benchmarks: stopped; what was found is kept, and --only starts the rest", file=sys.stderr)
        sys.exit(Interrupted.exit_code)


def _all(options: argparse.Namespace) -> int:
    tasks = selected(plan(), options.only)
    if options.list:
        for task in tasks:
            print(f"{task.group:15} {task.name:40} {README if task.readme else ''}".rstrip())
        return 0
    if options.data is None:
        raise RecipeError("--data is missing: give the folder of the data sets that recipes name in data.root")
    place = Place(options.data.resolve(), options.runs.resolve())
    check_data(tasks, place.data)
    codes = []
    for task in tasks:
        outcome, code = carry_out(task, place)
        print(f"{task.group:15} {task.name:40} {outcome}", flush=True)
        codes.append(code)
    code, last = _start(module("record"))
    if code != 0:
        print(f"{'record':15} {'docs/results.md':40} failed with exit code {code}: {last}")
    return next((found for found in [*codes, code] if found), 0)


if __name__ == "__main__":
    main()

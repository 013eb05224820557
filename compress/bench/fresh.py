"""Figures that a process of its own must take: what this one has loaded or allocated would be in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

from compress.errors import EnvironmentProblem

TIMEOUT_SECONDS = 120


def run_fresh(
    module: str,
    arguments: Sequence[str],
    what: str,
    *,
    request: str = "",
    environment: Mapping[str, str] | None = None,
    remedy: str = "",
) -> str:
    """Run `python -m module arguments` and return what it prints.

    Args:
        what: what is measured, as the start of a sentence. request: its standard input. remedy: what to do where the
            process ends badly. environment: None for this process's own.

    Raises:
        EnvironmentProblem: it ended badly, for lack of memory for example, or took over two minutes.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command,
            input=request,
            env=environment,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            encoding="utf-8",
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(
            f"{what} took more than {TIMEOUT_SECONDS} s; repeat it on a machine that is less busy"
        ) from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        end = f"; {remedy}" if remedy else ""
        raise EnvironmentProblem(f"{what} failed: its process ended with {done.returncode} ({last}){end}")
    return done.stdout

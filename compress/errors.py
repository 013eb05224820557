"""Every error that a user can cause or meet, each with its exit code.

KdcError
├── RecipeError        2   a recipe or a command line that cannot be meant
├── DataError          3   a file, a column or a row that cannot be used
├── EnvironmentProblem 4   a missing package, device or library, a full disk, a run held by another process
├── GateError          5   quality, latency or size outside what was asked for (artifacts are kept)
├── IntegrityError     6   an artifact that is damaged or not trusted
└── Interrupted      130   stopped by Ctrl-C; the same command goes on from there
    └── Terminated   143   stopped by SIGTERM (a scheduler, `docker stop`, `kill`); likewise

A message is one sentence that gives what was wrong, both values, where (file:line or recipe.key) and what to do.
"""

from __future__ import annotations

from typing import Any


class KdcError(Exception):
    """Base of all errors that are answered with one sentence and no traceback."""

    exit_code = 1


class RecipeError(KdcError):
    """The recipe or the command line cannot be carried out as written."""

    exit_code = 2


class DataError(KdcError):
    """A data file, column or row cannot be used."""

    exit_code = 3


class EnvironmentProblem(KdcError):
    """The machine lacks something: a package, a device, disk space, or the run's lock."""

    exit_code = 4


class GateError(KdcError):
    """A quality, latency or size limit was not met; the artifact is kept and marked failed."""

    exit_code = 5
    summary: dict[str, Any] | None = None


class IntegrityError(KdcError):
    """An artifact is damaged, or is not what its manifest says."""

    exit_code = 6


class Interrupted(KdcError):
    """Stopped on request; state on disk is safe and the same command continues."""

    exit_code = 130


class Terminated(Interrupted):
    """Stopped by SIGTERM; 128 + 15 is what shells and schedulers take for that."""

    exit_code = 143

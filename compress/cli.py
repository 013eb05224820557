"""`kdc`: the command line. Commands live in `compress.commands`; errors become exit codes here only."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from compress import __version__
from compress.artifacts import is_disk_full
from compress.commands import bench, cache, models, registry, retrieval, runs, serve, start
from compress.commands.output import output
from compress.errors import EnvironmentProblem, Interrupted, KdcError, RecipeError, Terminated
from compress.parallel import is_first
from compress.progress import reporter

SAFE = "state is safe: the same command goes on from here"
BUG = "this is a bug of kdc; please report it with the lines above and the command that you gave"


class Termination(KeyboardInterrupt):
    """SIGTERM on its way up, past all that tidies up after Ctrl-C."""


def _terminate(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)  # who asks again does not want to wait
    raise Termination


class Commands(TyperGroup):
    """The group of all commands; turns what they raise into a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        output.begin()
        try:
            return super().invoke(ctx)
        except KdcError as error:
            _tell(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            by_signal = isinstance(error, Termination)
            state = "; ".join(getattr(error, "__notes__", [])) or SAFE
            stopped = Terminated(f"ended by SIGTERM; {state}") if by_signal else Interrupted(f"interrupted; {state}")
            _tell(stopped)
            raise typer.Exit(stopped.exit_code) from error
        except BrokenPipeError as error:
            # The reader left: what it read is complete. Python must not flush into the closed pipe at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from error
        except OSError as error:
            problem = _problem(error)
            if problem is None:
                raise
            _tell(problem)
            raise typer.Exit(problem.exit_code) from error


def _problem(error: OSError) -> KdcError | None:
    """What a person can mend of an error of the operating system, or None."""
    where = error.filename or "a file"
    if is_disk_full(error):
        return EnvironmentProblem(f"the disk is full: {where} could not be written; free some space and try again")
    if isinstance(error, PermissionError):
        return EnvironmentProblem(f"no permission for {where}; name another path, or change its owner or mode")
    if error.errno == errno.EROFS:
        return EnvironmentProblem(f"{where} lies on a file system that cannot be written to; name another path")
    if error.errno == errno.ENAMETOOLONG:
        return RecipeError(f"the name {where} is longer than its file system allows; give a shorter one")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return RecipeError(f"{where} is a file, or lies below one, but a folder is needed; name another path")
    return None


def _tell(error: KdcError) -> None:
    """One sentence on stderr; the result or the error as JSON on stdout where JSON was asked for."""
    if output.json and not output.printed and is_first():
        summary = getattr(error, "summary", None)
        output.object(summary or {"error": str(error), "exit_code": error.exit_code})
    reporter.console.print(f"kdc: {error}", style="bold red", highlight=False, markup=False, soft_wrap=True)


app = typer.Typer(
    cls=Commands,
    help="Distil a trained model into a small student, quantize it, measure it, ship it as one bundle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
start.register(app)
runs.register(app)
bench.register(app)
models.register(app)
cache.register(app)
retrieval.register(app)
registry.register(app)
serve.register(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"kdc {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Version.")] = False,
) -> None:
    """Distil a trained model into a small student, quantize it, measure it, ship it as one bundle.

    Exit codes: 0 done, 1 a bug of kdc, 2 usage or recipe, 3 data, 4 environment, 5 a gate not met,
    6 damaged or not trusted, 130 interrupted, 143 ended by SIGTERM.
    """


def main() -> None:
    """Entry point of the `kdc` script; with --json there is one object on stdout, whatever happens."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except SystemExit as end:
        if end.code:  # Typer has told on stderr what is wrong with the options
            _object_of("the command line cannot be meant; stderr says why", int(end.code))
        raise
    except Exception as error:
        traceback.print_exc()
        sys.stderr.write(BUG + "\n")
        _object_of(f"{BUG}: {error!r}", 1)
        sys.exit(1)


def _object_of(error: str, code: int) -> None:
    # Options that could not be parsed have not set output.json.
    if "--json" in sys.argv and not output.printed and is_first():
        output.object({"error": error, "exit_code": code})

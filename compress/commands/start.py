"""Commands before any work: init, check, schema, doctor."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from compress.commands import options
from compress.commands.output import output, results_only
from compress.errors import RecipeError


class TaskKind(StrEnum):
    """Kinds of task that `init` has a starter for."""

    classification = "classification"
    pairs = "pairs"
    ranking = "ranking"
    regression = "regression"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (init, check, schema, doctor):
        app.command()(command)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make or fill.", show_default=False)],
    task: Annotated[TaskKind, typer.Option("--task", help="What an answer is.")] = TaskKind.classification,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a commented starter recipe and a little example data."""
    from compress.commands.templates import write_starter

    output.configure(json=json, verbose=verbose, quiet=quiet)
    written = write_starter(folder, task.value)
    if json:
        output.object({"written": [str(path) for path in written]})
        return
    for path in written:
        typer.echo(path)
    typer.echo(f"next: kdc check {folder / 'recipe.yaml'}")


def check(
    recipe: options.RecipePath,
    overrides: options.Overrides = None,
    runs: options.Runs = options.RUNS,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Validate recipe, data and environment, and print the plan; does no work."""
    from compress.recipe.file import load_recipe

    output.configure(json=json, verbose=verbose, quiet=quiet)
    loaded = load_recipe(recipe, overrides or [])
    from compress.check import plan

    with results_only():
        planned = plan(loaded, runs)
    if json:
        output.object(planned)
        return
    from compress.summary_table import print_plan

    print_plan(planned)


def schema(json: options.Json = False, verbose: options.Verbose = False, quiet: options.Quiet = False) -> None:
    """Print the JSON Schema of the recipe, for editors."""
    from compress.recipe import Recipe

    output.configure(json=json, verbose=verbose, quiet=quiet)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    output.object(head | Recipe.model_json_schema())


def doctor(
    limits: Annotated[
        bool, typer.Option("--limits", help="Measure the machine's roofs too: matrix products and memory, in seconds.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Threads that --limits measures with; 1 when absent.")
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Each runtime and device: available, version, or the one command that makes it so."""
    from compress.doctor import diagnose

    output.configure(json=json, verbose=verbose, quiet=quiet)
    if threads is not None and not limits:
        raise RecipeError("--threads has no effect without --limits; add --limits or leave it out")
    found = diagnose()
    if limits:
        from compress.bench.limits import measure_limits

        found["limits"] = {"threads": threads or 1, "roofs": measure_limits(threads or 1)}
    if json:
        output.object(found)
        return
    from compress.tables import print_diagnosis

    print_diagnosis(found)

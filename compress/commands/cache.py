"""`kdc cache`: the teachers' outputs that the runs of a folder share."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from compress.commands import options
from compress.commands.output import output
from compress.errors import RecipeError


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="What teachers have said, kept for all runs: list it, remove it.", no_args_is_help=True)
    for command in (ls, rm):
        group.command()(command)
    app.add_typer(group, name="cache")


def ls(
    runs: options.Runs = options.RUNS,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Each entry: key, teacher, rows, layers, size, when a run last took it, and the runs that use it."""
    from compress.housekeeping import entries_of, kept

    output.configure(json=json, verbose=verbose, quiet=quiet)
    found = kept(runs)
    if json:
        total = sum(entry.size_bytes for entry in found)
        entries = [dataclasses.asdict(entry) for entry in found]
        output.object({"cache": str(entries_of(runs)), "size_bytes": total, "entries": entries})
        return
    if not found:
        typer.echo(f"no teacher's outputs are kept in {entries_of(runs)}")
        return
    from compress.tables import print_cache

    print_cache([dataclasses.asdict(entry) for entry in found])


def rm(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Keys, or how they begin.", show_default=False)
    ] = None,
    unused: Annotated[bool, typer.Option("--unused", help="All that no run uses.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All; runs keep their own outputs.")] = False,
    runs: options.Runs = options.RUNS,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove entries; arrays that a finished run still has take their room on until the run is deleted, too."""
    from compress.housekeeping import forget

    output.configure(json=json, verbose=verbose, quiet=quiet)
    if sum([bool(keys), unused, every]) != 1:
        raise RecipeError("kdc cache rm takes either keys (kdc cache ls shows them), or --unused, or --all")
    removed, freed = forget(runs, keys or [], unused=unused, every=every)
    if json:
        output.object({"removed": [entry.key for entry in removed], "freed_bytes": freed})
        return
    for entry in removed:
        typer.echo(f"removed {entry.key}")
    typer.echo(f"{len(removed)} removed, {freed:,} bytes free")

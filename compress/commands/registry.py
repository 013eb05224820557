"""Commands that hand bundles on: keys that vouch for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compress.commands import options
from compress.commands.output import output


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (keygen,):
        app.command()(command)


def keygen(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="NAME", help="Writes NAME.key and NAME.pub.")],
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a pair of Ed25519 keys: NAME.key signs bundles and stays with you, NAME.pub lets others check them."""
    from compress.bundle.sign import make_keys

    output.configure(json=json, verbose=verbose, quiet=quiet)
    _print(make_keys(out))


def _print(facts: dict[str, Any]) -> None:
    if output.json:
        output.object(facts)
        return
    from compress.summary_table import print_facts

    print_facts(facts)

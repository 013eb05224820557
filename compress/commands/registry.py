"""Commands that hand bundles on: keys that vouch for them, and registries that keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compress.commands import options
from compress.commands.output import output

Registry = Annotated[Path, typer.Argument(metavar="REGISTRY", help="Folder that keeps bundles.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a bundle.", show_default=False)]
Moved = Annotated[str, typer.Option("--tag", metavar="TAG", help="The tag that moves.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (keygen, push, pull, promote, rollback, versions):
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


def push(
    bundle: options.BundleFile,
    registry: Registry,
    tag: Moved = "candidate",
    key: options.PublicKey = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Check a bundle, keep it in a registry (made where there is none), and let a tag point to it."""
    from compress.bundle import registry as registries

    output.configure(json=json, verbose=verbose, quiet=quiet)
    _print(registries.push(bundle, registry, tag=tag, key=key))


def pull(
    registry: Registry,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME[@TAG|VERSION]", help="The bundle; @production when absent.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="NAME.kdc to write.", show_default=False)],
    key: options.PublicKey = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Check a bundle of a registry, and copy it."""
    from compress.bundle import registry as registries

    output.configure(json=json, verbose=verbose, quiet=quiet)
    _print(registries.pull(registry, name, out, key=key))


def promote(
    registry: Registry,
    name: Name,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its first digits, or a tag.", show_default=False)],
    tag: Moved = "production",
    key: options.PublicKey = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Check a version, and let a tag point to it."""
    from compress.bundle import registry as registries

    output.configure(json=json, verbose=verbose, quiet=quiet)
    _print(registries.promote(registry, name, version, tag=tag, key=key))


def rollback(
    registry: Registry,
    name: Name,
    tag: Moved = "production",
    key: options.PublicKey = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Check the version that a tag pointed to before, and let it point there again."""
    from compress.bundle import registry as registries

    output.configure(json=json, verbose=verbose, quiet=quiet)
    _print(registries.rollback(registry, name, tag=tag, key=key))


def versions(
    registry: Registry,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One name; all when absent.")] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """What a registry keeps: versions of each name, the newest first, and which tags point to them."""
    from compress.bundle.registry import SHOWN, listed

    output.configure(json=json, verbose=verbose, quiet=quiet)
    found = listed(registry, name)
    if json:
        output.object({"registry": str(registry), "names": found})
        return
    for each in found:
        for version, about in each["versions"].items():
            tags = [tag for tag, target in each["tags"].items() if target == version]
            signed = "not signed" if about["signed_by"] is None else f"signed by {about['signed_by'][:SHOWN]}"
            facts = f"{about['pushed']}  {about['size_bytes']:>13,} bytes  {signed}  {', '.join(tags)}"
            typer.echo(f"{each['name']}@{version[:SHOWN]}  {facts}".rstrip())


def _print(facts: dict[str, Any]) -> None:
    if output.json:
        output.object(facts)
        return
    from compress.tables import print_facts

    print_facts(facts)

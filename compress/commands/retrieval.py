"""Commands of students that read two texts apart: embed items once, search them by query."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.artifacts import Runtime
from compress.commands import options
from compress.commands.output import output
from compress.commands.reading import requests_of
from compress.errors import RecipeError

if TYPE_CHECKING:
    from compress.runtime.bundle import Manifest

BATCH = 32
RUNTIME: Runtime = "onnxruntime"
"""Of a bundle's models the one that runs everywhere: vectors of two models do not compare."""
ENDING = ".npz"
"""Of files of items: any other file or folder that is named by mistake stays as it is."""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (embed, search):
        app.command()(command)


def embed(  # noqa: PLR0913, PLR0917  # one parameter an option
    bundle: options.BundleFile,
    file: options.Requests = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="NPZ", help="Where to put the vectors.")] = Path(
        "items.npz"
    ),
    format: options.RequestFormat = None,
    text: options.TextColumn = None,
    id: options.IdColumn = None,
    threads: options.Threads = 1,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Embed items once with a two-tower bundle, for `kdc search`: vectors, ids and the model's digest in one .npz."""
    from compress.runtime.bundle import open_bundle
    from compress.runtime.items import embed_items

    output.configure(json=json, verbose=verbose, quiet=quiet)
    if out.suffix != ENDING or out.is_dir():
        raise RecipeError(
            f"-o {out} is not the name of a file that ends in {ENDING}; name one, for example items{ENDING}"
        )
    opened = open_bundle(bundle)
    requests = requests_of(file, format, {"text": text, "id": id}, joined=_columns(opened.manifest, "text_pair"))
    predictor = opened.predictor(threads=threads, runtime=RUNTIME)
    items = embed_items(predictor, requests, opened.manifest.digest, BATCH)
    items.save(out)
    found = {"items": len(items.ids), "numbers": items.vectors.shape[1], "path": str(out)}
    if json:
        output.object(found)
    else:
        typer.echo(f"{found['items']:,} items, {found['numbers']} numbers each: {out}")


def search(  # noqa: PLR0913, PLR0917  # one parameter an option
    bundle: options.BundleFile,
    items: Annotated[Path, typer.Argument(metavar="NPZ", help="What `kdc embed` wrote.", show_default=False)],
    file: options.Requests = None,
    top: Annotated[int, typer.Option(min=1, help="Items for each query.")] = 10,
    format: options.RequestFormat = None,
    text: options.TextColumn = None,
    id: options.IdColumn = None,
    threads: options.Threads = 1,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer each query with the items that suit it best, as JSON lines: {"id": …, "items": [{"id", "score"}, …]}."""
    from compress.runtime.bundle import open_bundle
    from compress.runtime.items import best_items, load_items
    from compress.runtime.requests import batches

    output.configure(verbose=verbose, quiet=quiet)
    opened = open_bundle(bundle)
    predictor = opened.predictor(threads=threads, runtime=RUNTIME)
    loaded = load_items(items, model=opened.manifest.digest)
    requests = requests_of(file, format, {"text": text, "id": id}, joined=_columns(opened.manifest, "text"))
    for batch in batches(requests, BATCH):
        for answer in best_items(predictor, loaded, batch, top):
            sys.stdout.write(jsonlib.dumps(answer, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def _columns(manifest: Manifest, field: str) -> dict[str, Sequence[str]]:
    """Columns that training joined into the first or the second text, as those of the one text read here."""
    return {"text": manifest.columns[field]} if field in manifest.columns else {}

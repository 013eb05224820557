"""Commands of students that read two texts apart: embed items once, search them by query."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.commands import options
from compress.commands.models import Format
from compress.commands.output import output
from compress.errors import RecipeError

if TYPE_CHECKING:
    from compress.runtime.predictor import Request

BATCH = 32
ENDING = ".npz"
"""Of files of items: any other file or folder that is named by mistake stays as it is."""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (embed, search):
        app.command()(command)


Requests = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Texts; stdin when absent or -.")]
BundleFile = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .kdc file, packed or not.", show_default=False)]
TextColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column or key of the text.")]
IdColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="… of the identifier.")]
FormatOption = Annotated[Format | None, typer.Option(help="Of the texts; detected when absent.")]


def embed(  # noqa: PLR0913, PLR0917  # one parameter an option
    bundle: BundleFile,
    file: Requests = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="NPZ", help="Where to put the vectors.")] = Path(
        "items.npz"
    ),
    format: FormatOption = None,
    text: TextColumn = None,
    id: IdColumn = None,
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
    requests = _read(file, format, text, id, opened.manifest.columns.get("text_pair"))
    items = embed_items(opened.predictor(threads=threads), requests, opened.manifest.digest, BATCH)
    items.save(out)
    found = {"items": len(items.ids), "numbers": items.vectors.shape[1], "path": str(out)}
    if json:
        output.object(found)
    else:
        typer.echo(f"{found['items']:,} items, {found['numbers']} numbers each: {out}")


def search(  # noqa: PLR0913, PLR0917  # one parameter an option
    bundle: BundleFile,
    items: Annotated[Path, typer.Argument(metavar="NPZ", help="What `kdc embed` wrote.", show_default=False)],
    file: Requests = None,
    top: Annotated[int, typer.Option(min=1, help="Items for each query.")] = 10,
    format: FormatOption = None,
    text: TextColumn = None,
    id: IdColumn = None,
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
    predictor = opened.predictor(threads=threads)
    loaded = load_items(items, model=opened.manifest.digest)
    requests = _read(file, format, text, id, opened.manifest.columns.get("text"))
    for batch in batches(requests, BATCH):
        for answer in best_items(predictor, loaded, batch, top):
            sys.stdout.write(jsonlib.dumps(answer, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def _read(
    file: Path | None, format: Format | None, text: str | None, id: str | None, joined: Sequence[str] | None
) -> Iterator[Request]:
    """Requests of one text; `joined` are the columns that training joined into it."""
    from compress.runtime.fields import Fields
    from compress.runtime.requests import read_requests

    named = {"text": text, "id": id}
    fields = Fields(
        named={role: column for role, column in named.items() if column is not None},
        joined={"text": joined} if joined else {},
    )
    return read_requests(
        sys.stdin.buffer if file is None or str(file) == "-" else file,
        format=None if format is None else format.value,
        fields=fields,
    )

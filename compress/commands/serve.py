"""`kdc serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from compress.commands import options
from compress.commands.output import output


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(serve)


def serve(  # noqa: PLR0913, PLR0917  # one parameter an option
    bundle: options.BundleFile,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes, each with the model.")] = 1,
    threads: options.Threads = 1,
    runtime: options.RuntimeOption = options.RuntimeName.auto,
    cached_texts: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Texts whose tokens a worker keeps for when they come again.")
    ] = 2048,
    max_batch: Annotated[int, typer.Option(min=1, max=4096, help="Texts in one call of the model.")] = 32,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, max=1000, help="While idle, wait so long for a fuller batch.")
    ] = 0.0,
    queue: Annotated[int, typer.Option(min=1, help="Texts that may wait in a worker; beyond: 429.")] = 1024,
    max_rows: Annotated[int, typer.Option(min=1, help="Texts in one request; beyond: 422.")] = 256,
    max_bytes: Annotated[int, typer.Option(min=1024, help="Bytes of one request; beyond: 413.")] = 1 << 20,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, help="Seconds to read a request (408), and to answer it (504).")
    ] = 10.0,
    quiet: options.Quiet = False,
) -> None:
    """Answer over HTTP: predict, rank, metrics, /docs. SIGHUP takes a new bundle, SIGTERM ends in order."""
    from compress.serve.settings import Settings
    from compress.serve.supervisor import serve as run

    output.configure(quiet=quiet)
    settings = Settings(
        workers=workers,
        threads=threads,
        max_batch=max_batch,
        max_wait=max_wait_ms / 1000,
        queue=queue,
        max_rows=max_rows,
        max_bytes=max_bytes,
        timeout=timeout,
        runtime=runtime.value,
        cached_texts=cached_texts,
    )
    run(bundle, host, port, settings, quiet=quiet)

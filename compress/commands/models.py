"""Commands on finished models: predict, verify, inspect."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from compress.commands import options
from compress.commands.output import output, results_only
from compress.commands.reading import requests_of
from compress.errors import RecipeError
from compress.progress import reporter


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (predict, verify, inspect):
        app.command()(command)


def predict(  # noqa: PLR0913, PLR0917  # one parameter an option
    bundle: options.BundleFile,
    file: options.Requests = None,
    format: options.RequestFormat = None,
    text: options.TextColumn = None,
    text_pair: Annotated[str | None, typer.Option(metavar="COLUMN", help="… of the second text.")] = None,
    id: options.IdColumn = None,
    threads: options.Threads = 1,
    batch_size: Annotated[
        int, typer.Option(min=1, max=4096, help="Requests in a batch; 1 answers each line at once.")
    ] = 32,
    top: Annotated[
        int | None, typer.Option(min=1, help="Items for a request without a second text; 10 when absent.")
    ] = None,
    runtime: options.RuntimeOption = options.RuntimeName.auto,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer JSON lines or CSV (file or stdin) with JSON lines: label, score, probabilities; or a score alone.

    Of a bundle that brings items along, a request without a second text is answered with those that suit it best.
    """
    from compress.commands.answering import Answering
    from compress.runtime.bundle import open_bundle
    from compress.runtime.requests import batches

    output.configure(verbose=verbose, quiet=quiet)
    opened = open_bundle(bundle)
    answering = Answering.of(opened, runtime.value, threads, top)
    if opened.manifest.variants:
        reporter.say(f"  answering with {answering.predictor.runtime}")
    two_texts = answering.predictor.spec.two_texts
    if text_pair is not None and not two_texts:
        raise RecipeError(f"--text-pair has no effect: {bundle} reads one text; leave it out")
    named = {"text": text, "text_pair": text_pair, "id": id}
    pairs = two_texts and answering.items is None
    requests = requests_of(file, format, named, joined=opened.manifest.columns, pairs=pairs)
    for batch in batches(requests, batch_size):
        for answer in answering.answers(batch, batch_size):
            sys.stdout.write(jsonlib.dumps(answer, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="NAME.kdc", help="A bundle.", show_default=False)],
    key: options.PublicKey = None,
    certificate: Annotated[
        bool, typer.Option("--certificate", help="Show what it lost against its parent and teacher, by slice.")
    ] = False,
    runtime: options.RuntimeOption = options.RuntimeName.auto,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Check every hash, the signature where --key is given, and that the golden requests are answered as recorded."""
    from compress.bundle.verify import verify_bundle

    output.configure(json=json, verbose=verbose, quiet=quiet)
    with results_only():
        report = verify_bundle(bundle, key=key, certificate=certificate, runtime=runtime.value)
    if json:
        output.object(report)
        return
    from compress.commands.certificate import print_certificate
    from compress.tables import print_facts

    print_facts({key: value for key, value in report.items() if key != "certificate"})
    if certificate:
        print_certificate(report["certificate"])


def inspect(
    path: Annotated[Path, typer.Argument(metavar="ANY", help="A run, artifact, bundle, model or recipe.")],
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """What a file or folder is: kind, sizes, hashes, metrics, where it came from."""
    from compress.recipe.file import is_recipe, load_recipe

    output.configure(json=json, verbose=verbose, quiet=quiet)
    if is_recipe(path):
        loaded = load_recipe(path)
        found = {
            "kind": "recipe",
            "path": str(path),
            "digest": loaded.recipe.digest,
            "recipe": loaded.recipe.dump(),
        }
    else:
        from compress.paths import inspect_path

        with results_only():
            found = inspect_path(path)
    if json:
        output.object(found)
        return
    from compress.tables import print_facts

    print_facts(found)

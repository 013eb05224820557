"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a key of the recipe; repeatable.", show_default=False),
]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder that holds the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but warnings and errors.")]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="PATH", help="Where to write.", show_default=False)]
Threads = Annotated[int, typer.Option("--threads", min=1, max=256, help="Threads of the runtime.")]

PublicKey = Annotated[
    Path | None,
    typer.Option("--key", metavar="PUB", help="Public key (PEM) whose owner must have signed it.", show_default=False),
]


class RuntimeName(StrEnum):
    """Which model of a bundle."""

    auto = "auto"
    onnxruntime = "onnxruntime"
    openvino = "openvino"


class Format(StrEnum):
    """Formats of requests."""

    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"


BundleFile = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A .kdc file, packed or not.", show_default=False)]
Requests = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Requests; stdin when absent or -.")]
RequestFormat = Annotated[Format | None, typer.Option("--format", help="Of the requests; detected when absent.")]
TextColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column or key of the text.")]
IdColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="… of the identifier.")]

RuntimeOption = Annotated[
    RuntimeName, typer.Option("--runtime", help="Which of the bundle's models; auto takes what suits this machine.")
]

RUNS = Path("runs")

"""Commands that run a recipe, whole or up to a stage; the artifact commands also take paths instead."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compress.artifacts import MANIFEST, SPEC, publishing
from compress.commands import options
from compress.commands.output import output, results_only
from compress.errors import GateError, RecipeError
from compress.parallel import processes

if TYPE_CHECKING:
    from compress.recipe import LoadedRecipe

RecipeOrModel = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE|MODEL", help="A recipe, or a student directory or any .onnx file.", show_default=False
    ),
]

WEB_CACHE = Path(".cache") / "web"
"""Below a folder of runs: what npm fetched for sites."""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (run, teach, distill, quantize, export, package):
        app.command()(command)


def run(
    recipe: options.RecipePath,
    overrides: options.Overrides = None,
    runs: options.Runs = options.RUNS,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Every stage in order; finished stages are reused; ends with the summary table."""
    output.configure(json=json, verbose=verbose, quiet=quiet)
    run_until(recipe, overrides, runs, None)


def teach(
    recipe: options.RecipePath,
    overrides: options.Overrides = None,
    runs: options.Runs = options.RUNS,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """The run up to and including the trained teacher."""
    output.configure(json=json, verbose=verbose, quiet=quiet)
    run_until(recipe, overrides, runs, "teach")


def distill(  # noqa: PLR0913, PLR0917  # one parameter an option
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="[RECIPE]", help="A recipe; or give --teacher, --train, --student, -o."),
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Trained teacher: directory, hub id or package:NAME.")] = None,
    train: Annotated[str | None, typer.Option(metavar="FILE", help="Labelled rows.")] = None,
    student: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="transformer:layers=3, mobile:width=128,blocks=4, static:width=256 …"),
    ] = None,
    out: options.Out = None,
    task: Annotated[
        str | None, typer.Option(help="classification (when absent), pairs, ranking or regression.")
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the text; `text` when absent.")] = None,
    text_pair: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the second text.")] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of the label; `label` when absent.")
    ] = None,
    unlabeled: Annotated[str | None, typer.Option(metavar="FILE", help="More rows, without labels.")] = None,
    overrides: options.Overrides = None,
    runs: options.Runs = options.RUNS,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """The run up to and including the student; or, without a recipe, from a teacher and a file."""
    output.configure(json=json, verbose=verbose, quiet=quiet)
    if recipe is not None:
        given = {"--teacher": teacher, "--train": train, "--student": student, "-o": out, "--task": task}
        columns = {"--text": text, "--text-pair": text_pair, "--label": label}
        refuse(given | columns | {"--unlabeled": unlabeled}, "a recipe")
        run_until(recipe, overrides, runs, "distill")
        return
    if teacher is None or train is None or student is None or out is None:
        raise RecipeError("kdc distill needs a recipe, or all of --teacher, --train, --student and -o")
    from compress.recipe.file import recipe_from_paths

    loaded = recipe_from_paths(
        teacher=teacher,
        train=train,
        student=student,
        task=task or "classification",
        columns={"text": text or "text", "text_pair": text_pair, "label": label or "label"},
        unlabeled=unlabeled,
        overrides=overrides or [],
    )
    _distill_to(loaded, out, runs)


def quantize(
    model: RecipeOrModel,
    out: options.Out = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Requests that set ranges, and show what quantization changes.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="dynamic, static, openvino-int8 …, auto for the fastest; by the model's kind when absent."),
    ] = None,
    overrides: options.Overrides = None,
    runs: options.Runs = options.RUNS,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """The run up to and including int8; or a student directory or .onnx (--set quantize.key=value for its options)."""
    output.configure(json=json, verbose=verbose, quiet=quiet)
    from compress.recipe.file import is_recipe

    if is_recipe(model):
        refuse({"-o": out, "--calibration": calibration, "--method": method}, "a recipe")
        run_until(model, overrides, runs, "quantize")
        return
    target = _needed(out, "-o PATH")
    from compress.paths import quantize_path

    try:
        with results_only():
            made = quantize_path(model, target, calibration=calibration, method=method, changes=overrides or [])
    except GateError as error:
        _print_facts(error.summary or {})
        raise
    _print_facts(made)


def export(  # noqa: PLR0913, PLR0917  # one parameter an option
    model: RecipeOrModel,
    to: Annotated[list[str] | None, typer.Option("--to", help="onnx, tensorrt, tensorrt-rtx; repeatable.")] = None,
    gpu: Annotated[list[str] | None, typer.Option("--gpu", help="Compute capability such as sm89; repeatable.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Of engines: fp32, fp16, bf16, int8, int8-fp16, fp8, fp8-fp16 or int4; fp16 when absent."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Requests that set the ranges of int8 and fp8 engines.")
    ] = None,
    max_batch: Annotated[int | None, typer.Option(help="Largest batch of engines; 64 when absent.")] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Longest input of engines in tokens; the model's own when absent.")
    ] = None,
    out: options.Out = None,
    overrides: options.Overrides = None,
    runs: options.Runs = options.RUNS,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """The run up to and including the exports; or a student directory or .onnx to other formats."""
    output.configure(json=json, verbose=verbose, quiet=quiet)
    from compress.recipe.file import is_recipe

    if is_recipe(model):
        engines = {"--precision": precision, "--calibration": calibration}
        profile = {"--max-batch": max_batch, "--max-length": max_length}
        refuse({"-o": out, "--to": to, "--gpu": gpu} | engines | profile, "a recipe")
        run_until(model, overrides, runs, "export")
        return
    refuse({"--set": overrides}, "a model")
    target = _needed(out, "-o DIR")
    from compress.paths import export_path

    with results_only():
        made = export_path(
            model,
            target,
            to=to or ["onnx"],
            gpus=gpu or [],
            precision=precision or "fp16",
            max_batch=max_batch,
            max_length=max_length,
            calibration=calibration,
            runs=runs,
        )
    _print_facts(made)


def package(  # noqa: PLR0913, PLR0917  # one parameter an option
    artifact: RecipeOrModel,
    out: options.Out = None,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign with this private key (kdc keygen makes one).", show_default=False),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Write a bundle (or a run's) for: web, triton-server, kubernetes or docker."),
    ] = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Candidates that the site offers (text in JSON lines or CSV); else the bundle's items."
        ),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Items that the bundle ranks; JSON lines or CSV with id and text."),
    ] = None,
    license: Annotated[
        list[str] | None,
        typer.Option(metavar="WHOSE=FILE", help="Licence of the teacher or of the data (WHOSE); repeatable."),
    ] = None,
    overrides: options.Overrides = None,
    runs: options.Runs = options.RUNS,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """The run up to and including the bundle; an exported model to NAME.kdc; or a bundle to what else runs it."""
    output.configure(json=json, verbose=verbose, quiet=quiet)
    from compress.recipe.file import is_recipe

    if is_recipe(artifact):
        refuse({"-o": out, "--target": target}, "a recipe (give its run's folder or bundle)")
        refuse({"--items": items, "--license": license}, "a recipe, which has bundle.items and bundle.licenses")
        run_until(artifact, overrides, runs, "package", sign)
        return
    if target is not None:
        given = {"--sign": sign, "--items": items, "--license": license, "--set": overrides}
        refuse(given, "--target, which changes no bundle")
        from compress.paths import package_target

        with results_only():
            made = package_target(artifact, target, _needed(out, "-o DIR"), catalogue=catalogue, cache=runs / WEB_CACHE)
        _print_facts(made)
        return
    refuse({"--catalogue": catalogue}, "anything but --target web")
    refuse({"--set": overrides}, "an artifact")
    file = _needed(out, "-o NAME.kdc")
    from compress.paths import package_path

    with results_only():
        made = package_path(artifact, file, sign=sign, items=items, licenses=license or ())
    _print_facts(made)


def run_until(
    recipe: Path, overrides: Sequence[str] | None, runs: Path, until: str | None, sign: Path | None = None
) -> None:
    """A recipe up to a stage, or to its end; prints the summary. sign: a private key for the bundle."""
    from compress.recipe.file import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from compress.pipeline import run as run_recipe

    try:
        with results_only():
            summary = run_recipe(loaded, runs=runs, until=until, sign=sign)
    except GateError as error:
        _print_summary(getattr(error, "summary", None))
        raise
    _print_summary(summary)


def _distill_to(loaded: LoadedRecipe, out: Path, runs: Path) -> None:
    if processes() > 1:
        raise RecipeError(f"{processes()} processes share a recipe, not paths: write one with `kdc init`, and run it")
    if out.exists() and not (out / SPEC).is_file():
        raise RecipeError(f"-o {out} is there already and is no student directory; name a new one")
    if (out / MANIFEST).exists():
        raise RecipeError(f"-o {out} belongs to a run, whose stages only `kdc run` writes; name another folder")
    from compress.pipeline import run as run_recipe

    with results_only():
        summary = run_recipe(loaded, runs=runs, until="distill")
    with publishing(out) as temporary:
        shutil.copytree(Path(summary["run"]) / "student", temporary, ignore=shutil.ignore_patterns(MANIFEST))
    if not output.json:
        typer.echo(f"student: {out}")
    _print_summary({"student": str(out)} | summary)


def _print_summary(summary: dict[str, Any] | None) -> None:
    if not summary:  # none, or a process that only helped the first
        return
    if output.json:
        output.object(summary)
        return
    from compress.summary_table import print_summary

    print_summary(summary)


def _print_facts(facts: dict[str, Any]) -> None:
    if output.json:
        output.object(facts)
        return
    from compress.summary_table import print_candidates, print_guard
    from compress.tables import print_facts

    print_facts({key: value for key, value in facts.items() if key not in ("guard", "candidates")})
    print_candidates(facts.get("candidates") or [])
    print_guard(facts.get("guard"))


def _needed(out: Path | None, option: str) -> Path:
    if out is None:
        raise RecipeError(f"{option} is missing: say where the result shall go")
    return out


def refuse(options_given: dict[str, Any], what: str) -> None:
    """Options that would do nothing are refused, so that nobody believes they did something."""
    given = [name for name, value in options_given.items() if value]
    if given:
        have, it = ("has", "it") if len(given) == 1 else ("have", "them")
        raise RecipeError(f"{', '.join(given)} {have} no effect together with {what}; leave {it} out")

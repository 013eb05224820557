"""`kdc quantize`, `kdc export` and `kdc package` on models instead of a recipe."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter

from compress.artifacts import ONNX, SPEC, TOKENIZER, publishing, read_spec
from compress.bench.bare import answers_text
from compress.bundle.access import check_access
from compress.bundle.write import write_bundle
from compress.errors import DataError, GateError, RecipeError
from compress.export.graph import Graph, read_graph
from compress.paths.checkpoints import exported_checkpoint
from compress.paths.engines import engine_sections, engines_of_folder
from compress.paths.locate import (
    RUN_MODELS,
    SUMMARY,
    Kind,
    external_weights,
    kind_of,
    model_folder,
    narrowed,
    read_object,
    refuse_target,
    speaking_of,
    verified,
)
from compress.progress import reporter
from compress.quantize.guard import Guarded
from compress.quantize.methods import METHODS, Work
from compress.recipe import Data, Quantize, Recipe, Student
from compress.recipe.file import quantize_section
from compress.runtime.bundle import SUFFIX
from compress.runtime.fields import Fields
from compress.runtime.predictor import Predictor, Request
from compress.runtime.requests import RENAME, read_requests

AUTO = "auto"
PARENTS = ("teacher", "student")
"""Stages whose hashes stand in a bundle."""
TOKEN_IDS = re.compile(r"int64 \[[^\d,][^,]*, [^\d,][^,]*\]")
"""How a graph tells an input of token ids: two free axes."""
DEFAULT = Quantize()
SEED = Recipe.model_fields["seed"].default
"""Of the bootstrap, as in a recipe that names none."""


def quantize_path(
    model: Path, out: Path, *, calibration: Path | None, method: str, changes: Sequence[str] = ()
) -> dict[str, Any]:
    """Lower a model's precision.

    With calibration requests, which have no labels, the guard keeps layers in float until as many requests get the
    float model's first label as `quantize.max_quality_loss` wants: 99% by default.

    Args:
        model: student folder, exported model, run (its student), or any float .onnx.
        out: FILE.onnx, or a folder that also gets tokenizer.json and model.json.
        calibration: requests, which set ranges and show what changed (parity, guard).
        method: auto, or one of `quantize.methods`; auto takes static for convolutions, else dynamic.
        changes: options of the method, as `quantize.key=value`.

    Returns:
        path, method, size_bytes, source_bytes (of the float ONNX), and with calibration requests `parity` and `guard`.

    Raises:
        RecipeError: a path, method or option that does not fit, or a method that wants requests without them.
        DataError: requests or a model that cannot be used, or nothing to quantize.
        IntegrityError: the model is damaged.
        GateError: it lost more than max_quality_loss whatever stays in float; the best candidate is written, the
            error's `summary` has the figures.
    """
    if method == "aware":
        raise RecipeError(
            "--method aware trains the student further, for which it needs its teacher and data, and a model has "
            "neither: set quantize.method: aware in a recipe, and run `kdc quantize RECIPE`"
        )
    section = quantize_section(changes)
    known = (AUTO, *METHODS)
    if method not in known:
        raise RecipeError(f"--method is {method!r}, known are {', '.join(known)}")
    if method != AUTO and (misfit := section.misfit(method)):
        raise RecipeError(f"--set {misfit}")
    meant = narrowed(model)
    to_file = out.suffix.lower() == ".onnx"
    _check_out(out, meant, to_file=to_file)
    with TemporaryDirectory(prefix="kdc-quantize-") as temporary:
        with speaking_of(meant, Path(temporary) / "float"):
            source = _float_folder(meant, Path(temporary) / "float")
            graph = read_graph(source / ONNX)
            _check_graph(graph, meant)
            if not to_file and not answers_text(source):
                raise RecipeError(f"{meant} has no {TOKENIZER} and {SPEC} to go into a folder; give -o FILE.onnx")
            chosen = _method(method, source, graph)
            if misfit := section.misfit(chosen):
                raise RecipeError(f"--set {misfit}")
            requests = _calibration(calibration, source, graph, meant, chosen, section)
            _check_requests(bool(requests), chosen, asked=method, graph=graph, source=source, model=meant)
            made, told = _quantized(source, Path(temporary), chosen, requests, section)
        sizes = {"size_bytes": _bytes(made), "source_bytes": _bytes(source)}
        parity = _parity(source, made, requests)
        _publish(made, out, to_file=to_file)
    facts = {"path": str(out), "method": chosen} | sizes | parity
    if told is None:
        return facts
    facts |= {"guard": told.record}
    if told.failure is not None:
        missed = GateError(f"{out}: {told.failure}")
        missed.summary = facts | {"failure": told.failure}
        raise missed
    return facts


def _check_graph(graph: Graph, model: Path) -> None:
    if graph.quantization != "none":
        raise RecipeError(f"{model} is quantized already ({graph.quantization}); give the float model")
    if graph.foreign:
        raise DataError(
            f"{model} has operators that onnxruntime does not know: {', '.join(graph.foreign)}; export it with "
            "standard operators"
        )


def _check_requests(given: bool, method: str, *, asked: str, graph: Graph, source: Path, model: Path) -> None:
    """A method that measures ranges has requests to do so."""
    if given or not METHODS[method].calibrates:
        return
    if not answers_text(source):
        raise RecipeError(
            f"{method} quantization needs real inputs, but {model} has no {TOKENIZER} and {SPEC} beside it to "
            "make them from requests; take --method dynamic, or give an exported model's folder and "
            "--calibration FILE"
        )
    static = f"{model} is made of convolutions, which quantize statically, and that"
    why = static if asked == AUTO else f"--method {method}"
    raise RecipeError(f"{why} needs requests to set its ranges; give --calibration FILE, or take --method dynamic")


def _check_out(out: Path, source: Path, *, to_file: bool) -> None:
    if not to_file:
        refuse_target(out, source)
    elif out.is_dir():
        raise RecipeError(f"-o {out} is a folder, but a file is written; name another path")
    elif out.resolve() == (source / ONNX if source.is_dir() else source).resolve():
        raise RecipeError(f"-o {out} is the model that is being read; name another file")


def _float_folder(model: Path, temporary: Path) -> Path:
    """The model as a folder with ONNX; a student is exported into a temporary one."""
    if kind_of(model) is Kind.student:
        exported_checkpoint(model, temporary)
        return temporary
    return model_folder(model, temporary)


def _calibration(
    path: Path | None, source: Path, graph: Graph, model: Path, method: str, section: Quantize
) -> list[Request]:
    """Evenly spaced rows of the calibration file, as many as the section asks for."""
    if path is None:
        idle = [
            name for name in ("max_quality_loss", "calibration") if getattr(section, name) != getattr(DEFAULT, name)
        ]
        if idle:
            raise RecipeError(
                f"--set quantize.{idle[0]} has no effect without --calibration FILE: add it, or leave it out"
            )
        return []
    _check_token_ids(graph, model)
    if not answers_text(source):
        raise RecipeError(
            f"--calibration {path} holds text, but {model} has no {TOKENIZER} and {SPEC} beside it that read "
            "text; leave it out and take --method dynamic, or give an exported model's folder"
        )
    rows = list(read_requests(path, fields=Fields(pairs=read_spec(source).two_texts, remedy=RENAME)))
    limit = section.calibration
    if len(rows) <= limit:
        if len(rows) < limit and METHODS[method].calibrates:
            reporter.warn(
                f"quantize.calibration asks for {limit:,} requests, and {path} has {len(rows):,}: all are taken"
            )
        return rows
    reporter.say(f"  calibrating with {limit} of the {len(rows):,} requests of {path}, evenly spaced")
    return [rows[number * len(rows) // limit] for number in range(limit)]


def _check_token_ids(graph: Graph, model: Path) -> None:
    """Requests become token ids, in batches of any size and length."""
    for name, signature in graph.inputs.items():
        if TOKEN_IDS.fullmatch(signature):
            continue
        fixed = re.fullmatch(r"int64 \[[^,]+, [^,]+\]", signature) is not None
        problem = "has a fixed axis" if fixed else "is not token ids"
        remedy = "export it with free axes" if fixed else "leave --calibration out and take --method dynamic"
        raise DataError(
            f"--calibration holds text, which becomes int64 [batch, sequence], but the input {name!r} of {model} "
            f"{problem}: it is {signature}; {remedy}"
        )


def _method(asked: str, source: Path, graph: Graph) -> str:
    return asked if asked != AUTO else _suiting(source, graph)


def _suiting(source: Path, graph: Graph) -> str:
    """The method that suits the student, or where model.json names none, the graph."""
    student = read_spec(source).student if (source / SPEC).is_file() else None
    if student is not None:
        section: Student = TypeAdapter(Student).validate_python(student["section"])
        return section.quantization
    return "static" if graph.convolutional else "dynamic"


def _quantized(
    source: Path, temporary: Path, method: str, requests: Sequence[Request], section: Quantize
) -> tuple[Path, Guarded | None]:
    """The folder of the quantized model, and where there are requests what the guard found."""
    from compress.steps.guarding import agreement_loss, agreement_measured
    from compress.steps.quantizing import guarded_folder, quantize_folder

    target = temporary / "quantized"
    if requests:
        before = Predictor.from_folder(source).logits(requests)
        loss, measured = agreement_loss(requests, before, SEED), agreement_measured(before, len(requests))
        return target, guarded_folder(source, target, method, requests, section, loss, measured, temporary / "work")
    if answers_text(source):
        quantize_folder(source, target, method, requests, section)
        return target, None
    target.mkdir()
    if method == "none":
        for file in (source / ONNX, *external_weights(source / ONNX)):
            shutil.copyfile(file, target / file.name)
    else:
        METHODS[method].write(Work(source / ONNX, target, lambda: (), section))
    return target, None


def _parity(source: Path, made: Path, requests: Sequence[Request]) -> dict[str, Any]:
    if not requests:
        return {}
    from compress.export.parity import compare

    return {"parity": compare(Predictor.from_folder(source), Predictor.from_folder(made), requests)}


def _bytes(folder: Path) -> int:
    model = folder / ONNX
    return sum(file.stat().st_size for file in (model, *external_weights(model)))


def _publish(made: Path, out: Path, *, to_file: bool) -> None:
    if not to_file:
        with publishing(out) as temporary:
            shutil.copytree(made, temporary)
        return
    with publishing(out) as temporary:
        shutil.copyfile(made / ONNX, temporary)
    if answers_text(made):
        reporter.say(f"  {out} reads text only with {TOKENIZER} and {SPEC} beside it; -o DIR writes them too")


def export_path(model: Path, out: Path, *, to: Sequence[str], gpus: Sequence[str], precision: str) -> dict[str, Any]:
    """Export a model to other formats.

    Args:
        model: student folder, Hugging Face model folder, run (its student); for engines also exported models
            and any float .onnx.
        out: a folder; gets model.onnx, tokenizer.json and model.json for `onnx`, and NAME.engine for engines.
        to: onnx, tensorrt, tensorrt-rtx. gpus: for tensorrt-rtx, such as sm89. precision: of engines.

    Returns:
        path, onnx (size_bytes, and for a student its parity with torch), engines (name -> figures), notes.

    Raises:
        RecipeError: a path, format, GPU or precision that does not fit.
        EnvironmentProblem: a package or device is missing.
        IntegrityError: the model is damaged.
        GateError: the exported model says something else than torch.
    """
    sections = engine_sections(to, gpus, precision)
    meant = narrowed(model)
    kind = kind_of(meant)
    checkpoint = kind in (Kind.student, Kind.teacher)
    if "onnx" in to and not checkpoint:
        raise RecipeError(f"{meant} is ONNX already; name another format, for example --to tensorrt-rtx --gpu sm89")
    if "onnx" in to:
        refuse_target(out, meant)
    elif out.is_file():
        raise RecipeError(f"-o {out} is a file, but engines go into a folder; name another path")
    found: dict[str, Any] = {"path": str(out), "onnx": None, "engines": {}, "notes": []}
    with TemporaryDirectory(prefix="kdc-export-") as temporary, speaking_of(meant, Path(temporary) / "onnx"):
        source = Path(temporary) / "onnx"
        if checkpoint:
            found["onnx"] = exported_checkpoint(meant, source)
            found["notes"] += found["onnx"].pop("notes")
        else:
            source = model_folder(meant, source)
        target = source if "onnx" in to else out
        found["engines"] = engines_of_folder(source, target, sections, Path(temporary) / "work")
        if "onnx" in to:
            _publish(source, out, to_file=False)
    return found


def package_path(artifact: Path, out: Path) -> dict[str, Any]:
    """Pack an exported model, or the quantized one of a run, into a bundle.

    Returns:
        path, name, size_bytes, metrics (those that the run measured).

    Raises:
        RecipeError: the path is no exported model, or `out` does not end in .kdc.
        DataError: the folder lacks tokenizer.json or model.json.
        IntegrityError: the model is damaged.
    """
    kind = kind_of(artifact)
    folder = artifact / RUN_MODELS["shipped"] if kind is Kind.run else artifact
    if out.suffix != SUFFIX or out.is_dir():
        raise RecipeError(f"-o {out} is no name of a bundle; give NAME{SUFFIX}")
    if not (folder / ONNX).is_file() or kind is Kind.bundle:
        raise RecipeError(
            f"{artifact} is a {kind}, which cannot be packed; give an {Kind.model} or the `quantized` folder of a run"
        )
    own = verified(folder)
    notes: list[str] = []
    data: Data | None = None
    metrics: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    certificate: dict[str, Any] | None = None
    if own is not None:
        parents = {stage: own.parents[stage] for stage in PARENTS if stage in own.parents}
        provenance = {
            "recipe_digest": own.recipe_digest,
            "parents": parents | {own.kind: own.sha256},
            "versions": own.versions,
        }
        metrics = {"shipped": own.metrics["quality"]} if own.metrics.get("quality") else {}
        certificate = own.metrics.get("certificate")
        notes, data = _said_by_run(folder)
        if own.status == "failed":
            reporter.warn(f"{folder} did not meet a gate: {own.reason}")
            notes.append(f"A gate of its recipe was not met: {own.reason}.")
    columns = {} if data is None else data.joined_columns
    with publishing(out) as made:
        write_bundle(
            folder,
            made,
            name=out.stem,
            metrics=metrics,
            provenance=provenance,
            certificate=certificate,
            columns=columns,
            notes=notes,
        )
        check_access(made, {} if data is None else data.privileged_columns)
    return {"path": str(out), "name": out.stem, "size_bytes": out.stat().st_size, "metrics": metrics}


def _said_by_run(stage: Path) -> tuple[list[str], Data | None]:
    """What must stand beside the run's figures (simulated data, for example), and the section of its data."""
    path = Path(stage.resolve().parent) / SUMMARY
    if not path.is_file():
        return [], None
    summary = read_object(path)
    data: Data = TypeAdapter(Data).validate_python(summary["recipe"]["data"])
    return [str(note) for note in summary.get("notes", [])], data

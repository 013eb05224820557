"""`kdc quantize`, `kdc export` and `kdc package` on models instead of a recipe."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter

from compress.artifacts import ONNX, SPEC, TOKENIZER, Artifact, publishing, read_artifact, read_spec
from compress.bench.bare import answers_text
from compress.bundle.access import check_access
from compress.bundle.sign import load_signer
from compress.bundle.write import write_bundle
from compress.errors import RecipeError
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
from compress.recipe import Data, Quantize, Student
from compress.runtime.bundle import SUFFIX
from compress.runtime.fields import Fields
from compress.runtime.predictor import Predictor, Request
from compress.runtime.requests import RENAME, read_requests

AUTO = "auto"
METHODS = (AUTO, "dynamic", "static", "none")
PARENTS = ("teacher", "student")
"""Stages whose hashes stand in a bundle."""


def quantize_path(model: Path, out: Path, *, calibration: Path | None, method: str) -> dict[str, Any]:
    """Quantize a model to int8.

    Args:
        model: student folder, exported model, run (its student), or any float .onnx.
        out: FILE.onnx, or a folder that also gets tokenizer.json and model.json.
        calibration: requests, which set the ranges of static quantization and show what changed (parity).
        method: auto, dynamic, static or none; auto takes static for convolutions, else dynamic.

    Returns:
        path, method, size_bytes, source_bytes (of the float ONNX), and with calibration requests `parity`.

    Raises:
        RecipeError: a path or method that does not fit, or static without requests.
        DataError: requests that cannot be used, or nothing to quantize.
        IntegrityError: the model is damaged.
    """
    if method not in METHODS:
        raise RecipeError(f"--method is {method!r}, known are {', '.join(METHODS)}")
    meant = narrowed(model)
    to_file = out.suffix.lower() == ".onnx"
    _check_out(out, meant, to_file=to_file)
    with TemporaryDirectory(prefix="kdc-quantize-") as temporary:
        with speaking_of(meant, Path(temporary) / "float"):
            source = _float_folder(meant, Path(temporary) / "float")
            graph = read_graph(source / ONNX)
            if graph.quantization != "none":
                raise RecipeError(f"{meant} is quantized already ({graph.quantization}); give the float model")
            if not to_file and not answers_text(source):
                raise RecipeError(f"{meant} has no {TOKENIZER} and {SPEC} to go into a folder; give -o FILE.onnx")
            requests = _calibration(calibration, source, meant)
            chosen = _method(method, source, graph, meant, bool(requests))
            made = _quantized(source, Path(temporary) / "int8", chosen, requests)
        sizes = {"size_bytes": _bytes(made), "source_bytes": _bytes(source)}
        parity = _parity(source, made, requests)
        _publish(made, out, to_file=to_file)
    return {"path": str(out), "method": chosen} | sizes | parity


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


def _calibration(path: Path | None, source: Path, model: Path) -> list[Request]:
    """Evenly spaced rows of the calibration file, as many as a recipe would take."""
    if path is None:
        return []
    if not answers_text(source):
        raise RecipeError(
            f"--calibration {path} holds text, but {model} has no {TOKENIZER} and {SPEC} beside it that read "
            "text; leave it out and take --method dynamic, or give an exported model's folder"
        )
    rows = list(read_requests(path, fields=Fields(pairs=read_spec(source).two_texts, remedy=RENAME)))
    limit = Quantize().calibration
    if len(rows) <= limit:
        return rows
    reporter.say(f"  calibrating with {limit} of the {len(rows):,} requests of {path}, evenly spaced")
    return [rows[number * len(rows) // limit] for number in range(limit)]


def _method(asked: str, source: Path, graph: Graph, model: Path, has_requests: bool) -> str:
    chosen = asked if asked != AUTO else _suiting(source, graph)
    if chosen != "static" or has_requests:
        return chosen
    if not answers_text(source):
        raise RecipeError(
            f"static quantization needs real inputs, but {model} has no {TOKENIZER} and {SPEC} beside it to "
            "make them from requests; take --method dynamic, or give an exported model's folder and "
            "--calibration FILE"
        )
    why = (
        f"{model} is made of convolutions, which quantize statically, and that" if asked == AUTO else "--method static"
    )
    raise RecipeError(f"{why} needs requests to set its ranges; give --calibration FILE, or take --method dynamic")


def _suiting(source: Path, graph: Graph) -> str:
    """The method that suits the student, or where model.json names none, the graph."""
    student = read_spec(source).student if (source / SPEC).is_file() else None
    if student is not None:
        section: Student = TypeAdapter(Student).validate_python(student["section"])
        return section.quantization
    return "static" if graph.convolutional else "dynamic"


def _quantized(source: Path, target: Path, method: str, requests: Sequence[Request]) -> Path:
    from compress.quantize.dynamic import quantize_dynamic_int8
    from compress.steps.shipping import quantize_folder

    if answers_text(source):
        quantize_folder(source, target, method, requests)
        return target
    target.mkdir()
    if method == "none":
        for file in (source / ONNX, *external_weights(source / ONNX)):
            shutil.copyfile(file, target / file.name)
    else:
        quantize_dynamic_int8(source / ONNX, target / ONNX)
    return target


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


def package_path(artifact: Path, out: Path, *, sign: Path | None = None) -> dict[str, Any]:
    """Pack an exported model, or the quantized one of a run, into a bundle; same artifact and key, same bytes.

    Args:
        sign: private key, PEM.

    Returns:
        path, name, size_bytes, metrics (those that the run measured), signed_by (the key's SHA-256, or None).

    Raises:
        RecipeError: the path is no exported model, `out` does not end in .kdc, or the key is none.
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
    signer = None if sign is None else load_signer(sign)
    own = verified(folder)
    notes: list[str] = []
    data: Data | None = None
    metrics: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    certificate: dict[str, Any] | None = None
    bench: dict[str, Any] | None = None
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
        bench = _timed_by_run(folder, own)
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
            datasets=() if data is None else data.hubs,
            bench=bench,
            signer=signer,
        )
        check_access(made, {} if data is None else data.privileged_columns)
    return {
        "path": str(out),
        "name": out.stem,
        "size_bytes": out.stat().st_size,
        "metrics": metrics,
        "signed_by": None if signer is None else signer.key,
    }


def _timed_by_run(stage: Path, own: Artifact) -> dict[str, Any] | None:
    """The run's bench, where it timed this very model."""
    found = read_artifact(stage.resolve().parent / "bench")
    return found.metrics if found is not None and found.parents.get(own.kind) == own.sha256 else None


def _said_by_run(stage: Path) -> tuple[list[str], Data | None]:
    """What must stand beside the run's figures (simulated data, for example), and the section of its data."""
    path = Path(stage.resolve().parent) / SUMMARY
    if not path.is_file():
        return [], None
    summary = read_object(path)
    data: Data = TypeAdapter(Data).validate_python(summary["recipe"]["data"])
    return [str(note) for note in summary.get("notes", [])], data

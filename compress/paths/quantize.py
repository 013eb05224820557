"""`kdc quantize` on models instead of a recipe."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter

from compress.artifacts import IR, IR_WEIGHTS, ONNX, SPEC, TOKENIZER, model_bytes, publishing, read_spec
from compress.bench.bare import answers_text
from compress.errors import DataError, GateError, RecipeError
from compress.export.graph import Graph, read_graph
from compress.paths.checkpoints import exported_checkpoint
from compress.paths.locate import Kind, kind_of, model_folder, narrowed, onnx_bytes, refuse_target, speaking_of
from compress.progress import reporter
from compress.quantize.guard import Guarded
from compress.quantize.methods import METHODS, Work, candidates
from compress.recipe import AUTO, Bench, Quantize, Recipe, Student
from compress.recipe.file import quantize_section
from compress.runtime.fields import Fields
from compress.runtime.predictor import Predictor, Request
from compress.runtime.requests import RENAME, read_requests

TOKEN_IDS = re.compile(r"int64 \[[^\d,][^,]*, [^\d,][^,]*\]")
"""How a graph tells an input of token ids: two free axes."""
DEFAULT = Quantize()
SEED = Recipe.model_fields["seed"].default
"""Of the bootstrap, as in a recipe that names none."""


def quantize_path(
    model: Path, out: Path, *, calibration: Path | None, method: str | None, changes: Sequence[str] = ()
) -> dict[str, Any]:
    """Lower a model's precision.

    With calibration requests, which have no labels, the guard keeps layers in float until as many requests get the
    float model's first label as `quantize.max_quality_loss` wants: 99% by default.

    Args:
        model: student folder, exported model, run (its student), or any float .onnx.
        out: FILE.onnx, or a folder that also gets tokenizer.json and model.json; a folder for the openvino methods.
        calibration: requests, which set ranges and show what changed (parity, guard).
        method: one of `quantize.methods`; None for static where there are convolutions, else dynamic; auto for the
            fastest of all that run here and meet the guard, timed on the calibration requests.
        changes: options of the method, as `quantize.key=value`.

    Returns:
        path, method, size_bytes, source_bytes (of the float ONNX), and with calibration requests `parity` and `guard`;
        for auto `candidates`, too.

    Raises:
        RecipeError: a path, method or option that does not fit, or a method that wants requests without them.
        DataError: requests or a model that cannot be used, or nothing to quantize.
        IntegrityError: the model is damaged.
        GateError: it lost more than max_quality_loss whatever stays in float; the best candidate is written, the
            error's `summary` has the figures.
    """
    section = quantize_section(changes)
    _check_method(method, section)
    meant = narrowed(model)
    to_file = out.suffix.lower() == ".onnx"
    if to_file and method in METHODS and METHODS[method].runtime != "onnxruntime":
        raise RecipeError(f"--method {method} writes no ONNX file, but {IR} and {IR_WEIGHTS}: give -o DIR")
    _check_out(out, meant, to_file=to_file)
    with TemporaryDirectory(prefix="kdc-quantize-") as temporary:
        with speaking_of(meant, Path(temporary) / "float"):
            source = _float_folder(meant, Path(temporary) / "float")
            graph = read_graph(source / ONNX)
            _check_graph(graph, meant)
            if not to_file and not answers_text(source):
                raise RecipeError(f"{meant} has no {TOKENIZER} and {SPEC} to go into a folder; {_to_a_file(method)}")
            chosen = method or _suiting(source, graph)
            if misfit := section.misfit(chosen):
                raise RecipeError(f"--set {misfit}")
            requests = _calibration(calibration, source, graph, meant, chosen, section)
            _check_requests(bool(requests), chosen, asked=method, source=source, model=meant)
            made = _quantized(source, Path(temporary), chosen, requests, section, to_file=to_file)
        facts = {"path": str(out), "method": made.method, "size_bytes": _bytes(made.folder)}
        facts |= {"source_bytes": _bytes(source)} | _parity(source, made.folder, requests)
        _publish(made.folder, out, to_file=to_file)
    return _with_guard(facts, made, out)


def _to_a_file(method: str | None) -> str:
    if method in METHODS and METHODS[method].runtime != "onnxruntime":
        return "put them beside it, or take --method dynamic and give -o FILE.onnx"
    return "give -o FILE.onnx"


def _check_method(method: str | None, section: Quantize) -> None:
    if method == "aware":
        raise RecipeError(
            "--method aware trains the student further, for which it needs its teacher and data, and a model has "
            "neither: set quantize.method: aware in a recipe, and run `kdc quantize RECIPE`"
        )
    known = (AUTO, *METHODS)
    if method is not None and method not in known:
        raise RecipeError(f"--method is {method!r}, known are {', '.join(known)}")
    if method is not None and (misfit := section.misfit(method)):
        raise RecipeError(f"--set {misfit}")


@dataclass(frozen=True)
class _Made:
    """A quantized model's folder; what the guard found where there were requests, and the rows of all candidates."""

    folder: Path
    method: str
    guard: Guarded | None = None
    candidates: list[dict[str, Any]] | None = None


def _with_guard(facts: dict[str, Any], made: _Made, out: Path) -> dict[str, Any]:
    """The facts and what the guard found.

    Raises:
        GateError: the limit is not met.
    """
    if made.guard is None:
        return facts
    facts |= {"guard": made.guard.record}
    if made.candidates is not None:
        facts |= {"candidates": made.candidates}
    if made.guard.failure is not None:
        missed = GateError(f"{out}: {made.guard.failure}")
        missed.summary = facts | {"failure": made.guard.failure}
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


def _calibrates(method: str) -> bool:
    return method == AUTO or METHODS[method].calibrates


def _check_requests(given: bool, method: str, *, asked: str | None, source: Path, model: Path) -> None:
    """A method that measures ranges, or times, has requests to do so."""
    if given or not _calibrates(method):
        return
    if not answers_text(source):
        raise RecipeError(
            f"{method} quantization needs real inputs, but {model} has no {TOKENIZER} and {SPEC} beside it to "
            "make them from requests; take --method dynamic, or give an exported model's folder and "
            "--calibration FILE"
        )
    static = f"{model} is made of convolutions, which quantize statically, and that"
    why = static if asked is None else f"--method {method}"
    what = "to set ranges, compare answers and time" if asked == AUTO else "to set its ranges"
    raise RecipeError(f"{why} needs requests {what}; give --calibration FILE, or take --method dynamic")


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
    rows = calibration_requests(path, source, model, section.calibration, "take --method dynamic")
    if len(rows) < section.calibration and _calibrates(method):
        reporter.warn(
            f"quantize.calibration asks for {section.calibration:,} requests, and {path} has {len(rows):,}: all are "
            "taken"
        )
    return rows


def calibration_requests(path: Path | None, source: Path, model: Path, limit: int, instead: str) -> list[Request]:
    """Evenly spaced rows of a calibration file, `limit` at the most; none without a file.

    Args:
        source: folder of the model that reads them. model: what was given, for messages. instead: what can be done
            without such a file.

    Raises:
        RecipeError: the model reads no text.
        DataError: requests that cannot be used.
    """
    if path is None:
        return []
    if not answers_text(source):
        raise RecipeError(
            f"--calibration {path} holds text, but {model} has no {TOKENIZER} and {SPEC} beside it that read "
            f"text; leave it out and {instead}, or give an exported model's folder"
        )
    rows = list(read_requests(path, fields=Fields(pairs=read_spec(source).two_texts, remedy=RENAME)))
    if len(rows) <= limit:
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


def _suiting(source: Path, graph: Graph) -> str:
    """The method that suits the student, or where model.json names none, the graph."""
    student = read_spec(source).student if (source / SPEC).is_file() else None
    if student is not None:
        section: Student = TypeAdapter(Student).validate_python(student["section"])
        return section.quantization
    return "static" if graph.convolutional else "dynamic"


def _quantized(
    source: Path, temporary: Path, method: str, requests: Sequence[Request], section: Quantize, *, to_file: bool
) -> _Made:
    """The quantized model, below a temporary folder."""
    from compress.steps.quantizing import quantize_folder

    target = temporary / "quantized"
    if requests:
        return _guarded(source, temporary, method, requests, section, to_file=to_file)
    if answers_text(source):
        quantize_folder(source, target, method, requests, section)
        return _Made(target, method)
    target.mkdir()
    METHODS[method].write(Work(source / ONNX, target, lambda: (), section))
    return _Made(target, method)


def _guarded(
    source: Path, temporary: Path, method: str, requests: Sequence[Request], section: Quantize, *, to_file: bool
) -> _Made:
    """The model of a method, or of the best one, under a floor of agreement with float on the requests."""
    from compress.steps.guarding import agreement_loss, agreement_measured
    from compress.steps.quantizing import automatic, guarded_folder, take

    before = Predictor.from_folder(source).logits(requests)
    loss, measured = agreement_loss(requests, before, SEED), agreement_measured(before, len(requests))
    target = temporary / "quantized"

    def make(name: str, folder: Path, mend: bool) -> Guarded:
        work = temporary / "work" if mend else None
        return guarded_folder(source, folder, name, requests, section, loss, measured, work)

    if method != AUTO:
        return _Made(target, method, make(method, target, True))
    names = [
        name
        for name in candidates(convolutional=read_graph(source / ONNX).convolutional)
        if not to_file or METHODS[name].runtime == "onnxruntime"
    ]
    done = automatic(temporary / "candidates", names, make, requests, Bench(), section.fastest)
    take(done, target)
    return _Made(target, done.choice, done.made[done.choice], done.rows)


def _parity(source: Path, made: Path, requests: Sequence[Request]) -> dict[str, Any]:
    if not requests:
        return {}
    from compress.export.parity import compare

    return {"parity": compare(Predictor.from_folder(source), Predictor.from_folder(made), requests)}


def _publish(made: Path, out: Path, *, to_file: bool) -> None:
    if not to_file:
        with publishing(out) as temporary:
            shutil.copytree(made, temporary)
        return
    with publishing(out) as temporary:
        shutil.copyfile(made / ONNX, temporary)
    if answers_text(made):
        reporter.say(f"  {out} reads text only with {TOKENIZER} and {SPEC} beside it; -o DIR writes them too")


def _bytes(folder: Path) -> int:
    return model_bytes(folder) if (folder / IR).is_file() else onnx_bytes(folder / ONNX)

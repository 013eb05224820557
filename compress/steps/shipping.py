"""Stages that ship: ONNX files, quantization, engines, bench, bundle."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.artifacts import EMBEDDING, LOGITS, ONNX, SPEC, TOKENIZER, read_spec, write_spec
from compress.batch import Floats
from compress.bench.machine import describe as describe_machine
from compress.bench.machine import lasting_warnings
from compress.bench.measure import Contender, run_bench
from compress.bundle.access import check_access
from compress.bundle.write import write_bundle
from compress.errors import DataError
from compress.export.engines import build_engines
from compress.export.onnx import export_module, export_teacher
from compress.export.parity import agreement
from compress.predict import predict_logits
from compress.progress import bar, reporter
from compress.quantize.calibration import feeds
from compress.quantize.dynamic import quantize_dynamic_int8
from compress.quantize.static import quantize_static_int8
from compress.recipe import LoadedRecipe, TensorRTExport
from compress.runtime.predictor import Predictor, Request
from compress.steps.certifying import certificate
from compress.steps.context import Metrics, Run, requests_of, with_threshold
from compress.students.build import load_student
from compress.teachers.huggingface import Teacher
from compress.text_model import TextModel

FLOAT, SHIPPED = "student", "shipped"
TOLERANCE = 1e-3
"""Largest logit difference between torch and the exported float ONNX, as a share of the largest logit above 1."""
PARITY_ROWS = 256
GOLDEN_ROWS = 16


def opset_of(run: Run) -> int:
    """The recipe's operator set for ONNX."""
    return next((export.opset for export in run.recipe.export if export.to == "onnx"), 20)


def onnx(run: Run, out: Path, work: Path) -> Metrics:
    """Export teacher, control and student as float ONNX, and check that they still say the same as in torch."""
    found: Metrics = {}
    requests = requests_of(run.splits.test)[:PARITY_ROWS]
    for name in ("student", "control"):
        if (run.at(name) / SPEC).is_file():
            found[name] = export_student(run.at(name), out / name, opset_of(run), requests)
    taught = run.taught()
    if taught is not None:
        read = requests_of(run.read_by_teacher.test)[:PARITY_ROWS]
        found["teacher"] = _export_teacher(run, taught, out / "teacher", read)
    failures = [failure for name, made in found.items() if (failure := parity_failure(made, f"onnx/{name}/{ONNX}"))]
    return found | ({"failure": "; ".join(failures)} if failures else {})


def _export_teacher(run: Run, taught: Teacher, out: Path, requests: Sequence[Request]) -> Metrics:
    """The teacher as optimum exports it: what the speed-up is measured against."""
    out.mkdir(parents=True)
    inputs = export_teacher(run.lead_folder, out / ONNX, opset=opset_of(run))
    (out / TOKENIZER).write_text(taught.tokenizer_json, encoding="utf-8")
    write_spec(out, read_spec(run.lead_folder).model_copy(update={"inputs": inputs}))
    return {"size_bytes": (out / ONNX).stat().st_size, "parity": _parity(taught.module, out, requests)}


def export_student(student: Path, out: Path, opset: int, requests: Sequence[Request]) -> Metrics:
    """A student folder as a deployable folder; size_bytes, and `parity` with torch on the given requests."""
    module, spec, tokenizer_json = load_student(student)
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = int((spec.student or {})["vocabulary"])
    outputs = (LOGITS,) if spec.similarity is None else (LOGITS, EMBEDDING)
    traced = _exportable(module)
    export_module(traced, out / ONNX, inputs=spec.inputs, outputs=outputs, opset=opset, vocabulary=vocabulary)
    (out / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")
    write_spec(out, spec)
    size = {"size_bytes": (out / ONNX).stat().st_size}
    return size | {"parity": _parity(module, out, requests)} if requests else size


def _parity(module: TextModel, out: Path, requests: Sequence[Request]) -> dict[str, Any]:
    """Agreement of an exported folder with the torch module that it came from, through the runtime that ships.

    `limit` is the largest logit difference that is accepted.
    """
    import torch

    from compress.batch import Examples
    from compress.data.encode import encode_examples

    predictor = Predictor.from_folder(out)
    rows = Examples(
        ids=[str(i) for i in range(len(requests))],
        texts=[request.text for request in requests],
        pairs=[request.text_pair or "" for request in requests] if predictor.spec.two_texts else None,
    )
    said = predict_logits(module, encode_examples(predictor.encoder, rows), torch.device("cpu"))
    return agreement(said, predictor.logits(requests)) | {"limit": TOLERANCE * max(1.0, float(np.abs(said).max()))}


def parity_failure(exported: Metrics, name: str) -> str | None:
    """What is wrong with an exported model that says something else than torch, or None."""
    parity = exported.get("parity")
    if parity is None or parity["max_logit_difference"] <= parity["limit"]:
        return None
    return (
        f"{name} differs from torch by {parity['max_logit_difference']:.2g} in a logit (limit {parity['limit']:.2g}); "
        "try another export.opset"
    )


def _exportable(module: Any) -> Any:
    """The module to trace: for a BERT classifier the form that computes no more than its answer needs."""
    from compress.students.first_token import FirstTokenBert, is_plain_bert
    from compress.students.two_tower import TwoTower, WithEmbedding
    from compress.text_model import TransformerClassifier

    if isinstance(module, TwoTower):
        return WithEmbedding(module).eval()

    if isinstance(module, TransformerClassifier) and is_plain_bert(module.model):
        return FirstTokenBert(module.model).eval()
    return module


def quantize_folder(source: Path, out: Path, method: str, calibration: Sequence[Request]) -> None:
    """Quantize a deployable folder into another."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (TOKENIZER, SPEC):
        shutil.copyfile(source / name, out / name)
    if method == "none":
        shutil.copyfile(source / ONNX, out / ONNX)
    elif method == "dynamic":
        quantize_dynamic_int8(source / ONNX, out / ONNX)
    else:
        quantize_static_int8(source / ONNX, out / ONNX, feeds(Predictor.from_folder(source), calibration))


def quantized(run: Run, out: Path, work: Path) -> Metrics:
    """Quantize the student; its own threshold is chosen on validation, its loss of quality measured there.

    What it does on test beside its parents and the teacher stands in its `certificate`.
    """
    section = run.recipe.quantize
    method = section.method or run.recipe.student.quantization
    source = run.at("onnx") / FLOAT
    quantize_folder(source, out, method, _calibration(run))
    before = read_logits(source, run, "validation", "student")
    after, test = (read_logits(out, run, split, "quantized") for split in ("validation", "test"))
    verdict = run.judge.verdict(after, test)
    write_spec(out, with_threshold(read_spec(out), verdict.threshold))
    metric = run.judge.metric
    reference = run.judge.measure(before, "validation", run.judge.threshold(before))
    loss = run.judge.kind.metric.loss(reference[metric], verdict.validation[metric])
    found = {
        "method": method,
        "size_bytes": (out / ONNX).stat().st_size,
        "validation": verdict.validation,
        "quality": verdict.test,
        "threshold": verdict.threshold,
        "quality_loss": loss,
        "parity": agreement(before, after),
        "certificate": certificate(run, read_logits(source, run, "test", "student"), test, verdict.threshold, work),
    }
    accepted = loss <= section.max_quality_loss
    return found if accepted else found | {"failure": f"quality loss {loss:.4f} is above the limit"}


def _calibration(run: Run) -> list[Request]:
    """Training rows, drawn by the recipe's seed: the first ones of a sorted file may all be of one label."""
    train = run.splits.train
    count = min(run.recipe.quantize.calibration, len(train))
    picked = np.random.default_rng(run.recipe.seed).choice(len(train), count, replace=False)
    return requests_of(train.take(np.sort(picked)))


def read_logits(folder: Path, run: Run, split: str, name: str) -> Floats:
    """A deployable folder's logits on a split, through the runtime that ships."""
    requests = requests_of(run.splits.validation if split == "validation" else run.splits.test)
    predictor = Predictor.from_folder(folder, threads=2)
    pieces = []
    with bar(f"{name} on {split}", len(requests), "rows") as shown:
        for start in range(0, len(requests), 256):
            pieces.append(predictor.logits(requests[start : start + 256]))
            shown.advance(len(pieces[-1]))
    return np.concatenate(pieces)


def engines(run: Run, out: Path, work: Path) -> Metrics:
    """Build the TensorRT engines that the recipe names."""
    out.mkdir(parents=True, exist_ok=True)
    source = run.at("onnx") / FLOAT

    def to_int8(model: Path, target: Path) -> None:
        rows = feeds(Predictor.from_folder(source), _calibration(run))
        quantize_static_int8(model, target, rows, symmetric=True)

    sections = [section for section in run.recipe.export if isinstance(section, TensorRTExport)]
    max_length = read_spec(source).max_length
    return build_engines(source / ONNX, out, sections, work, max_length=max_length, to_int8=to_int8)


def bench(run: Run, out: Path, work: Path) -> Metrics:
    """Time teacher, control, student and shipped side by side, the teacher on all that it reads."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(run.recipe.seed)
    picked = rng.permutation(len(run.splits.test))[: run.recipe.bench.requests]
    rows, read = (requests_of(splits.test.take(picked)) for splits in (run.splits, run.read_by_teacher))
    contenders = [
        Contender(name, run.at("onnx") / name, read if name == "teacher" else None)
        for name in ("teacher", "control", "student")
        if (run.at("onnx") / name).is_dir()
    ]
    machine = describe_machine()
    for warning in [*machine.get("warnings", []), *lasting_warnings(run.recipe.bench.threads)]:
        reporter.warn(warning)
    results = run_bench([*contenders, Contender(SHIPPED, run.at("quantized"))], rows, run.recipe.bench)
    return {"latency": [result.model_dump() for result in results], "device": machine}


def licenses(loaded: LoadedRecipe) -> dict[str, str]:
    """File name -> text of the licences that the recipe names.

    Raises:
        DataError: a file is missing, is not text, or has the name of another one.
    """
    found: dict[str, str] = {}
    for number, name in enumerate(loaded.recipe.bundle.licenses):
        path = loaded.folder / name
        if path.name in found:
            raise DataError(f"bundle.licenses.{number}: {path.name} is named twice; rename one of the files")
        try:
            found[path.name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"bundle.licenses.{number}: {path} cannot be read as text: {error}") from error
    return found


def bundle(run: Run, out: Path, work: Path) -> Metrics:
    """Pack the shipped model."""
    out.mkdir(parents=True, exist_ok=True)
    name = run.recipe.name
    measured = {
        stage: run.artifacts[artifact].metrics["quality"]
        for stage, artifact in (("teacher", "teacher"), ("shipped", "quantized"))
        if run.artifacts[artifact].metrics.get("quality")
    }
    golden = requests_of(run.splits.test)[:GOLDEN_ROWS]
    path = write_bundle(
        run.at("quantized"),
        out / f"{name}.kdc",
        name=name,
        golden=golden,
        metrics=measured,
        certificate=run.artifacts["quantized"].metrics["certificate"],
        provenance={
            "recipe_digest": run.recipe.digest,
            "data": run.splits.fingerprint,
            "teacher": run.teacher_identity,
            "parents": {stage: artifact.sha256 for stage, artifact in run.artifacts.items() if stage in PARENTS},
            "versions": run.artifacts["quantized"].versions,
        },
        columns=run.recipe.data.joined_columns,
        notes=[*run.splits.notes],
        licenses=licenses(run.loaded),
    )
    check_access(path, run.recipe.data.privileged_columns)
    return {"bundle": path.name, "size_bytes": path.stat().st_size}


PARENTS = ("teacher", "student", "quantized")
"""Stages whose hashes stand in the bundle: the ones whose content it carries or descends from."""

"""Stages that ship: ONNX files, engines, bench, bundle."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compress.artifacts import EMBEDDING, LOGITS, ONNX, PORTABLE, SPEC, TOKENIZER, model_bytes, read_spec, write_spec
from compress.bench.lanes import Contender
from compress.bench.machine import describe as describe_machine
from compress.bench.machine import gpu, lasting_warnings
from compress.bench.measure import run_bench
from compress.bench.targets import EAGER, ONNXRUNTIME, any_on_gpu, own_target
from compress.bundle.access import check_access
from compress.bundle.items import items_of
from compress.bundle.licenses import licenses_of
from compress.bundle.write import write_bundle
from compress.export.engines import TIMINGS, build_engines
from compress.export.onnx import export_module, export_teacher
from compress.export.parity import agreement, evaluated
from compress.export.plain import PlainSession
from compress.predict import predict_logits
from compress.progress import bar, reporter
from compress.quantize.calibration import feeds
from compress.quantize.typed import typed_onnx
from compress.recipe import TensorRTExport
from compress.runtime.predictor import Predictor, Request
from compress.steps.context import FLOAT, Metrics, Run, requests_of
from compress.steps.quantizing import calibration_rows
from compress.students.build import load_student
from compress.teachers.huggingface import Teacher
from compress.text_model import TextModel

SHIPPED = "shipped"
TOLERANCE = 1e-3
"""Largest logit difference between torch and the exported float ONNX, as a share of the largest logit above 1."""
PARITY_ROWS = 256
THIRD_ROWS = 4
"""Requests that ONNX's reference evaluator answers, too."""
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
    return {"size_bytes": model_bytes(out), "parity": _export_parity(taught.module, out, requests)}


def export_student(student: Path, out: Path, opset: int, requests: Sequence[Request]) -> Metrics:
    """A student folder as a deployable folder; size_bytes, and `parity` with torch on the given requests."""
    module, spec, tokenizer_json = load_student(student)
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = int((spec.student or {})["vocabulary"])
    outputs = (LOGITS,) if spec.similarity is None else (LOGITS, EMBEDDING)
    traced = exportable(module)
    export_module(traced, out / ONNX, inputs=spec.inputs, outputs=outputs, opset=opset, vocabulary=vocabulary)
    (out / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")
    write_spec(out, spec)
    size = {"size_bytes": model_bytes(out)}
    return size | {"parity": _export_parity(module, out, requests)} if requests else size


def _export_parity(module: TextModel, out: Path, requests: Sequence[Request]) -> dict[str, Any]:
    """`torch_parity`, and in `reference_evaluator` what ONNX's own program says beside onnxruntime to few requests."""
    predictor, few = Predictor.from_folder(out), requests[:THIRD_ROWS]
    third = agreement(predictor.logits(few), evaluated(out / ONNX, predictor.encode(few)))
    return torch_parity(module, out, requests) | {"reference_evaluator": third}


def torch_parity(
    module: TextModel, out: Path, requests: Sequence[Request], tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Agreement of an exported folder with the torch module that it came from, through the runtime that ships.

    `limit` is the largest logit difference that is accepted; tolerance: it as a share of the largest logit above 1.
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
    return agreement(said, predictor.logits(requests)) | {"limit": tolerance * max(1.0, float(np.abs(said).max()))}


def parity_failure(exported: Metrics, name: str) -> str | None:
    """What is wrong with an exported model that says something else than torch, or None."""
    parity = exported.get("parity")
    if parity is None:
        return None
    two = (("torch", parity), ("what ONNX's reference evaluator makes of it", parity.get("reference_evaluator")))
    for other, found in two:
        if found is not None and found["max_logit_difference"] > parity["limit"]:
            return (
                f"{name} differs from {other} by {found['max_logit_difference']:.2g} in a logit "
                f"(limit {parity['limit']:.2g}); try another export.opset"
            )
    return None


def exportable(module: Any) -> Any:
    """The module to trace: for a BERT classifier the form that computes no more than its answer needs."""
    from compress.students.first_token import FirstTokenBert, is_plain_bert
    from compress.students.two_tower import TwoTower, WithEmbedding
    from compress.text_model import TransformerClassifier

    if isinstance(module, TwoTower):
        return WithEmbedding(module).eval()

    if isinstance(module, TransformerClassifier) and is_plain_bert(module.model):
        return FirstTokenBert(module.model).eval()
    return module


def engines(run: Run, out: Path, work: Path) -> Metrics:
    """Build the TensorRT engines that the recipe names; what they are built from is measured in onnxruntime."""
    out.mkdir(parents=True, exist_ok=True)
    source = run.at("onnx") / FLOAT
    predictor, spec = Predictor.from_folder(source), read_spec(source)
    test = requests_of(run.splits.test)

    def measure(session: PlainSession) -> Metrics:
        said = []
        with bar("the engine's ONNX on test", len(test), "rows") as shown:
            for feed in feeds(predictor, test):
                said.append(session.logits([feed]))
                shown.advance(len(said[-1]))
        logits, rows = np.concatenate(said), test[:PARITY_ROWS]
        return {
            "quality": run.judge.measure(logits, "test", spec.threshold),
            "parity": agreement(predictor.logits(rows), logits[: len(rows)]),
        }

    return build_engines(
        source / ONNX,
        out,
        [section for section in run.recipe.export if isinstance(section, TensorRTExport)],
        work,
        max_length=spec.max_length,
        convert=partial(typed_onnx, feeds=lambda: feeds(predictor, calibration_rows(run, "static"))),
        measure=measure,
        timings=run.cache / TIMINGS,
    )


def bench(run: Run, out: Path, work: Path) -> Metrics:
    """Time teacher, control, student and shipped side by side, the teacher on all that it reads.

    The shipped model's own runtime comes first: its rows are those that gates and the speed-up are told in.
    """
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(run.recipe.seed)
    picked = rng.permutation(len(run.splits.test))[: run.recipe.bench.requests]
    rows, read = (requests_of(splits.test.take(picked)) for splits in (run.splits, run.read_by_teacher))
    own = own_target(run.at("quantized"))
    targets = (own, *(target for target in run.recipe.bench.targets if target != own))
    timed = run.recipe.bench.model_copy(update={"targets": targets})
    machine = describe_machine()
    if any_on_gpu(targets):
        machine |= {"gpu": gpu()}
    for warning in [*machine.get("warnings", []), *lasting_warnings(timed.threads, timed.processes, timed.affinity)]:
        reporter.warn(warning)
    results = run_bench(_contenders(run, read, targets), rows, timed)
    return {"latency": [result.model_dump() for result in results], "device": machine}


def _contenders(run: Run, read: Sequence[Request], targets: tuple[str, ...]) -> list[Contender]:
    """The run's models, each on the targets that are for it; the first target is the shipped model's own."""
    exported = tuple(target for target in targets if target not in EAGER)
    trained = tuple(target for target in targets if target in EAGER)
    weights = {"teacher": run.lead_folder, "control": run.at("control"), "student": run.at("student")}
    found = []
    for name, folder in weights.items():
        asked = read if name == "teacher" else None
        if (run.at("onnx") / name).is_dir():
            found.append(Contender(name, run.at("onnx") / name, asked, exported))
            if trained:
                found.append(Contender(name, folder, asked, trained))
    shipped = run.at("quantized")
    found.append(Contender(SHIPPED, shipped, targets=exported if targets[0] == ONNXRUNTIME else (targets[0],)))
    if (shipped / PORTABLE).is_dir():
        found.append(Contender(PORTABLE, shipped / PORTABLE, targets=(ONNXRUNTIME,)))
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
    if portable := run.artifacts["quantized"].metrics.get("portable"):
        measured["portable"] = portable["quality"]
    golden = requests_of(run.splits.test)[:GOLDEN_ROWS]
    path = write_bundle(
        run.at("quantized"),
        out / f"{name}.kdc",
        name=name,
        golden=golden,
        metrics=measured,
        certificate=run.artifacts["quantized"].metrics["certificate"],
        candidates=run.artifacts["quantized"].metrics.get("candidates", ()),
        provenance={
            "recipe_digest": run.recipe.digest,
            "data": run.splits.fingerprint,
            "teacher": run.teacher_identity,
            "parents": {stage: artifact.sha256 for stage, artifact in run.artifacts.items() if stage in PARENTS},
            "versions": run.artifacts["quantized"].versions,
        },
        columns=run.recipe.data.joined_columns,
        notes=[*run.splits.notes],
        licenses=licenses_of(run.loaded),
        datasets=run.recipe.data.hubs,
        bench=run.artifacts["bench"].metrics,
        items=items_of(run.loaded),
        signer=run.signer,
    )
    check_access(path, run.recipe.data.privileged_columns)
    signed_by = None if run.signer is None else run.signer.key
    return {"bundle": path.name, "size_bytes": path.stat().st_size, "signed_by": signed_by}


PARENTS = ("teacher", "student", "quantized")
"""Stages whose hashes stand in the bundle: the ones whose content it carries or descends from."""

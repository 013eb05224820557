"""Quantization-aware distillation: the stage `aware`, and its student as the model file of `quantized`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from compress.artifacts import EMBEDDING, LOGITS, ONNX, TOKENIZER, ModelSpec, read_spec, write_spec
from compress.distill.aware import distil_aware
from compress.distill.stages import Schooling, encoder_of
from compress.export.onnx import export_module
from compress.quantize.aware_export import INT4_OPSET, exportable_codes, pack_int4
from compress.quantize.calibration import feeds
from compress.runtime.predictor import Predictor, Request
from compress.steps.context import FLOAT, Metrics, Run, requests_of
from compress.steps.quantizing import calibration_rows
from compress.steps.shipping import PARITY_ROWS, exportable, opset_of, parity_failure, torch_parity
from compress.steps.teaching import judged, write_history
from compress.students.build import Built, load_student
from compress.students.fake_quantization import calibrate, fake_quantized
from compress.teachers.arrays import read_outputs
from compress.text_model import TextModel

WEIGHTS = "aware.safetensors"
TOLERANCE = 0.05
"""Largest logit difference between the fake-quantized student and its export, as a share of the largest logit above 1:
sums in another order are now and then rounded to the next code, and such a step is passed on."""


def aware(run: Run, out: Path, work: Path) -> Metrics:
    """Distil the finished student further under fake quantization."""
    from safetensors.torch import save_file

    section, distill = run.recipe.quantize, run.recipe.distill
    if section.learning is None:
        raise ValueError(f"quantize.method is {section.method}, not aware")
    module = fake_quantized(load_student(run.at("student"))[0], section.bits)
    calibrate(module, _batches(run, module.input_names))
    built = Built(module, read_spec(run.at("student")), run.tokens, (), torch.nn.ModuleList())
    schooling = Schooling(run.judge, distill, run.device, run.bf16, run.recipe.seed)
    stage = section.learning.stage(distill)
    progress = distil_aware(built, read_outputs(run.at("outputs")), stage, schooling, work)
    verdict = run.judge.full(module, encoder_of(built), run.device)
    write_history(out, progress.history)
    save_file({name: tensor.cpu().contiguous() for name, tensor in module.state_dict().items()}, out / WEIGHTS)
    return {"bits": section.bits, "best_at": progress.best_at, "steps": progress.step} | judged(verdict)


def _batches(run: Run, names: Sequence[str]) -> list[list[torch.Tensor]]:
    """Calibration rows as the student reads them."""
    reader = Predictor.from_folder(run.at("onnx") / FLOAT)
    return [[torch.from_numpy(feed[name]) for name in names] for feed in feeds(reader, calibration_rows(run, "aware"))]


def write_aware(run: Run, out: Path) -> Metrics:
    """Export what `aware` made as a deployable folder.

    Returns:
        `fake_quantization`: agreement with its torch form on test rows; `failure` where that is too little.
    """
    from safetensors.torch import load_file

    module, spec, _ = load_student(run.at("student"))
    fake_quantized(module, run.recipe.quantize.bits).load_state_dict(load_file(run.at("aware") / WEIGHTS))
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run.at("student") / TOKENIZER, out / TOKENIZER)
    export_codes(module.eval(), spec, out, opset=opset_of(run), bits=run.recipe.quantize.bits)
    rows: list[Request] = requests_of(run.splits.test)[:PARITY_ROWS]
    found: Metrics = {"parity": torch_parity(module, out, rows, TOLERANCE)}
    failure = parity_failure(found, f"quantized/{ONNX}")
    return {"fake_quantization": found["parity"]} | ({} if failure is None else {"failure": failure})


def export_codes(module: TextModel, spec: ModelSpec, out: Path, *, opset: int, bits: int) -> None:
    """Write model.onnx and model.json of a fake-quantized student; 4 bits need operator set 21 or later."""
    export_module(
        exportable(exportable_codes(module)),
        out / ONNX,
        inputs=spec.inputs,
        outputs=(LOGITS,) if spec.similarity is None else (LOGITS, EMBEDDING),
        opset=opset if bits == 8 else max(opset, INT4_OPSET),
        vocabulary=int((spec.student or {})["vocabulary"]),
    )
    if bits != 8:
        pack_int4(out / ONNX)
    write_spec(out, spec.model_copy(update={"similarity": module.similarity}))

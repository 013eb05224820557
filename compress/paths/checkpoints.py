"""From trained weights on disk, a student's or a Hugging Face classifier's, to a folder with ONNX."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compress.artifacts import ONNX, SPEC, TOKENIZER, model_bytes, read_spec, write_spec
from compress.bundle.write import STOCK_GOLDEN
from compress.errors import DataError, GateError, IntegrityError, RecipeError
from compress.extras import require
from compress.paths.locate import Kind, kind_of, verified
from compress.recipe import OnnxExport
from compress.teachers.load import read_config, safetensors_parameters, weight_files

OPSET = OnnxExport(to="onnx").opset
RECIPE_KEY = "teacher.model: "
"""Stands before messages of `compress.teachers`, which speaks to readers of a recipe."""
HEAD = "ForSequenceClassification"


def exported_checkpoint(folder: Path, target: Path) -> dict[str, Any]:
    """Export a student folder or a Hugging Face model folder into a new folder.

    Returns:
        size_bytes, for a student `parity` with torch on stock requests, and `notes`: what a reader must know.

    Raises:
        RecipeError: a model without a classification head, or of an architecture that cannot be exported.
        DataError: weights only as pickles, or none.
        IntegrityError: the weights or model.json are damaged.
        EnvironmentProblem: torch or optimum is not installed.
        GateError: the exported student says something else than torch.
    """
    require("torch", extra="train", why=f"exporting {folder}")
    verified(folder)
    parameters(folder)
    if kind_of(folder) is Kind.student:
        return _student(folder, target) | {"notes": []}
    return _classifier(folder, target)


def parameters(folder: Path) -> int:
    """Number of values in a folder's weights, from their headers.

    Raises:
        DataError: there are no weights, or only pickles.
        IntegrityError: a file of weights is damaged or cut short.
    """
    try:
        files = weight_files(folder)
    except DataError as error:
        raise DataError(str(error).removeprefix(RECIPE_KEY)) from error
    with _damage(folder):
        return sum(safetensors_parameters(path) for path in files)


def config_of(folder: Path) -> dict[str, Any]:
    """config.json of a Hugging Face folder.

    Raises:
        IntegrityError: it is not JSON.
    """
    with _damage(folder):
        return read_config(folder)


@contextmanager
def _damage(folder: Path) -> Iterator[None]:
    """Call wrong data damage: here they are no part of a recipe."""
    try:
        yield
    except DataError as error:
        raise IntegrityError(f"{str(error).removeprefix(RECIPE_KEY)}; make {folder} anew") from error


def _student(folder: Path, target: Path) -> dict[str, Any]:
    from compress.steps.shipping import export_student, parity_failure
    from compress.students.build import load_student

    try:
        load_student(folder)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        # Hashes, where there are any, and headers are right: the files do not fit each other.
        raise IntegrityError(
            f"the weights in {folder} do not fit its {SPEC} ({str(error).splitlines()[0]}); make it anew"
        ) from error
    made = export_student(folder, target, OPSET, STOCK_GOLDEN)
    failure = parity_failure(made, f"the export of {folder}")
    if failure is not None:
        raise GateError(failure)
    return made


def _classifier(folder: Path, target: Path) -> dict[str, Any]:
    from compress.export.onnx import export_teacher

    architectures = [str(name) for name in config_of(folder).get("architectures") or []]
    if not any(HEAD in name for name in architectures):
        raise RecipeError(
            f"{folder} is a {' or '.join(architectures) or 'model of no known architecture'}, without a "
            "trained classification head; train it first with a recipe that has teacher.train"
        )
    target.mkdir(parents=True)
    inputs = export_teacher(folder, target / ONNX, opset=OPSET)
    notes = []
    if (folder / TOKENIZER).is_file():
        shutil.copyfile(folder / TOKENIZER, target / TOKENIZER)
    if (folder / SPEC).is_file():
        write_spec(target, read_spec(folder).model_copy(update={"inputs": inputs}))
    else:
        notes.append(
            f"there is no {SPEC}: a Hugging Face folder does not say whether it reads one text or two, so "
            "`kdc bench` times this export on generated inputs"
        )
    return {"size_bytes": model_bytes(target), "notes": notes}

"""A tiny exported student of each family, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny import WORDS, tiny_tokenizer_json

VOCABULARY = 300
TRANSFORMER = {"layers": 1, "hidden": 32, "heads": 2, "intermediate": 64}
SECTIONS: dict[str, dict[str, Any]] = {
    "transformer": {"kind": "transformer", **TRANSFORMER},
    "mobile": {"kind": "mobile", "width": 32, "blocks": 2},
    "residual": {"kind": "residual", "width": 32, "blocks": 2},
    "static": {"kind": "static", "width": 32, "bigrams": 1000},
    "two-tower": {"kind": "two-tower", "embedding": 32, **TRANSFORMER},
}


def exported_student(folder: Path, family: str) -> Path:
    """model.onnx, tokenizer.json and model.json of a student with one or two texts, as its family reads."""
    import torch
    from pydantic import TypeAdapter

    from compress.recipe import Student
    from compress.steps.shipping import export_student
    from compress.students.build import build_student, save_student
    from compress.students.vocabulary import StudentTokens

    pairs = family == "two-tower"
    tokens = StudentTokens(tiny_tokenizer_json(), np.full(VOCABULARY, -1), 0, (0, 1, 2, 3), {})
    built = build_student(
        TypeAdapter(Student).validate_python({"init": "random", **SECTIONS[family]}),
        teacher=None,
        teacher_spec=None,
        tokens=tokens,
        texts=WORDS,
        task="pairs" if pairs else "classification",
        labels=["no", "yes"] if pairs else ["shoes", "power", "kitchen"],
        positive="yes" if pairs else None,
        seed=3,
    )
    if family == "transformer":  # drawn so small that its logits hardly differ
        with torch.no_grad():
            for parameter in built.module.parameters():
                parameter.mul_(3)
    save_student(built.module, built.spec, tokens.tokenizer_json, folder / "student")
    export_student(folder / "student", folder / "onnx", 20, [])
    return folder / "onnx"

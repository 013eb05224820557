"""Artifacts as a run leaves them, tiny: a student with random weights, a stage's record, a damaged file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from compress.artifacts import MANIFEST, Artifact, list_files, write_json
from tests.tiny import WORDS, tiny_tokenizer_json

VOCABULARY = 300


def student_folder(folder: Path, kind: str) -> Path:
    """A student as `kdc distill` leaves it, with random weights and enough tokens to be worth quantizing."""
    import torch
    from pydantic import TypeAdapter

    from compress.recipe import Student
    from compress.students.build import build_student, save_student
    from compress.students.vocabulary import StudentTokens

    section = TypeAdapter(Student).validate_python(
        {"kind": "transformer", "init": "random", "layers": 1, "hidden": 32, "heads": 2, "intermediate": 48}
        if kind == "transformer"
        else {"kind": kind, "init": "random", "width": 16}
    )
    tokens = StudentTokens(tiny_tokenizer_json(), np.full(VOCABULARY, -1), 0, (0, 1, 2, 3), {})
    built = build_student(
        section,
        teacher=None,
        teacher_spec=None,
        tokens=tokens,
        texts=WORDS,
        task="classification",
        labels=["shoes", "power", "kitchen"],
        positive=None,
        seed=3,
    )
    with torch.no_grad():
        for parameter in built.module.parameters():
            parameter.mul_(3)
    save_student(built.module, built.spec, tokens.tokenizer_json, folder)
    return folder


def as_stage(folder: Path, kind: str, **changes: Any) -> Path:
    """Give a folder the record that a run would."""
    fields: dict[str, Any] = {"kind": kind, "key": "k", "recipe_digest": "r", "files": list_files(folder)}
    write_json(folder / MANIFEST, Artifact(**(fields | changes)).model_dump())
    return folder


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

"""A student from its recipe section: tokens, layer map, start, and its folder on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from compress.artifacts import SPEC, TOKENIZER, TWO_TEXTS, ModelSpec
from compress.errors import IntegrityError, RecipeError
from compress.recipe import Student
from compress.students.families import FAMILIES
from compress.students.fits import layer_map_of
from compress.students.start import Origin
from compress.students.vocabulary import StudentTokens, prune, train, unknown_rate, whole
from compress.text_model import TextModel, TransformerClassifier, parameter_count

DEFAULT_MAX_LENGTH = 128


@dataclass
class Built:
    """A student ready to learn.

    layer_map: for each student layer the teacher's layer (from 1), () without a teacher model.
    projections: one a layer, from the student's width to the teacher's, for the hidden-state loss.
    """

    module: TextModel
    spec: ModelSpec
    tokens: StudentTokens
    layer_map: tuple[int, ...]
    projections: nn.ModuleList


def student_tokens(section: Student, teacher_json: str | None, pad_id: int, texts: Sequence[str]) -> StudentTokens:
    """The student's tokenizer, with a report of what it covers of the texts."""
    if section.vocabulary.train is not None:
        return train(texts, section.vocabulary.train, teacher_json)
    if teacher_json is None:
        raise RecipeError("student.vocabulary: there is no teacher model to take tokens from; set vocabulary.train")
    if section.vocabulary.keep is not None:
        return prune(teacher_json, pad_id, texts, section.vocabulary.keep)
    return whole(teacher_json, pad_id)


def build_student(  # noqa: PLR0913  # one a fact of the teacher, the data or the task
    section: Student,
    *,
    teacher: TransformerClassifier | None,
    teacher_spec: ModelSpec | None,
    tokens: StudentTokens,
    texts: Sequence[str],
    task: str,
    labels: Sequence[str],
    positive: str | None,
    seed: int,
    two_texts: bool | None = None,
) -> Built:
    """Build a student and start it as the recipe says; the same seed gives the same weights.

    Args:
        texts: what it will learn from.
        two_texts: whether it reads two; None for what the kind of task always has.
    """
    pairs = task in TWO_TEXTS if two_texts is None else two_texts
    torch.manual_seed(seed)
    layer_map = layer_map_of(section, None if teacher is None else teacher.layers)
    max_length = section.max_length or (teacher_spec.max_length if teacher_spec else DEFAULT_MAX_LENGTH)
    origin = Origin(
        teacher=teacher,
        layer_map=layer_map,
        tokens=tokens,
        texts=texts,
        labels=tuple(labels),
        positive=positive,
        pairs=pairs,
        max_length=max_length,
    )
    module = FAMILIES[section.kind].build(section, origin)
    spec = ModelSpec(
        task=task,
        two_texts=pairs,
        labels=tuple(labels),
        positive=positive,
        max_length=max_length,
        inputs=module.input_names,
        pad_id=tokens.pad_id,
        separator=teacher_spec.separator if teacher_spec and section.vocabulary.train is None else "",
        similarity=module.similarity,
        student={
            "section": section.model_dump(mode="json"),
            "vocabulary": tokens.size,
            "special_ids": list(tokens.special_ids),
        },
    )
    teacher_width = teacher.width if teacher is not None else 0
    projections = nn.ModuleList(nn.Linear(module.width, teacher_width) for _ in layer_map)
    return Built(module, spec, tokens, layer_map, projections)


def describe(built: Built, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Sizes, and what the vocabulary covers in each split."""
    embedding = sum(m.weight.numel() for m in built.module.modules() if isinstance(m, nn.Embedding))
    total = parameter_count(built.module)
    return {
        "parameters": total,
        "parameters_without_embeddings": total - embedding,
        "layer_map": list(built.layer_map),
        "vocabulary": built.tokens.report
        | {split: unknown_rate(built.tokens.tokenizer_json, rows) for split, rows in texts.items()},
    }


def save_student(module: TextModel, spec: ModelSpec, tokenizer_json: str, out: Path) -> None:
    """Write weights, model.json, tokenizer.json (and config.json of a transformer) into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    FAMILIES[_section(spec, out).kind].save(module, out)
    said = spec.model_copy(update={"similarity": module.similarity})
    (out / SPEC).write_text(said.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (out / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")


def load_student(folder: Path) -> tuple[TextModel, ModelSpec, str]:
    """Module in evaluation mode, model.json and tokenizer.json of a student folder.

    Raises:
        IntegrityError: the folder is not a student's.
    """
    spec_path = folder / SPEC
    if not spec_path.is_file():
        raise IntegrityError(f"{folder} is not a student folder: it has no {SPEC}; give the `student` folder of a run")
    spec = ModelSpec.model_validate_json(spec_path.read_bytes())
    section = _section(spec, folder)
    module = FAMILIES[section.kind].load(section, spec, folder)
    return module.eval(), spec, (folder / TOKENIZER).read_text(encoding="utf-8")


def _section(spec: ModelSpec, folder: Path) -> Student:
    """The recipe section in a student's model.json."""
    if spec.student is None:
        raise IntegrityError(
            f"{folder / SPEC} does not say how the student was built; give the `student` folder of a run"
        )
    section: Student = TypeAdapter(Student).validate_python(spec.student["section"])
    return section

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
from compress.progress import reporter
from compress.recipe import MobileStudent, Student, TransformerStudent
from compress.students.mobile import MobileEncoder
from compress.students.transformer import build_anew, cut_from_teacher, load_transformer
from compress.students.vocabulary import StudentTokens, prune, train, unknown_rate, whole
from compress.text_model import TextModel, TransformerClassifier, parameter_count

DEFAULT_WIDTH = 384
DEFAULT_MAX_LENGTH = 128
WEIGHTS = "model.safetensors"
EMBEDDING_STD = 0.05


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


def spread(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Evenly spread teacher layers, the last one included: 3 of 6 -> (2, 4, 6)."""
    return tuple(max(1, round((i + 1) * teacher_layers / student_layers)) for i in range(student_layers))


def layer_map_of(section: Student, teacher_layers: int | None) -> tuple[int, ...]:
    """The layer map of a recipe; () without a teacher model.

    Raises:
        RecipeError: a layer that the teacher does not have.
    """
    if teacher_layers is None:
        return ()
    count = section.layers if isinstance(section, TransformerStudent) else section.blocks
    if section.layer_map is None:
        if isinstance(section, TransformerStudent) and section.init == "teacher" and count > teacher_layers:
            raise RecipeError(
                f"student.layers is {count}, but the teacher has only {teacher_layers} to cut from; "
                "set fewer, or init: random"
            )
        return spread(count, teacher_layers)
    too_high = [layer for layer in section.layer_map if layer > teacher_layers]
    if too_high:
        raise RecipeError(f"student.layer_map names layer {too_high[0]}, but the teacher has {teacher_layers} layers")
    return tuple(section.layer_map)


def student_tokens(section: Student, teacher_json: str | None, pad_id: int, texts: Sequence[str]) -> StudentTokens:
    """The student's tokenizer, with a report of what it covers of the texts."""
    if section.vocabulary.train is not None:
        return train(texts, section.vocabulary.train, teacher_json)
    if teacher_json is None:
        raise RecipeError("student.vocabulary: there is no teacher model to take tokens from; set vocabulary.train")
    if section.vocabulary.keep is not None:
        return prune(teacher_json, pad_id, texts, section.vocabulary.keep)
    return whole(teacher_json, pad_id)


def build_student(
    section: Student,
    *,
    teacher: TransformerClassifier | None,
    teacher_spec: ModelSpec | None,
    tokens: StudentTokens,
    task: str,
    labels: Sequence[str],
    positive: str | None,
    seed: int,
    two_texts: bool | None = None,
) -> Built:
    """Build a student and start it as the recipe says; the same seed gives the same weights.

    two_texts: whether it reads two; None for what the kind of task always has.
    """
    pairs = task in TWO_TEXTS if two_texts is None else two_texts
    torch.manual_seed(seed)
    layer_map = layer_map_of(section, None if teacher is None else teacher.layers)
    max_length = section.max_length or (teacher_spec.max_length if teacher_spec else DEFAULT_MAX_LENGTH)
    module: TextModel
    if isinstance(section, MobileStudent):
        module = MobileEncoder(
            section,
            vocabulary=tokens.size,
            classes=len(labels),
            pairs=pairs,
            special_ids=tokens.special_ids,
        )
        _start_embeddings(module.embedding, section.init, teacher, tokens)
    elif section.init == "teacher" and teacher is not None:
        module = cut_from_teacher(section, teacher, tokens, layer_map)
    else:
        width = teacher.width if teacher is not None else DEFAULT_WIDTH
        module = build_anew(section, tokens, labels=labels, max_length=max_length, default_width=width)
    spec = ModelSpec(
        task=task,
        two_texts=pairs,
        labels=tuple(labels),
        positive=positive,
        max_length=max_length,
        inputs=module.input_names,
        pad_id=tokens.pad_id,
        separator=teacher_spec.separator if teacher_spec and section.vocabulary.train is None else "",
        student={
            "section": section.model_dump(mode="json"),
            "vocabulary": tokens.size,
            "special_ids": list(tokens.special_ids),
        },
    )
    teacher_width = teacher.width if teacher is not None else 0
    projections = nn.ModuleList(nn.Linear(module.width, teacher_width) for _ in layer_map)
    return Built(module, spec, tokens, layer_map, projections)


def _start_embeddings(
    embedding: nn.Embedding, init: str, teacher: TransformerClassifier | None, tokens: StudentTokens
) -> None:
    """The teacher's token embeddings reduced to the student's width by PCA, scaled to a common size."""
    nn.init.normal_(embedding.weight, std=EMBEDDING_STD)
    if init != "teacher" or teacher is None:
        return
    source = teacher.model.get_input_embeddings().weight.data
    known = tokens.teacher_ids >= 0
    if known.sum() <= embedding.embedding_dim:  # too few to span the width
        reporter.warn(
            f"student.init: teacher: only {known.sum()} of its tokens are the teacher's, too few for a width of "
            f"{embedding.embedding_dim}; the embeddings are drawn at random"
        )
        return
    rows = source[torch.from_numpy(tokens.teacher_ids[known])]
    rows = rows - rows.mean(0)
    if embedding.embedding_dim < rows.shape[1]:
        _, _, basis = torch.linalg.svd(rows, full_matrices=False)
        rows = rows @ basis[: embedding.embedding_dim].T
    reduced = rows[:, : embedding.embedding_dim]
    weight = embedding.weight.data
    weight[torch.from_numpy(known.nonzero()[0]), : reduced.shape[1]] = reduced * (EMBEDDING_STD / reduced.std())


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
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    if isinstance(module, TransformerClassifier):
        module.model.save_pretrained(out, safe_serialization=True)
    else:
        save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, out / WEIGHTS)
    (out / SPEC).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (out / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")


def load_student(folder: Path) -> tuple[TextModel, ModelSpec, str]:
    """Module in evaluation mode, model.json and tokenizer.json of a student folder.

    Raises:
        IntegrityError: the folder is not a student's.
    """
    from safetensors.torch import load_file

    spec_path = folder / SPEC
    if not spec_path.is_file():
        raise IntegrityError(f"{folder} is not a student folder: it has no {SPEC}; give the `student` folder of a run")
    spec = ModelSpec.model_validate_json(spec_path.read_bytes())
    if spec.student is None:
        raise IntegrityError(f"{spec_path} does not say how the student was built; give the `student` folder of a run")
    section: Student = TypeAdapter(Student).validate_python(spec.student["section"])
    module: TextModel
    if isinstance(section, TransformerStudent):
        module = load_transformer(folder, spec.inputs)
    else:
        module = MobileEncoder(
            section,
            vocabulary=spec.student["vocabulary"],
            classes=len(spec.labels),
            pairs=spec.two_texts,
            special_ids=spec.student["special_ids"],
        )
        module.load_state_dict(load_file(folder / WEIGHTS))
    return module.eval(), spec, (folder / TOKENIZER).read_text(encoding="utf-8")

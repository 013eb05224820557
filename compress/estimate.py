"""How long a run takes and how much disk, from sizes alone: orders of magnitude, with what they assume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.batch import Examples, Splits
from compress.recipe import (
    HuggingFaceTeacher,
    OneTeacher,
    Recipe,
    ScoresTeacher,
    SeveralTeachers,
    TensorRTExport,
    is_plain,
    lead_of,
    teachers_of,
)
from compress.teachers.arrays import estimate_bytes, kept_classes

SAMPLE = 2000
"""Rows whose words are counted."""
TOKENS_A_WORD = 1.4
TRAIN_SECONDS = (0.00125, 0.000138)
"""Seconds a row = first + second · tokens: MiniLM, bf16, 2 cores: 250 rows/s at 20 tokens, 60 at 112."""
ANSWER_SECONDS = (0.000145, 0.0000483)
"""The same for the teacher's answers: 900 rows/s at 20 tokens, 180 at 112."""
TRAIN_LEAST = 0.25
"""A training row takes at least this share of MiniLM's time: small students are bound by overhead and embeddings."""
LATENCY_SECONDS = 0.00035
"""Seconds a token, one request on one thread, MiniLM in onnxruntime."""
MINILM_BODY = 10_600_000
"""Parameters of MiniLM outside its embeddings: what arithmetic is spent on."""
UNKNOWN_TEACHER = {"parameters": 110_000_000, "layers": 12, "hidden": 768}
ADAM_COPIES = 4
"""fp32 weights, best weights and AdamW's two moments in a checkpoint."""
FAKE_COST = 1.5
"""Of a step under fake quantization, about, as a multiple of one without."""


@dataclass(frozen=True)
class Size:
    """A model: all parameters, and those outside the embeddings."""

    parameters: int
    body: int

    @property
    def ratio(self) -> float:
        """Arithmetic of a token, as a multiple of MiniLM's; the smallest models are bound by overhead."""
        return max(self.body / MINILM_BODY, 0.03)

    @property
    def bytes(self) -> int:
        """Bytes of its weights in float32."""
        return 4 * self.parameters


def mean_tokens(examples: Examples, max_length: int) -> float:
    """Tokens of a row, about: 1.4 a word or 1 a Chinese, Japanese or Korean character, and special ones."""
    step = max(1, len(examples) // SAMPLE)
    rows = range(0, len(examples), step)
    lengths = []
    for row in rows:
        texts = [examples.texts[row]] + ([examples.pairs[row]] if examples.pairs is not None else [])
        lengths.append(min(max_length, sum(_tokens(text) for text in texts) + 1 + len(texts)))
    return sum(lengths) / max(len(lengths), 1)


def teacher_size(found: dict[str, Any]) -> Size:
    """Size of the teacher from what `check_teacher` says; a BERT-base where it is not known yet."""
    known = {key: found.get(key) or UNKNOWN_TEACHER[key] for key in UNKNOWN_TEACHER}
    parameters = int(known["parameters"])
    return Size(parameters, min(12 * int(known["layers"]) * int(known["hidden"]) ** 2, parameters))


def student_size(recipe: Recipe, found: dict[str, Any]) -> Size:
    """Size of the student from its section and, where that says nothing, the teacher's."""
    section = recipe.student
    teacher = teacher_size(found)
    hidden = int(found.get("hidden") or UNKNOWN_TEACHER["hidden"])
    pieces = section.vocabulary.keep or section.vocabulary.train or (teacher.parameters - teacher.body) // hidden
    body = section.body_parameters(hidden)
    return Size((pieces + section.further_embeddings) * section.embedding_width(hidden) + body, body)


def cache_bytes(recipe: Recipe, found: dict[str, Any], splits: Splits) -> int:
    """Bytes of the teacher's outputs: fp16 logits, and hidden states where a loss wants them.

    What is made of several answers takes room beside them, and they have all logits: the largest are chosen last.
    """
    rows, classes = len(splits.transfer), len(splits.labels)
    layers, top_k = (
        recipe.student.depth if recipe.distill.wants_hidden else 0,
        kept_classes(recipe.distill.top_k, classes),
    )
    if is_plain(recipe.teacher) and not recipe.teacher.calibrate:
        return estimate_bytes(rows, classes, layers, _width(found), top_k)
    needed, lead = estimate_bytes(rows, classes, 0, 0, top_k), lead_of(recipe.teacher)
    for section, facts in _facts(recipe, found):
        if isinstance(section, HuggingFaceTeacher):
            needed += estimate_bytes(rows, classes, layers if section is lead else 0, _width(facts))
            needed += estimate_bytes(len(splits.train), classes, 0, 0) if _folds(section) else 0
    return needed


def _width(found: dict[str, Any]) -> int:
    return int(found.get("hidden") or UNKNOWN_TEACHER["hidden"])


def stages(recipe: Recipe, found: dict[str, Any], splits: Splits, tokens: float, read: float) -> list[dict[str, Any]]:
    """Each stage that the run will make, by its name there: rows, seconds, bytes and what it does, in order.

    tokens: of a row, as the student reads it. read: the same for the teacher, which may read more columns.
    """
    teacher, student = teacher_size(found), student_size(recipe, found)
    train, transfer = len(splits.train), len(splits.transfer)
    epochs = sum(stage.epochs for stage in recipe.distill.stages)
    distilling = epochs * (transfer * _train(student, tokens) + len(splits.validation) * _answer(student, tokens))
    beside = sum(recipe.distill.stages[number].epochs for number in recipe.distill.relation_stages)
    asking = beside * transfer * _answer(teacher, tokens)
    rows = [
        _stage("baseline", train, 2 + train * tokens / 15_000, 0, "TF-IDF or overlap features, scikit-learn"),
        _teacher_stage(recipe, found, splits, read),
        _outputs_stage(recipe, found, splits, read),
    ]
    names = ", ".join(stage.name for stage in recipe.distill.stages)
    what = f"{names}; at most {epochs} epochs, {student.parameters / 1e6:.1f}M parameters"
    rows.append(_stage("student", transfer, distilling + asking, ADAM_COPIES * student.bytes, what))
    if recipe.distill.control:
        what = "the same student on hard labels, as many steps"
        rows.append(_stage("control", train, distilling, ADAM_COPIES * student.bytes, what))
    rows.append(_stage("onnx", None, 15, teacher.bytes + student.bytes, "ONNX of teacher and student, parity"))
    rows += _aware_stage(recipe, student, splits, tokens)
    rows.append(_quantized_stage(recipe, found, splits, tokens, read))
    rows += _engines_stage(recipe, student)
    rows.append(
        _stage("bench", *_bench(recipe, teacher, student, tokens, read), "teacher, student, shipped take turns")
    )
    rows.append(_stage("bundle", None, 3, student.bytes // 3, f"{recipe.name}.kdc"))
    return rows


def assumptions() -> list[str]:
    """What the estimate takes for granted."""
    return [
        f"{TOKENS_A_WORD} tokens a word; every epoch is run (early stopping makes it shorter)",
        "a 2-core machine with bf16: training 22M parameters 250 rows/s at 20 tokens, 60 at 112; "
        "its answers 900 and 180 rows/s; other sizes in proportion",
    ]


def _facts(recipe: Recipe, found: dict[str, Any]) -> list[tuple[OneTeacher, dict[str, Any]]]:
    """Each teacher with what `check_teacher` says of it."""
    facts = found.get("members", [found])
    return [(section, each) for (_, section), each in zip(teachers_of(recipe.teacher), facts, strict=True)]


def _folds(section: OneTeacher) -> int:
    train = section.train if isinstance(section, HuggingFaceTeacher) else None
    return 0 if train is None or train.folds is None else train.folds


def _teacher_stage(recipe: Recipe, found: dict[str, Any], splits: Splits, tokens: float) -> dict[str, Any]:
    each = [_one_teacher(section, teacher_size(facts), splits, tokens) for section, facts in _facts(recipe, found)]
    rows = max(count for count, *_ in each)
    seconds, disk = sum(part[1] for part in each), sum(part[2] for part in each)
    return _stage("teacher", rows, seconds, disk, "; ".join(part[3] for part in each))


def _one_teacher(section: OneTeacher, size: Size, splits: Splits, tokens: float) -> tuple[int, float, int, str]:
    """Rows, seconds, bytes and what is done, of one teacher and the models of its folds."""
    held_out = len(splits.validation) + len(splits.test)
    if isinstance(section, ScoresTeacher):
        return held_out, 1, 0, f"its scores in {section.path}, measured on validation and test"
    measuring = held_out * _answer(size, tokens)
    if section.train is None:
        return held_out, measuring, size.bytes, f"{section.model}, measured on validation and test"
    folds, validating = _folds(section), len(splits.validation) * _answer(size, tokens)
    # Each of K folds is learned by K - 1 models.
    learning = len(splits.train) * _train(size, tokens) * (1 + max(folds - 1, 0))
    seconds = (1 + folds) * measuring + section.train.epochs * (learning + (1 + folds) * validating)
    what = f"fine-tune {section.model}, at most {section.train.epochs} epochs"
    what += f", and {folds} more on all but a fold each" if folds else ""
    return len(splits.train), seconds, (ADAM_COPIES + folds) * size.bytes, what


def _outputs_stage(recipe: Recipe, found: dict[str, Any], splits: Splits, tokens: float) -> dict[str, Any]:
    rows, disk = len(splits.transfer), cache_bytes(recipe, found, splits)
    if lead_of(recipe.teacher) is None:
        return _stage("outputs", rows, 1, disk, "the score of each row")
    seconds = 0.0
    for section, facts in _facts(recipe, found):
        if isinstance(section, HuggingFaceTeacher):
            again = len(splits.train) if _folds(section) else 0
            again += len(splits.validation) if recipe.teacher.calibrate else 0
            seconds += (rows + again) * _answer(teacher_size(facts), tokens)
    several = isinstance(recipe.teacher, SeveralTeachers)
    what = "each teacher answers each row once" if several else "the teacher answers each row once"
    return _stage("outputs", rows, seconds, disk, what)


def _aware_stage(recipe: Recipe, student: Size, splits: Splits, tokens: float) -> list[dict[str, Any]]:
    section, rows = recipe.quantize.learning, len(splits.transfer)
    if section is None:
        return []
    epoch = FAKE_COST * rows * _train(student, tokens) + len(splits.validation) * _answer(student, tokens)
    what = f"the student learns to be rounded to {recipe.quantize.bits} bits; at most {section.epochs} epochs"
    return [_stage("aware", rows, section.epochs * epoch, ADAM_COPIES * student.bytes, what)]


def _quantized_stage(
    recipe: Recipe, found: dict[str, Any], splits: Splits, tokens: float, read: float
) -> dict[str, Any]:
    student, rows = student_size(recipe, found), len(splits.test)
    answers = 2 * _answer(student, tokens)
    for section, facts in _facts(recipe, found):
        answers += _answer(teacher_size(facts), read) if isinstance(section, HuggingFaceTeacher) else 0
    what = f"int{recipe.quantize.bits}, parity on validation; certificate: all models on test"
    return _stage("quantized", rows, 10 + rows * answers, student.bytes // 3, what)


def _engines_stage(recipe: Recipe, student: Size) -> list[dict[str, Any]]:
    asked = [export for export in recipe.export if isinstance(export, TensorRTExport)]
    if not asked:
        return []
    count = sum(max(len(export.gpus), 1) for export in asked)
    what = "; ".join(" ".join([export.to, export.precision, *export.gpus]) for export in asked)
    return [_stage("engines", None, 60 * count, count * student.bytes, what)]


def _bench(recipe: Recipe, teacher: Size, student: Size, tokens: float, read: float) -> tuple[int, float, int]:
    requests = recipe.bench.requests
    once = LATENCY_SECONDS * (read * teacher.ratio + 1.5 * tokens * student.ratio)
    runs = len(recipe.bench.threads) * len(recipe.bench.scenarios)
    return requests, 10 + runs * requests * once, 0


def _stage(name: str, rows: int | None, seconds: float, disk: int, what: str) -> dict[str, Any]:
    return {"stage": name, "rows": rows, "seconds": round(seconds, 1), "disk_bytes": disk, "what": what}


def _train(size: Size, tokens: float) -> float:
    return _seconds(TRAIN_SECONDS, max(size.ratio, TRAIN_LEAST), tokens)


def _answer(size: Size, tokens: float) -> float:
    return _seconds(ANSWER_SECONDS, size.ratio, tokens)


def _seconds(rate: Sequence[float], ratio: float, tokens: float) -> float:
    return (rate[0] + rate[1] * tokens) * ratio


def _tokens(text: str) -> int:
    wide = sum("\u3040" <= character <= "\ud7ff" for character in text)
    return wide + math.ceil(TOKENS_A_WORD * (len(text.split()) if not wide else 0))

"""The student that all deploy paths start from: a finished run's transformer as a Hugging Face folder, and its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.artifacts import TOKENIZER, ModelSpec, read_artifact
from compress.batch import Examples, Floats, Ints
from compress.data.encode import encode_examples
from compress.data.load import load_splits
from compress.distill.judge import Judge
from compress.errors import DataError, RecipeError
from compress.predict import predict_logits
from compress.progress import reporter
from compress.recipe import Recipe
from compress.recipe.file import load_recipe
from compress.runtime.predictor import Request
from compress.runtime.text import TextEncoder
from compress.steps.context import requests_of
from compress.students.build import load_student
from compress.text_model import TextModel, TransformerClassifier

CALIBRATION_ROWS = 300
NEEDED = ("student", "onnx", "quantized")
"""Stages of a run without which there is nothing to compare."""

Cell = tuple[int, int]
"""Batch and length in tokens."""


@dataclass(frozen=True)
class Subject:
    """A float student and what deploy paths are measured with.

    judge, validation, test: measures, and the rows that they are taken on. reference: the student's own logits in
    torch, float32 [N, C], for `validation` (None for tasks without a threshold) and `test`. hub: the student as a
    Hugging Face folder with its tokenizer. calibration: training rows as a JSON list, each input name -> token ids.
    positions: tokens that the model can read at the most. shape: its layers, and how wide they are.
    """

    folder: Path
    recipe: Recipe
    spec: ModelSpec
    judge: Judge
    encoder: TextEncoder
    validation: Examples
    test: Examples
    reference: dict[str, Floats]
    hub: Path
    calibration: Path
    positions: int
    shape: tuple[int, int]

    def requests(self, split: str) -> list[Request]:
        """The rows of a split as a device is asked."""
        return requests_of(self.validation if split == "validation" else self.test)

    def quality(self, logits: Mapping[str, Floats]) -> float:
        """The task's metric on `test`, with the threshold that suits the same model's answers to `validation`."""
        kind, threshold = self.judge.kind, None
        if "validation" in logits:
            threshold = kind.threshold(kind.scores(logits["validation"]), self.validation)
        return kind.measure(kind.scores(logits["test"]), self.test, threshold)[self.judge.metric]

    def feeds(self, cell: Cell, count: int) -> list[dict[str, Ints]]:
        """Batches of real texts' token ids, each row of exactly so many tokens: cut, or repeated until they suffice."""
        batch, length = cell
        size = min(len(self.test), batch * count)
        ids, types, _ = self.encoder.encode(*_texts(self.test.take(np.arange(size))))
        rows = [tiled(ids[i % size], types[i % size], length) for i in range(batch * count)]
        made = []
        for start in range(0, len(rows), batch):
            ids_of, types_of = (np.stack(part) for part in zip(*rows[start : start + batch], strict=True))
            named = {"input_ids": ids_of, "attention_mask": np.ones_like(ids_of), "token_type_ids": types_of}
            made.append({name: named[name] for name in self.spec.inputs})
        return made


def tiled(ids: Sequence[int] | Any, types: Sequence[int] | Any, length: int) -> tuple[Ints, Ints]:
    """A row between its first and last token cut to the length, or repeated up to it; int64 [length] each."""
    inner = np.arange(1, max(len(ids) - 1, 2))
    places = np.concatenate([[0], np.resize(inner, length - 2), [len(ids) - 1]])
    return np.asarray(ids, np.int64)[places], np.sort(np.asarray(types, np.int64)[places])


def open_subject(folder: Path, work: Path, *, rows: int, overrides: Sequence[str] = ()) -> Subject:
    """Read a finished run and write its student the way peers take it.

    Args:
        folder: of the run. work: folder for what is made, kept as long as the subject. rows: of each split that are
            measured, its first ones. overrides: `key.path=value` for the recipe.

    Raises:
        DataError: the run is not finished.
        RecipeError: its student is no BERT classifier.
    """
    missing = [name for name in NEEDED if read_artifact(folder / name) is None]
    if missing:
        raise DataError(f"{folder} has no finished {', '.join(missing)}; give the folder of a run that went to its end")
    loaded = load_recipe(folder / "recipe.yaml", overrides)
    module, spec, tokenizer_json = load_student(folder / "student")
    hub = work / "hub"
    bert = _bert(module)
    _write_hub(bert, spec, folder / "student" / TOKENIZER, hub)
    splits = load_splits(loaded, work / "data")
    judge = Judge(splits, loaded.recipe.task)
    encoder = TextEncoder(
        tokenizer_json, max_length=spec.max_length, separator=spec.separator, pad_id=spec.pad_id, parallel=False
    )
    parts = {"test": _first(splits.test, rows)}
    if spec.threshold is not None:
        parts["validation"] = _first(splits.validation, rows)
    reporter.say(f"the student in torch on {len(parts['test']):,} rows")
    encoded = {name: encode_examples(encoder, part) for name, part in parts.items()}
    cpu = torch.device("cpu")
    return Subject(
        folder=folder,
        recipe=loaded.recipe,
        spec=spec,
        judge=judge,
        encoder=encoder,
        validation=parts.get("validation", splits.validation),
        test=parts["test"],
        reference={name: predict_logits(module, part, cpu) for name, part in encoded.items()},
        hub=hub,
        calibration=_write_calibration(encoder, splits.train, spec, loaded.recipe.seed, work),
        positions=int(bert.config.max_position_embeddings),
        shape=(module.layers, module.width),
    )


def _first(rows: Examples, count: int) -> Examples:
    return rows.take(np.arange(min(count, len(rows))))


def _texts(rows: Examples) -> tuple[list[str], list[str] | None]:
    return list(rows.texts), None if rows.pairs is None else list(rows.pairs)


def _bert(module: TextModel) -> Any:
    """The student as transformers has it."""
    from transformers import BertForSequenceClassification

    if not isinstance(module, TransformerClassifier) or not isinstance(module.model, BertForSequenceClassification):
        raise RecipeError(
            f"the student is a {type(getattr(module, 'model', module)).__name__}, and peers are compared on a "
            "BertForSequenceClassification; give a run whose student is a transformer cut from a BERT or built anew"
        )
    return module.model


def _write_hub(bert: Any, spec: ModelSpec, tokenizer: Path, hub: Path) -> None:
    """The student as `save_pretrained` writes it, with its tokenizer unchanged."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    bert.save_pretrained(hub)
    pad = Tokenizer.from_file(str(tokenizer)).id_to_token(spec.pad_id)
    PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer), pad_token=pad, model_max_length=spec.max_length
    ).save_pretrained(hub)


def _write_calibration(encoder: TextEncoder, train: Examples, spec: ModelSpec, seed: int, work: Path) -> Path:
    """Training rows drawn at random, each of its own length."""
    count = min(CALIBRATION_ROWS, len(train))
    picked = np.sort(np.random.default_rng(seed).choice(len(train), count, replace=False))
    ids, types, _ = encoder.encode(*_texts(train.take(picked)))
    rows = []
    for row, kinds in zip(ids, types, strict=True):
        named = {"input_ids": row.tolist(), "attention_mask": [1] * len(row), "token_type_ids": kinds.tolist()}
        rows.append({name: named[name] for name in spec.inputs})
    path = work / "calibration.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path

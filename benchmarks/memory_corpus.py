"""A project of any size for `benchmarks.memory`: simulated titles streamed to disk, a tiny teacher, a recipe."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from compress.data.shop import BY_NAME, Speech, make_product, stream, write_title
from compress.students.vocabulary import SPECIALS, train

SEED = 7
CATEGORIES, PRODUCTS = 10, 2000
HELD_OUT = 1000
"""Rows of validation and test, whatever the size of the corpus."""
LABELLED = 2000
"""Training rows where the corpus is unlabeled."""
VOCABULARY, VOCABULARY_TEXTS = 3000, 5000
LAYERS, WIDTH, MAX_LENGTH = 2, 32, 48
CORPORA = ("unlabeled", "train")
"""Where the many rows are: in the transfer set, or among the training rows."""


def titles(split: str) -> Iterator[tuple[str, str]]:
    """Titles of the simulated shop without end, each with its category."""
    rng, speech = stream(SEED, f"memory {split}"), Speech(split, SEED)
    names = sorted(BY_NAME)[:CATEGORIES]
    products = [make_product(BY_NAME[names[n % CATEGORIES]], n // CATEGORIES, rng) for n in range(PRODUCTS)]
    while True:
        product = rng.choice(products)
        yield write_title(product, speech, rng), product.category


def write_project(folder: Path, rows: int, corpus: str) -> Path:
    """Tables, a teacher with random weights, and a recipe; returns the recipe's path."""
    sizes = {"train": LABELLED, "unlabeled": 0, "validation": HELD_OUT, "test": HELD_OUT} | {corpus: rows}
    tables = {split: _write_table(folder / f"{split}.csv", split, count) for split, count in sizes.items() if count}
    _write_teacher(folder / "teacher")
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(_recipe(tables)), encoding="utf-8")
    return recipe


def _write_table(path: Path, split: str, rows: int) -> str:
    with path.open("w", encoding="utf-8", newline="") as stream_:
        table = csv.writer(stream_)
        table.writerow(("text", "label"))
        table.writerows(islice(titles(split), rows))
    return path.name


def _write_teacher(folder: Path) -> None:
    """A BERT classifier that knows the words of the shop and nothing else."""
    found = list(islice(titles("train"), VOCABULARY_TEXTS))
    tokens = train([title for title, _ in found], VOCABULARY, None)
    names = dict(enumerate(sorted({category for _, category in found})))
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=tokens.size,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=MAX_LENGTH,
        id2label=names,
        label2id={name: at for at, name in names.items()},
    )
    BertForSequenceClassification(config).save_pretrained(folder, safe_serialization=True)
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIALS, strict=False))
    tokenizer = Tokenizer.from_str(tokens.tokenizer_json)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def _recipe(tables: dict[str, str]) -> dict[str, Any]:
    stage = {"name": "align", "epochs": 1, "learning_rate": 0.01, "losses": {"soft": 1.0, "hidden": 0.1, "hard": 0.2}}
    return {
        "name": "memory",
        "seed": SEED,
        "task": {"kind": "classification"},
        "data": {split: {"path": name} for split, name in tables.items()} | {"overlap": "drop"},
        "teacher": {"model": "teacher", "max_length": MAX_LENGTH},
        "student": {"kind": "static", "width": WIDTH, "vocabulary": {"keep": VOCABULARY // 2}},
        "distill": {"stages": [stage], "batch_size": 1024, "control": False, "precision": "fp32"},
    }

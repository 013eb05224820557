"""A whole project in a folder: data with column names of its own, teachers, recipes, and `kdc` on them."""

from __future__ import annotations

import copy
import csv
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from typer.testing import CliRunner, Result

from compress.artifacts import MANIFEST, TEMPORARY, list_files, read_artifact
from compress.cli import app

LABELS = ("küche", "schuhe", "strom")
HEAD = ("strom", "küche", "schuhe")
"""The order of the teacher's outputs, another one than the data's."""
PAIR_HEAD = ("nein", "ja")
THINGS = {
    "schuhe": ("Laufschuhe", "Trekkingstiefel", "Sandalen"),
    "strom": ("USB-C Ladegerät", "Netzteil 65 W", "Powerbank"),
    "küche": ("Wasserkocher", "Kaffeemaschine", "Bratpfanne"),
}
COLOURS = ("rot", "blau", "grün", "schwarz")
POSITIONS = 40
"""Tokens of an input of the teachers at the most."""
ROWS = {"train": 160, "validation": 48, "test": 48}
SUMMARY_KEYS = {"run", "bundle", "stages", "models", "retention", "distillation_gain", "latency", "speedup", "gates"}
"""What the summary of every run has, by contract."""


def titles(count: int, seed: int) -> list[tuple[str, str]]:
    """Product titles, each with its category."""
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(count):
        label = LABELS[generator.integers(len(LABELS))]
        words = [generator.choice(THINGS[label]), generator.choice(COLOURS), f"Modell {generator.integers(900)}"]
        drawn.append((" ".join(words), label))
    return drawn


def rows_of(task: str, count: int, seed: int) -> list[dict[str, str]]:
    """Rows of a csv file; a pair is a match when both are of one category."""
    first, second = titles(count, seed), titles(count, seed + 1000)
    rows = []
    for number, ((title, label), (offer, other)) in enumerate(zip(first, second, strict=True)):
        row = {"nr": f"{seed}-{number}", "titel": title}
        same = "ja" if label == other else "nein"
        rows.append(row | ({"kategorie": label} if task == "classification" else {"angebot": offer, "gleich": same}))
    return rows


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A csv file with the columns of its first row."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_project(folder: Path) -> Path:
    """Data and a teacher of each task: a BERT of 2 layers of width 32 that knows the words, briefly trained."""
    from tests.tiny_models import one_thread

    folder.mkdir(parents=True, exist_ok=True)
    with contextmanager(one_thread)():
        _make(folder)
    return folder


def _make(folder: Path) -> None:
    for task, head in (("classification", HEAD), ("pairs", PAIR_HEAD)):
        for seed, (split, count) in enumerate(ROWS.items()):
            write_csv(folder / f"{task}-{split}.csv", rows_of(task, count, seed))
        _bert(folder / f"teacher-{task}", head)
        _train(folder / f"teacher-{task}", task, folder / f"{task}-train.csv")


def _bert(folder: Path, head: Sequence[str]) -> None:
    """A classifier with a WordPiece vocabulary of its own, as save_pretrained writes it."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from compress.students.vocabulary import train

    tokens = train([title for title, _ in titles(400, 99)], 320, None)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=tokens.size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=POSITIONS,
        id2label=dict(enumerate(head)),
        label2id={label: i for i, label in enumerate(head)},
    )
    BertForSequenceClassification(config).save_pretrained(folder, safe_serialization=True)
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = Tokenizer.from_str(tokens.tokenizer_json)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def _train(teacher: Path, task: str, data: Path) -> None:
    """A few epochs: enough to beat chance by far on categories."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(teacher).train()
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    with data.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    second = None if task == "classification" else [row["angebot"] for row in rows]
    inputs = tokenizer([row["titel"] for row in rows], second, padding=True, return_tensors="pt")
    column = "kategorie" if task == "classification" else "gleich"
    labels = torch.tensor([model.config.label2id[row[column]] for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    torch.manual_seed(0)
    for _ in range(15):
        for picked in torch.randperm(len(rows)).split(32):
            batch = {name: values[picked] for name, values in inputs.items()}
            model(**batch, labels=labels[picked]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(teacher, safe_serialization=True)


STUDENTS: dict[str, dict[str, Any]] = {
    "transformer": {"kind": "transformer", "layers": 1, "vocabulary": {"keep": 290}},
    "mobile": {"kind": "mobile", "width": 16, "blocks": 2, "kernel": 3},
    "residual": {"kind": "residual", "width": 16, "blocks": 2},
    "static": {"kind": "static", "width": 16},
    "two-tower": {"kind": "two-tower", "layers": 1, "embedding": 16, "vocabulary": {"keep": 290}},
}
QUICK_BENCH = {"scenarios": ["single-stream"], "requests": 10, "rounds": 1}


def recipe_of(task: str, student: str = "mobile", **changes: Any) -> dict[str, Any]:
    """A recipe of one-epoch stages for a project; changes replace whole sections."""
    second = {} if task == "classification" else {"text_pair": "angebot"}
    label = "kategorie" if task == "classification" else "gleich"
    # each word is frequent in so small a vocabulary, and starts with little weight in a static student
    rate = 5e-2 if student == "static" else 5e-3
    given: dict[str, Any] = {
        "name": f"{task}-{student}",
        "seed": 3,
        "task": {"kind": task} | ({} if task == "classification" else {"positive": "ja"}),
        "data": {
            "train": {
                "path": f"{task}-train.csv",
                "columns": {"id": "nr", "text": "titel", "label": label} | second,
            },
            "validation": {"path": f"{task}-validation.csv"},
            "test": {"path": f"{task}-test.csv"},
        },
        "teacher": {"model": f"teacher-{task}", "max_length": 32},
        "student": copy.deepcopy(STUDENTS[student]),
        "distill": {
            "stages": [
                {"name": "imitate", "epochs": 1, "learning_rate": rate},
                {
                    "name": "align",
                    "epochs": 1,
                    "learning_rate": 0.6 * rate,
                    "losses": {"soft": 1.0, "hidden": 0.1, "hard": 0.5},
                },
            ],
            "batch_size": 8,
        },
        "quantize": {"max_quality_loss": 1.0, "calibration": 16},
        "bench": dict(QUICK_BENCH),
    }
    return given | changes


def write_recipe(folder: Path, recipe: Mapping[str, Any], name: str = "recipe.yaml") -> Path:
    """The recipe as a file beside the data."""
    path = folder / name
    path.write_text(yaml.safe_dump(dict(recipe), allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def kdc(*arguments: object) -> Result:
    """A command in this process; an exception that is nobody's exit code is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def kdc_json(*arguments: object) -> dict[str, Any]:
    """What a command that must end well prints with --json, which is all that it prints."""
    result = kdc(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def statuses(summary: Mapping[str, Any]) -> dict[str, str]:
    """Status of each stage."""
    return {row["stage"]: row["status"] for row in summary["stages"]}


def leftovers(folder: Path) -> list[Path]:
    """What a killed process may leave: temporaries, and unfinished work."""
    work: Iterable[Path] = folder.glob("*/.work/*")
    return [*folder.rglob(f"{TEMPORARY}*"), *work]


def copy_project(project: Path, folder: Path) -> Path:
    """The project once more, without its runs, in a new folder: to change or to damage."""
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("runs"))
    return folder


def refused(code: int, message: str, *arguments: object) -> None:
    """The command ends with the code and one sentence that matches, as text and as JSON."""
    done = kdc(*arguments)
    told = [line for line in done.stderr.splitlines() if line.startswith("kdc: ")]
    assert done.exit_code == code, done.stderr
    assert len(told) == 1
    assert done.stderr.endswith(told[0] + "\n")  # the sentence is one line, and the last one
    assert re.search(message, told[0]), told[0]
    assert done.stdout == ""
    answer = json.loads(kdc(*arguments, "--json").stdout)
    assert answer == {"error": told[0].removeprefix("kdc: "), "exit_code": code}


def published(runs: Path) -> set[str]:
    """Stages that stand in a runs folder, all of them whole."""
    for manifest in runs.glob(f"*/*/{MANIFEST}"):
        artifact = read_artifact(manifest.parent)
        assert artifact is not None
        assert artifact.files == list_files(manifest.parent)
    return {manifest.parent.name for manifest in runs.glob(f"*/*/{MANIFEST}")}

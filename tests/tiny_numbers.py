"""The smallest projects whose answers are numbers: graded offers of queries, and priced titles."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny_models import COLOURS, CORPUS, DETAILS, THINGS, bert_folder
from tests.tiny_project import QUICK_BENCH, STUDENTS, write_csv

QUERIES = {"train": range(24), "validation": range(24, 32), "test": range(32, 40)}
OFFERS = 5


def ranked_rows(split: str) -> list[dict[str, Any]]:
    """Five titles for each query: grade 2 for the same thing in the same colour, 1 for the thing, 0 for neither."""
    rows = []
    for query in QUERIES[split]:
        generator = np.random.default_rng(query)
        first = CORPUS[int(generator.integers(len(CORPUS)))]
        for offer, place in enumerate(generator.choice(len(CORPUS), OFFERS, replace=False)):
            title = first if offer == 0 else CORPUS[int(place)]
            rows.append(
                {"nr": f"{split}-{query}-{offer}", "anfrage": f"q{query}", "text": f"{first} {query}", "angebot": title}
                | {"stufe": _same(first, title)}
            )
    return rows


def _same(first: str, second: str) -> int:
    one, other = (next(thing for thing in THINGS if thing in text) for text in (first, second))
    colours = [next(colour for colour in COLOURS if text.startswith(colour)) for text in (first, second)]
    return (one == other) + (one == other and colours[0] == colours[1])


def price(title: str) -> float:
    """What a title costs: by its thing and its detail."""
    thing, detail = (next(i for i, part in enumerate(parts) if part in title) for parts in (THINGS, DETAILS))
    return 1000.0 + 40.0 * thing + 3.0 * detail


def priced_rows(split: str) -> list[dict[str, Any]]:
    """Titles with a number at their end, and their price."""
    generator = np.random.default_rng(len(split))
    count = {"train": 120, "validation": 40, "test": 40}[split]
    places = generator.integers(0, len(CORPUS), count)
    return [
        {"nr": f"{split}-{n}", "text": f"{CORPUS[place]} {split[0]}{n}", "preis": price(CORPUS[place])}
        for n, place in enumerate(places)
    ]


def make_number_project(folder: Path) -> Path:
    """Data of both tasks, and a BERT with one output."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in QUERIES:
        write_csv(folder / f"ranking-{split}.csv", ranked_rows(split))
        write_csv(folder / f"regression-{split}.csv", priced_rows(split))
    bert_folder(folder / "teacher", labels=("LABEL_0",))
    return folder


COLUMNS: dict[str, dict[str, Any]] = {
    "ranking": {"id": "nr", "group": "anfrage", "text": "text", "text_pair": "angebot", "label": "stufe"},
    "regression": {"id": "nr", "text": "text", "label": "preis"},
}
SOFT: dict[str, dict[str, float]] = {
    "ranking": {"soft": 0.1, "margin_mse": 0.1, "listwise": 1.0, "ranknet": 0.5, "lambda_rank": 0.5},
    "regression": {"soft": 1.0},
}


def number_recipe(task: str, student: str = "mobile", **changes: Any) -> dict[str, Any]:
    """A recipe of short stages for one of the two tasks; changes replace whole sections."""
    given: dict[str, Any] = {
        "name": f"tiny-{task}",
        "seed": 3,
        "task": {"kind": task},
        "data": {
            "train": {"path": f"{task}-train.csv", "columns": COLUMNS[task]},
            "validation": {"path": f"{task}-validation.csv"},
            "test": {"path": f"{task}-test.csv"},
        },
        "teacher": {
            "model": "teacher",
            "max_length": 32,
            "train": {"epochs": 3, "learning_rate": 3e-3, "head_learning_rate": 5e-3, "batch_size": 16},
        },
        "student": copy.deepcopy(STUDENTS[student]),
        "distill": {
            "stages": [
                {"name": "imitate", "epochs": 3, "learning_rate": 1e-2, "losses": SOFT[task]},
                {
                    "name": "align",
                    "epochs": 2,
                    "learning_rate": 5e-3,
                    "losses": SOFT[task] | {"hidden": 0.1, "hard": 0.5},
                },
            ],
            "batch_size": 16,
        },
        "quantize": {"max_quality_loss": 1.0, "calibration": 16},
        "bench": dict(QUICK_BENCH),
    }
    return given | changes

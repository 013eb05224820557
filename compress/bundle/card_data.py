"""What the model card says to machines: the YAML before it, as the Hugging Face hub reads it.

Fields: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

KNOWN_LICENSES: frozenset[str] = frozenset(
    (
        *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0"),
        *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
        *("cc-by-nc-nd-4.0", "cdla-permissive-2.0", "odbl", "odc-by", "openrail", "unlicense"),
    )
)
"""Licences that the hub knows by an identifier."""
PIPELINES = {"classification": "text-classification", "pairs": "text-classification", "ranking": "text-ranking"}
"""Kind of task -> the hub's name of what the model does; it has none for one number of a text."""
AVERAGES = {"macro_f1": "macro", "weighted_f1": "weighted"}
"""Measures that the hub calls f1, and how they average over labels."""
SHIPPED = "shipped"


def card_data(
    name: str, task: str, *, metrics: Mapping[str, Any], licenses: Sequence[str], datasets: Sequence[str]
) -> str:
    """The block of YAML with the lines of dashes around it; the same input gives the same text.

    Args:
        metrics: measure -> number, or model -> measure -> number, of which the shipped model's are told.
        licenses: names of licence files. One that the hub knows is named alone; several, or others, are `other`.
        datasets: ids on the hub of what it learned from.
    """
    measured = metrics.get(SHIPPED, metrics)
    numbers = {
        key: value
        for key, value in measured.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    data = {
        "library_name": "kdc",
        **_license(licenses),
        **({"pipeline_tag": PIPELINES[task]} if task in PIPELINES else {}),
        "tags": ["kdc", "knowledge-distillation", "onnx", task],
        **({"datasets": list(datasets)} if datasets else {}),
        **({"metrics": sorted({_metric_type(key) for key in numbers})} if numbers else {}),
        **({"model-index": [_index(name, task, numbers, datasets)]} if numbers else {}),
    }
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=math.inf)}---\n"


def _license(files: Sequence[str]) -> dict[str, str]:
    if not files:
        return {"license": "unknown"}
    known = {file.lower() if file.lower() in KNOWN_LICENSES else PurePath(file).stem.lower() for file in files}
    if len(known) == 1 and known <= KNOWN_LICENSES:
        return {"license": known.pop()}
    names = ", ".join(sorted(PurePath(file).stem for file in files))
    return {"license": "other", "license_name": names, "license_link": "LICENSES"}


def _metric_type(name: str) -> str:
    return "f1" if name in AVERAGES else name.partition("@")[0]


def _index(name: str, task: str, numbers: Mapping[str, float], datasets: Sequence[str]) -> dict[str, Any]:
    metrics = [
        {"type": _metric_type(key), "value": value, "name": key}
        | ({"args": {"average": AVERAGES[key]}} if key in AVERAGES else {})
        for key, value in numbers.items()
    ]
    tested = datasets[0] if datasets else name
    return {
        "name": name,
        "results": [
            {
                "task": {"type": PIPELINES.get(task, task), "name": task},
                "dataset": {"type": tested, "name": f"test rows of the recipe {name}", "split": "test"},
                "metrics": metrics,
            }
        ],
    }

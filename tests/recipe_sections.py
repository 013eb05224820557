"""Sections of recipes that tests give, and the sentence that refuses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.errors import RecipeError
from compress.recipe.file import resolve

MINIMAL: dict[str, Any] = {
    "name": "shop",
    "task": {"kind": "classification"},
    "data": {"train": {"path": "train.csv", "columns": {"text": "title", "label": "category"}}},
    "teacher": {"model": "teacher"},
    "student": {"kind": "transformer"},
}


def refused_section(**sections: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        resolve({**MINIMAL, **sections}, Path("r.yaml"))
    return str(caught.value)


def stage(**fields: Any) -> dict[str, Any]:
    return {"distill": {"stages": [{"name": "a", **fields}]}}


NUMBERS = {"task": {"kind": "regression"}}

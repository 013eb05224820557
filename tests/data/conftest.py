"""A recipe over small files, and what `load_splits` makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.batch import Splits
from compress.data.load import load_splits
from compress.recipe import LoadedRecipe, Recipe

Load = Callable[..., Splits]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load the splits of a recipe that stands in `tmp_path`; its data section is given, the task may be."""

    def run(data: dict[str, Any], task: dict[str, Any] | None = None, seed: int = 7) -> Splits:
        recipe = Recipe.model_validate(
            {
                "name": "test",
                "seed": seed,
                "task": {"kind": "classification", **(task or {})},
                "data": data,
                "teacher": {"model": "none"},
                "student": {"kind": "mobile"},
            }
        )
        return load_splits(LoadedRecipe(recipe=recipe, path=tmp_path / "recipe.yaml"), tmp_path / "cache")

    return run


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Twelve good rows in train.csv and two in test.csv and validation.csv; returns their folder."""
    rows = [f"{kind} number {n},{kind}" for n in range(6) for kind in ("shoe", "lamp")]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    for name in ("test", "validation"):
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name} shoe,shoe\n{name} lamp,lamp\n")
    return tmp_path

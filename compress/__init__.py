"""kdc: distil a trained model into a small student, measure it, ship it. Importing this imports no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.pipeline import run as run
    from compress.recipe import Recipe as Recipe
    from compress.recipe.file import load_recipe as load_recipe
    from compress.runtime.predictor import Predictor as Predictor

__version__ = "0.2.0"

_HOMES = {
    "Predictor": "compress.runtime.predictor",
    "Recipe": "compress.recipe",
    "load_recipe": "compress.recipe.file",
    "run": "compress.pipeline",
}

__all__ = ["Predictor", "Recipe", "__version__", "load_recipe", "run"]  # names are loaded lazily


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compress' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

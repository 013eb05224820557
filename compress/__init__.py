"""kdc: distil a trained model into a small student, measure it, ship it. Importing this imports no torch."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.pipeline import run as run
    from compress.recipe import Recipe as Recipe
    from compress.recipe.file import load_recipe as load_recipe
    from compress.runtime.answers import Answer as Answer
    from compress.runtime.answers import Score as Score
    from compress.runtime.loaded import LoadedBundle as LoadedBundle
    from compress.runtime.loaded import load as load
    from compress.runtime.predictor import Predictor as Predictor
    from compress.runtime.predictor import Request as Request

__version__ = "0.2.0"

# From 1.29 on onnxruntime reports models and their use to its makers unless this is set before it is imported, and
# Hugging Face's hub client adds who asks to its requests. A user's own setting stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

_HOMES = {
    "Answer": "compress.runtime.answers",
    "LoadedBundle": "compress.runtime.loaded",
    "Predictor": "compress.runtime.predictor",
    "Recipe": "compress.recipe",
    "Request": "compress.runtime.predictor",
    "Score": "compress.runtime.answers",
    "load": "compress.runtime.loaded",
    "load_recipe": "compress.recipe.file",
    "run": "compress.pipeline",
}

__all__ = [  # names are loaded lazily
    "Answer",
    "LoadedBundle",
    "Predictor",
    "Recipe",
    "Request",
    "Score",
    "__version__",
    "load",
    "load_recipe",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compress' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

"""What a finished run's models are asked: the rows of its test split, as a device is asked them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from compress.data.load import load_splits
from compress.errors import DataError
from compress.recipe.file import load_recipe
from compress.runtime.predictor import Request
from compress.steps.context import requests_of


def distinct_requests(run: Path, count: int, overrides: Sequence[str] = ()) -> list[Request]:
    """The first distinct requests of the test split, at most `count`.

    Args:
        run: folder of a finished run. overrides: `key.path=value` for its recipe, such as data.root=… when data moved.

    Raises:
        DataError: the folder is no run, or its data cannot be read.
    """
    recipe = run / "recipe.yaml"
    if not recipe.is_file():
        raise DataError(f"{run} has no recipe.yaml; give the folder of a finished run")
    with TemporaryDirectory(prefix="kdc-requests-") as work:
        asked = requests_of(load_splits(load_recipe(recipe, overrides), Path(work)).test)
    return list({(request.text, request.text_pair): request for request in asked}.values())[:count]

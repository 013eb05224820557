"""Licences of teacher and data, which a bundle carries below LICENSES/."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from compress.errors import DataError
from compress.recipe import LoadedRecipe


def licenses_of(loaded: LoadedRecipe) -> dict[str, str]:
    """File name -> text of the licences that a recipe names.

    Raises:
        DataError: as `read_licenses`.
    """
    names = loaded.recipe.bundle.licenses
    return read_licenses((loaded.folder / name, f"bundle.licenses.{number}") for number, name in enumerate(names))


def read_licenses(named: Iterable[tuple[Path, str]]) -> dict[str, str]:
    """File name -> text.

    Args:
        named: each file, and where it is named, for messages.

    Raises:
        DataError: a file is missing, is not text, or has the name of another one.
    """
    found: dict[str, str] = {}
    for path, where in named:
        if path.name in found:
            raise DataError(f"{where}: {path.name} is named twice; rename one of the files")
        try:
            found[path.name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{where}: {path} cannot be read as text: {error}") from error
    return found

"""The one door for optional packages."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from types import ModuleType

from compress.errors import EnvironmentProblem


def install_hint(extra: str) -> str:
    """The one command that installs an extra."""
    return f"pip install 'kdc[{extra}]'"


def available(package: str) -> bool:
    """True when the importable package is installed; nothing is imported."""
    return importlib.util.find_spec(package) is not None


def version(distribution: str) -> str | None:
    """Installed version of a distribution, or None; nothing is imported."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def require(package: str, *, extra: str, why: str) -> ModuleType:
    """Import an optional package, or say which command installs it.

    Raises:
        EnvironmentProblem: the package is not installed.
    """
    if not available(package):
        raise EnvironmentProblem(f"{why} needs the package {package!r}, which is not installed: {install_hint(extra)}")
    return importlib.import_module(package)

"""The one door for optional packages."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from types import ModuleType

from compress.errors import EnvironmentProblem

REPORTS_THROUGH = {"openvino": "openvino_telemetry", "nncf": "openvino_telemetry"}
"""Package -> the module through which it tells its makers, over the network and unasked, that it is used."""


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
    """Import an optional package, or say which command installs it. What would report its use is held back.

    Raises:
        EnvironmentProblem: the package is not installed.
    """
    if not available(package):
        raise EnvironmentProblem(f"{why} needs the package {package!r}, which is not installed: {install_hint(extra)}")
    if package in REPORTS_THROUGH:
        # None makes an import of it fail; both packages then use a stub of their own that does nothing.
        sys.modules[REPORTS_THROUGH[package]] = None  # type: ignore[assignment]  # as the import system allows
    return importlib.import_module(package)

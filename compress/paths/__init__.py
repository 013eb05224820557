"""The artifact commands on paths instead of a recipe: each function stands behind one `kdc` command."""

from __future__ import annotations

from compress.paths.convert import export_path, package_path
from compress.paths.facts import inspect_path
from compress.paths.quantize import quantize_path
from compress.paths.session import BenchOptions
from compress.paths.targets import package_target
from compress.paths.timing import bench_paths

__all__ = [
    "BenchOptions",
    "bench_paths",
    "export_path",
    "inspect_path",
    "package_path",
    "package_target",
    "quantize_path",
]

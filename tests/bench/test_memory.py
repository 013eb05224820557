"""Peak memory is that of the measured process alone, and measuring needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compress.bench import machine
from compress.bench.memory import taken
from compress.errors import EnvironmentProblem
from compress.runtime.predictor import Request
from tests.tiny import tiny_deployable, tiny_requests

PROBE = "from compress.bench.memory import own_peak_mb; import sys; print(own_peak_mb(), 'torch' in sys.modules)"


def test_a_child_does_not_inherit_the_peak_of_its_parent() -> None:
    ballast = bytearray(400_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    peak, has_torch = done.stdout.split()
    assert 1 < float(peak) < 200
    assert has_torch == "False"


def test_a_fresh_process_tells_what_it_took(tmp_path: Path) -> None:
    found = taken(tiny_deployable(tmp_path / "model"), tiny_requests())
    assert found.mapped is not None
    assert 1 < found.mapped < found.peak < 300
    assert (found.gpu, found.gpu_by) == (None, None)


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"measuring the memory of .* failed.*model\.onnx"):
        taken(tmp_path, [Request("a text")])


def test_the_machine_is_described_and_a_busy_one_is_said() -> None:
    told = machine.describe()
    assert told["cores"] >= 1
    assert told["versions"]["onnxruntime"]
    assert machine.busy_warnings(0.4, 2) == []
    assert "1.6 of 2 cores busy" in machine.busy_warnings(1.6, 2)[0]


@pytest.mark.parametrize(
    ("file", "content", "limit"),
    [("cpu.max", "150000 100000", 1.5), ("cpu.max", "max 100000", None), ("cpu/cpu.cfs_quota_us", "50000", 0.5)],
)
def test_the_control_groups_limit_is_read(tmp_path: Path, file: str, content: str, limit: float | None) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    (tmp_path / file).write_text(content)
    assert machine.cgroup_cpus(tmp_path) == limit

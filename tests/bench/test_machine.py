"""What the machine says of itself: limits, policy, throttling, energy; and start-up in a fresh process."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.bench import energy, machine, start_up
from compress.errors import EnvironmentProblem
from compress.runtime.predictor import Request
from tests.tiny import tiny_deployable


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_policy_and_boost(tmp_path: Path) -> None:
    assert machine.governor(tmp_path) is None
    assert machine.boost(tmp_path) is None
    write(tmp_path / "cpu0/cpufreq/scaling_governor", "powersave\n")
    write(tmp_path / "intel_pstate/no_turbo", "1\n")
    assert machine.governor(tmp_path) == "powersave"
    assert machine.boost(tmp_path) is False
    assert "set it to performance" in machine.policy_warnings("powersave")[0]
    assert machine.policy_warnings("performance") == machine.policy_warnings(None) == []


def test_throttling_between_two_looks(tmp_path: Path) -> None:
    for number, count in enumerate((3, 4)):
        write(tmp_path / f"cpu{number}/thermal_throttle/core_throttle_count", f"{count}\n")
    write(tmp_path / "group/cpu.stat", "usage_usec 12\nnr_periods 5\nnr_throttled 2\n")
    before = machine.throttled(tmp_path, tmp_path / "group")
    assert before == {"heat": 7, "the control group's limit": 2}
    write(tmp_path / "group/cpu.stat", "usage_usec 12\nnr_periods 9\nnr_throttled 6\n")
    (note,) = machine.throttle_notes(before, machine.throttled(tmp_path, tmp_path / "group"))
    assert note.startswith("the control group's limit slowed the processor down 4 times")
    assert machine.throttled(tmp_path / "none", tmp_path / "none") == {}


def test_energy_of_all_packages_and_behind_the_range(tmp_path: Path) -> None:
    assert energy.read_uj(tmp_path) is None
    assert energy.absent(tmp_path) == "this machine exposes no RAPL counters"
    for number, (start, span) in enumerate(((100, 1000), (990, 1000))):
        write(tmp_path / f"intel-rapl:{number}" / "energy_uj", str(start))
        write(tmp_path / f"intel-rapl:{number}" / "max_energy_range_uj", str(span))
    write(tmp_path / "intel-rapl:0:0" / "energy_uj", "5")  # cores, a part of package 0
    before = energy.read_uj(tmp_path)
    assert before == [100, 990]
    assert energy.spent_uj(before, [150, 20], tmp_path) == 50 + 30
    assert energy.absent(tmp_path) is None


def test_counters_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir(parents=True)
    assert energy.read_uj(tmp_path) is None
    assert "readable by root alone" in str(energy.absent(tmp_path))


def test_the_machine_is_described() -> None:
    found = machine.describe()
    assert {"governor", "boost", "energy", "cpu_limit", "load_average", "flags"} <= found.keys()
    assert found["energy"] == "rapl" or found["energy"].startswith("not run: ")


def test_more_threads_than_the_container_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    monkeypatch.setattr(machine, "cgroup_cpus", lambda: 1.5)
    assert "may use 1.5 cores" in machine.thread_warnings([1, 2])[0]
    assert machine.thread_warnings([1]) == []


def test_start_up_is_measured_in_a_fresh_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_up, "PROCESSES", 1)
    model = tiny_deployable(tmp_path / "model", "classification")
    assert start_up.startup_ms(model, Request("red shoes")) > 10
    with pytest.raises(EnvironmentProblem, match=r"starting .* failed"):
        start_up.startup_ms(tmp_path / "nowhere", Request("red shoes"))

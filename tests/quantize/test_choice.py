"""The automatic choice: the fastest of what is good enough, and a row for everything that was tried."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from compress.bench.results import BenchResult, Scenario
from compress.errors import DataError, EnvironmentProblem, KdcError
from compress.quantize.choice import Built, Row, choose


class Bench:
    """Candidates with a latency and a throughput each; those of no quality are refused."""

    def __init__(
        self,
        times: dict[str, tuple[float, float]],
        poor: tuple[str, ...] = (),
        mendable: dict[str, tuple[float, float]] | None = None,
    ) -> None:
        self.times, self.poor, self.mendable = times, poor, mendable or {}
        self.mended: list[str] = []
        self.rounds = 0

    def build(self, method: str) -> Built:
        if method == "crashes":
            raise ZeroDivisionError("a bug of theirs")
        if method == "refuses":
            raise DataError("nothing to quantize")
        if method == "absent":
            raise EnvironmentProblem("openvino is not installed")
        return Built(Path(method), accepted=method not in self.poor, facts={"quality_loss": 0.001})

    def mend(self, method: str) -> Built:
        self.mended.append(method)
        if method not in self.mendable:
            return self.build(method)
        self.times[method] = self.mendable[method]
        return Built(Path(method), accepted=True, facts={"quality_loss": 0.0})

    def time(self, folders: Mapping[str, Path]) -> dict[str, BenchResult]:
        self.rounds += 1
        assert all(folder == Path(name) for name, folder in folders.items())
        return {
            name: BenchResult(artifact=name, scenario="single-stream", threads=1, p50_ms=p50, qps=qps)
            for name, (p50, qps) in self.times.items()
            if name in folders
        }

    def choose(self, *methods: str, scenario: Scenario = "single-stream") -> tuple[str, dict[str, Row]]:
        choice, rows = choose(methods, self.build, self.mend, self.time, scenario)
        assert [row["method"] for row in rows] == ["none", *methods]
        return choice, {row["method"]: row for row in rows}


def test_the_fastest_that_is_good_enough_is_shipped_and_all_are_told() -> None:
    bench = Bench({"none": (4, 300), "a": (2, 800), "b": (1, 500), "worse": (0.5, 999), "slow": (5, 200)}, ("worse",))
    choice, rows = bench.choose("a", "b", "worse", "slow", "crashes", "refuses", "absent")
    assert choice == "b"
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "none": "slower than the choice",
        "a": "slower than the choice",
        "b": "shipped",
        "worse": "below the floor",
        "slow": "slower than float",
        "crashes": "error",
        "refuses": "error",
        "absent": "not run",
    }
    assert rows["b"]["speedup"] == 4
    assert rows["slow"]["speedup"] == 0.8
    assert rows["crashes"]["reason"] == "ZeroDivisionError: a bug of theirs"
    assert rows["absent"]["reason"] == "openvino is not installed"
    assert rows["worse"]["quality_loss"] == 0.001
    assert bench.mended == ["worse"]
    assert bench.rounds == 2  # all take turns, and again with what the guard made anew


def test_throughput_may_choose_another() -> None:
    times = {"none": (4.0, 300.0), "a": (2.0, 800.0), "b": (1.0, 500.0)}
    assert Bench(times).choose("a", "b", scenario="offline")[0] == "a"


def test_float_ships_where_nothing_is_faster_and_as_good() -> None:
    choice, rows = Bench({"none": (1, 10), "a": (2, 5), "b": (0.5, 20)}, poor=("b",)).choose("a", "b")
    assert choice == "none"
    assert rows["none"]["outcome"] == "shipped"


def test_what_could_not_be_timed_is_not_shipped() -> None:
    bench = Bench({"none": (1, 10), "a": (0.5, 20)})
    gone = BenchResult.not_run("a", "single-stream", threads=1, batch=1, reason="no such runtime")
    choice, rows = choose(
        ["a"], bench.build, bench.mend, lambda folders: {**bench.time(folders), "a": gone}, "single-stream"
    )
    assert choice == "none"
    assert rows[1]["outcome"] == "not run"
    assert rows[1]["reason"] == "no such runtime"
    lost = {"none": gone, "a": gone}
    with pytest.raises(KdcError, match="float model could not be timed"):
        choose(["a"], bench.build, bench.mend, lambda folders: lost, "single-stream")


def test_the_guard_is_asked_about_what_could_win_and_about_nothing_else() -> None:
    times = {"none": (4.0, 1.0), "a": (2.0, 1.0), "quick": (1.0, 1.0), "slow": (3.0, 1.0), "hopeless": (0.5, 1.0)}
    bench = Bench(dict(times), poor=("quick", "slow", "hopeless"), mendable={"quick": (1.5, 1.0), "slow": (0.1, 1.0)})
    choice, rows = bench.choose("a", "quick", "slow", "hopeless")
    assert bench.mended == ["quick", "hopeless"]
    assert choice == "quick"
    assert rows["quick"]["p50_ms"] == 1.5
    assert rows["slow"]["outcome"] == "below the floor"
    assert rows["hopeless"]["outcome"] == "below the floor"
    assert rows["a"]["outcome"] == "slower than the choice"


def test_no_candidate_wins_by_times_of_another_run() -> None:
    """The machine slows down while the guard works: what was not timed again would look fast."""
    times = {"none": (4.0, 1.0), "a": (2.0, 1.0), "b": (2.1, 1.0), "slow": (5.0, 1.0), "quick": (1.0, 1.0)}

    class Slowing(Bench):
        def time(self, folders: Mapping[str, Path]) -> dict[str, BenchResult]:
            if self.rounds:
                self.times = {name: (2 * p50, qps / 2) for name, (p50, qps) in self.times.items()}
            return super().time(folders)

    choice, rows = Slowing(times, poor=("quick",), mendable={"quick": (3.0, 1.0)}).choose("a", "b", "slow", "quick")
    assert choice == "a"
    assert rows["b"]["outcome"] == "slower than the choice"
    assert rows["slow"]["outcome"] == "slower than float"
    assert {name: row["speedup"] for name, row in rows.items()} == pytest.approx(
        {"none": 1, "a": 2, "b": 4 / 2.1, "slow": 0.8, "quick": 4 / 3}
    )


def test_what_the_guard_makes_too_slow_is_not_shipped() -> None:
    bench = Bench({"none": (4, 1), "a": (2, 1), "quick": (1, 1)}, poor=("quick",), mendable={"quick": (3, 1)})
    choice, rows = bench.choose("a", "quick")
    assert choice == "a"
    assert rows["quick"]["outcome"] == "slower than the choice"
    assert bench.rounds == 2

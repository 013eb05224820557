"""A run that is killed, interrupted or met by a second one ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.artifacts import digest_files, read_artifact, verify_artifact
from compress.runtime.bundle import BENCH, CARD, open_bundle
from tests.processes import PATIENCE_SECONDS, Accident, Process, start
from tests.tiny_project import leftovers, recipe_of, statuses, write_recipe

COMPARED = ("teacher", "outputs", "student", "control", "onnx", "quantized", "bundle")
KILLS = 14

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.fixture
def project(tiny_project: Path, tmp_path: Path) -> Path:
    """A project of one's own, with a recipe in which every stage takes a while."""
    copy = tmp_path / "project"
    shutil.copytree(tiny_project, copy, ignore=shutil.ignore_patterns("runs"))
    recipe = recipe_of("pairs", "transformer", name="killed")
    recipe["teacher"]["train"] = {"epochs": 3, "batch_size": 16, "average": 0.9, "learning_rate": 1e-3}
    for stage in recipe["distill"]["stages"]:
        stage["epochs"] = 2
    imitate, align = recipe["distill"]["stages"]
    imitate |= {"temperature": {"from": 4.0, "to": 1.0}, "confidence": True}
    align |= {"weighting": "uncertainty"}
    write_recipe(copy, recipe)
    return copy


def content(runs: Path) -> dict[str, str]:
    """Hash of the content of each finished stage; what is there must be whole."""
    found = {}
    for folder in sorted(runs.glob("killed-*/[a-z]*/")):
        artifact = read_artifact(folder)
        if artifact is not None:
            verify_artifact(folder, artifact)
            found[folder.name] = _untimed(folder) if folder.name == "bundle" else artifact.sha256
    return found


def _untimed(folder: Path) -> str:
    """Hash of a bundle's members that hold no measured times, which differ from run to run."""
    (path,) = folder.glob("*.kdc")
    files = open_bundle(path).manifest.files
    return digest_files({name: entry for name, entry in files.items() if name not in (BENCH, CARD)})


def finish(process: Process) -> dict[str, Any]:
    """What a command that must end well answers."""
    assert process.wait() == 0, process.said()
    summary: dict[str, Any] = json.loads(process.answer.read_bytes())
    return summary


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(project: Path) -> None:
    def command(runs: str) -> list[object]:
        return ["run", project / "recipe.yaml", "--runs", project / runs, "--json"]

    began = time.monotonic()
    finish(start(command("whole"), project, "whole"))
    whole_seconds = time.monotonic() - began
    expected = content(project / "whole")
    assert set(COMPARED) <= set(expected)

    generator = np.random.default_rng(5)
    runs, kills, attempt, went_on = project / "killed", 0, 0, 0
    while kills < KILLS:
        attempt += 1
        # at any moment, or at the moment of a rename, which no clock would hit; later and later in the run
        by_clock = attempt % 3 == 0
        publish = int(generator.integers(1, min(6 + kills, 13)))
        accident = None if by_clock else Accident(publish, bool(generator.integers(2)))
        process = start(command("killed"), project, f"killed-{attempt}", accident)
        code = process.wait(float(generator.uniform(0.05, 0.35)) * whole_seconds if by_clock else PATIENCE_SECONDS)
        went_on += "going on from step" in process.said()
        if code is None:
            process.kill()
            code = process.process.exitcode
        if code == -signal.SIGKILL:
            kills += 1
            done = content(runs)
            assert done == {stage: expected[stage] for stage in done} | _timed(done)
        else:  # it came to its end before the accident: start from nothing
            assert code == 0, process.said()
            _same(content(runs), expected)
            shutil.rmtree(runs)
    summary = finish(start(command("killed"), project, "last"))
    _same(content(runs), expected)
    assert leftovers(runs) == []
    assert went_on > 0  # else no checkpoint was ever used
    assert summary["gates"][0]["passed"]


def _timed(done: dict[str, str]) -> dict[str, str]:
    """Stages whose content is measured times: they differ from run to run."""
    return {stage: sha for stage, sha in done.items() if stage not in COMPARED}


def _same(found: dict[str, str], expected: dict[str, str]) -> None:
    assert {stage: found.get(stage) for stage in COMPARED} == {stage: expected[stage] for stage in COMPARED}


def test_interrupting_is_130_or_143_and_the_same_command_goes_on(project: Path) -> None:
    command = [sys.executable, "-m", "compress", "distill", str(project / "recipe.yaml"), "--runs", "runs"]
    command += ["--set", "distill.stages.0.epochs=1000", "--set", "distill.patience=1000", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    stops = ((signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM"))
    for turn, (number, expected, told) in enumerate(stops):
        with (project / f"{turn}.log").open("w+") as log, (project / f"{turn}.json").open("w+") as answer:
            process = subprocess.Popen(command, cwd=project, env=environment, stdout=answer, stderr=log)
            try:
                _wait_for_checkpoint(project, process, since=time.time())
                process.send_signal(number)
                code = process.wait(PATIENCE_SECONDS)
            finally:
                process.kill()
            log.seek(0)
            answer.seek(0)
            said = log.read()
            assert code == expected, said
            assert f"{told}; state is safe: the same command goes on from here" in said
            assert "Traceback" not in said
            assert ("student: going on from step" in said) == (turn == 1)
            assert json.load(answer)["exit_code"] == expected
        run = next((project / "runs").glob("killed-*"))
        assert list(run.rglob(".tmp-*")) == []
        assert set(content(project / "runs")) == {"baseline", "teacher", "outputs"}


def _wait_for_checkpoint(project: Path, process: subprocess.Popen[bytes], since: float) -> None:
    """Until the student's training has written a checkpoint."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not any(p.stat().st_mtime > since for p in project.glob("runs/*/.work/student-*/step-*/progress.json")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_second_process_waits_for_the_first_and_makes_nothing_twice(project: Path) -> None:
    command = ["teach", project / "recipe.yaml", "--runs", project / "runs", "--json"]
    first = start(command, project, "first")
    lock = next(iter(_wait_for_lock(project, first)))
    os.kill(first.pid, signal.SIGSTOP)
    second = start(command, project, "second")
    second.until(lambda: "waiting" in second.said())
    assert f"{lock.parent} is in use by process {first.pid}; waiting until it ends" in second.said()
    assert second.wait(0.2) is None
    os.kill(first.pid, signal.SIGCONT)
    assert statuses(finish(first)) == {"baseline": "done", "teacher": "done"}
    assert statuses(finish(second)) == {"baseline": "reused", "teacher": "reused"}


def test_the_lock_of_a_killed_process_holds_nobody_up(project: Path) -> None:
    command = ["teach", project / "recipe.yaml", "--runs", project / "runs", "--json"]
    first = start(command, project, "first")
    _wait_for_lock(project, first)
    first.kill()
    second = start(command, project, "second")
    assert finish(second)["models"].keys() == {"baseline", "teacher"}
    assert "waiting" not in second.said()


def _wait_for_lock(project: Path, process: Process) -> list[Path]:
    """Until the process has written its number into the run's lock."""

    def held() -> list[Path]:
        return [path for path in project.glob("runs/*/.lock") if path.read_text() == str(process.pid)]

    process.until(held)
    return held()

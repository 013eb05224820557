"""Finished runs whose students peers train again, and where rows of it go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import peer_trainers, students
from benchmarks.peer_study import Keeper, KeptTeacher, Study, open_study
from benchmarks.peer_trainers import PEERS, Peer
from compress.text_model import TextModel
from tests.tiny_project import kdc_json, recipe_of, write_recipe


@pytest.fixture(scope="session")
def finished(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Makes the run of a task and a kind of student, as far as student and control; each once."""
    runs = tmp_path_factory.mktemp("runs")
    made: dict[tuple[str, str], Path] = {}

    def run_of(task: str, student: str) -> Path:
        if (task, student) not in made:
            recipe = recipe_of(task, student, name=f"peers-{task}-{student}")
            recipe["data"]["root"] = str(tiny_project)
            recipe["teacher"]["model"] = str(tiny_project / f"teacher-{task}")
            written = write_recipe(runs, recipe, f"{task}-{student}.yaml")
            made[task, student] = Path(kdc_json("distill", written, "--runs", runs / "made")["run"])
        return made[task, student]

    return run_of


@pytest.fixture
def study(finished: Callable[[str, str], Path], tmp_path: Path) -> Study:
    return open_study(finished("pairs", "transformer"), tmp_path)


def stub(study: Study, work: Path) -> TextModel:
    """A peer of five lines."""
    keeper = Keeper(study, "stub", study.built.module)
    optimizer = torch.optim.SGD(study.built.module.parameters(), lr=study.rate)
    student, teacher = peer_trainers.AsPeersCall(study), KeptTeacher(study)
    for step, batch in enumerate(study.loader()):
        print("noise on stdout")
        torch.nn.functional.mse_loss(student(**batch), teacher(**batch)).backward()
        optimizer.step()
        optimizer.zero_grad()
        keeper.after(step + 1)
    return keeper.finish()


@pytest.fixture
def kept_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rows go in a test; a stub stands in textbrewer's place, and no environment is entered."""
    monkeypatch.setattr(students, "enter", lambda *_: None)
    monkeypatch.setattr(students, "PEER_ROWS", tmp_path / "results" / "students.jsonl")
    monkeypatch.setitem(PEERS, "textbrewer", Peer("textbrewer", lambda study: None, stub))
    return tmp_path / "results" / "students.jsonl"

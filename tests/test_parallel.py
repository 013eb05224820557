"""Several processes: the same training as one, whichever launcher starts them, and one answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress import parallel
from compress.artifacts import read_artifact, verify_artifact
from compress.errors import EnvironmentProblem
from tests.tiny_project import leftovers, recipe_of, write_recipe

ROOT = Path(__file__).parents[1]
COMPARED = ("loss", "soft", "hidden", "hard", "learning_rate")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "compress")
ACCELERATE = ("-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "2")
ACCELERATE += ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "compress")


@pytest.mark.parametrize("rows", [1, 2, 7, 32])
@pytest.mark.parametrize("count", [2, 3])
def test_shares_come_together_in_the_order_of_the_step(rows: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All have as many rows, none is lost, and gradients reach the own share alone."""
    step = np.arange(100, 100 + rows)
    monkeypatch.setenv("WORLD_SIZE", str(count))
    shares = []
    for number in range(count):
        monkeypatch.setenv("RANK", str(number))
        shares.append(torch.from_numpy(parallel.share_of(step)).float()[:, None])
    assert len({len(share) for share in shares}) == 1

    def all_gather(parts: list[torch.Tensor], own: torch.Tensor) -> None:
        for part, share in zip(parts, shares, strict=True):
            part.copy_(share)

    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    for number in range(count):
        monkeypatch.setenv("RANK", str(number))
        own = shares[number].clone().requires_grad_()
        together = parallel.gathered(own, rows)
        assert together[:, 0].tolist() == step.tolist()
        (2.0 * together).sum().backward()
        assert own.grad is not None
        kept = len(step[number::count])
        assert own.grad[:, 0].tolist() == [2.0] * kept + [0.0] * (len(own) - kept)


GRADIENT = """
import sys
import torch
from compress import parallel

with parallel.joined():
    torch.manual_seed(0)
    model, data = torch.nn.Linear(3, 2), torch.randn(7, 3)
    rows = torch.arange(7).numpy()
    said = parallel.gathered(model(data[torch.from_numpy(parallel.share_of(rows))]), len(rows))
    (torch.pdist(said).sum() + said[:, 0].exp().mean()).backward()  # compares rows of different processes
    parallel.add_gradients(model)
    if parallel.is_first():
        torch.save([parameter.grad for parameter in model.parameters()], sys.argv[1])
    parallel.wait()
"""


@pytest.mark.long
def test_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    """Exactly, size and direction: an optimizer that only looks at the direction would hide a wrong size."""
    script = tmp_path / "gradient.py"
    script.write_text(GRADIENT)
    found = []
    for name, launcher in (("one", ()), ("two", TORCHRUN[:-2])):
        command = [sys.executable, *launcher, str(script), str(tmp_path / name)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, env=environment, timeout=600)
        found.append(torch.load(tmp_path / name, weights_only=True))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before processes meet, where two of them on one GPU would fail in words of NCCL."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(EnvironmentProblem, match="process 1 of this machine has no GPU of its own, there are 1"),
        parallel.joined(),
    ):
        pass


@pytest.mark.parametrize(("rank", "objects"), [("0", 1), ("1", 0)])
def test_one_process_answers_when_all_fail(
    rank: str, objects: int, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says why on stderr; with --json stdout has one object, the first one's."""
    from tests.tiny_project import kdc

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    result = kdc("run", project / "none.yaml", "--json")
    assert result.exit_code == 2
    assert "none.yaml" in result.stderr
    assert result.stdout.count('"exit_code": 2') == objects
    assert bool(result.stdout) == bool(objects)


@pytest.fixture(scope="module")
def project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher without dropout, which would differ, and a recipe that trains it further, in 11 steps an epoch."""
    copy = tmp_path_factory.mktemp("parallel") / "project"
    shutil.copytree(tiny_project, copy, ignore=shutil.ignore_patterns("runs"))
    path = copy / "teacher-pairs" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    recipe = recipe_of("pairs", "transformer", name="shared")
    recipe["teacher"]["train"] = {"epochs": 2, "batch_size": 15, "learning_rate": 1e-3}
    recipe["distill"] |= {"precision": "fp32", "batch_size": 15, "average": 0.9}
    write_recipe(copy, recipe)
    return copy


def run(
    project: Path, runs: str, *launcher: str, command: str = "distill", recipe: str = "recipe.yaml"
) -> dict[str, Any]:
    """`kdc` in one process or several; stdout must be one JSON object."""
    called = [
        sys.executable,
        *launcher,
        command,
        str(project / recipe),
        "--runs",
        str(project / runs),
        "--json",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(called, capture_output=True, text=True, env=environment, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def histories(summary: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Curves of teacher, student and control."""
    found = summary["history"]
    return {name: found[name] for name in ("teacher", "student", "control")}


@pytest.mark.long
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_have_the_curves_of_one(launcher: tuple[str, ...], project: Path) -> None:
    """Every loss of every epoch within rounding, the same steps; whole artifacts, nothing left over."""
    alone = histories(run(project, "alone", "-m", "compress"))
    name = "together-" + launcher[1].split(".", maxsplit=1)[0]
    summary = run(project, name, *launcher)
    together = histories(summary)
    for model, rows in alone.items():
        assert [row["step"] for row in together[model]] == [row["step"] for row in rows]
        for own, other in zip(rows, together[model], strict=True):
            for key in {*COMPARED} & set(own):
                assert other[key] == pytest.approx(own[key], rel=2e-3, abs=1e-6), (model, key)
    for stage in ("teacher", "outputs", "student", "control"):
        artifact = read_artifact(Path(summary["run"]) / stage)
        assert artifact is not None
        verify_artifact(Path(summary["run"]) / stage, artifact)
    assert leftovers(Path(summary["run"])) == []


FEW_ROWS_A_SHARD = """
import json
import os
import signal
from pathlib import Path

from compress import cli, parallel
from compress.teachers import outputs

outputs.SHARD_ROWS = 8
answer, asked = outputs._answer, []
note = Path(os.environ["NOTES"], f"{parallel.rank()}.json")
note.write_text("[]")


def noted(teacher, encoded, shard, *rest):
    asked.append([int(row) for row in shard])
    if os.environ.get("KILLED") == str(parallel.rank()) and len(asked) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    note.write_text(json.dumps(asked))
    return answer(teacher, encoded, shard, *rest)


outputs._answer = noted
cli.main()
"""


@pytest.mark.long
def test_processes_fill_the_cache_together(project: Path, tmp_path: Path) -> None:
    """One of two is killed; started again, they ask the rest alone, and the arrays have the bytes of one process."""
    script = tmp_path / "few.py"
    script.write_text(FEW_ROWS_A_SHARD)
    recipe = recipe_of("pairs", "static", name="filled")
    recipe["distill"] |= {"precision": "fp32", "control": False}
    path = write_recipe(project, recipe, "filled.yaml")

    def distil(runs: str, *launcher: str, killed: str = "") -> list[int]:
        notes = tmp_path / f"{runs}{killed}"
        notes.mkdir(exist_ok=True)
        settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), "KILLED": killed}
        done = subprocess.run(
            [sys.executable, *launcher, str(script), "distill", str(path), "--runs", str(tmp_path / "runs" / runs)],
            capture_output=True,
            text=True,
            env={**os.environ, **settings, "NOTES": str(notes)},
            check=False,
            timeout=900,
        )
        assert bool(done.returncode) == bool(killed), done.stderr[-3000:]
        asked = [json.loads(file.read_text()) for file in sorted(notes.glob("*.json"))]
        return [row for shards in asked for shard in shards for row in shard]

    def arrays(runs: str) -> dict[str, str]:
        artifact = read_artifact(next((tmp_path / "runs" / runs).glob("filled-*/outputs")))
        assert artifact is not None
        return {name: entry.sha256 for name, entry in artifact.files.items()}

    launcher = TORCHRUN[:-2]
    alone = distil("one")
    assert sorted(alone) == list(range(len(alone)))
    begun = distil("together", *launcher, killed="1")
    left = distil("together", *launcher)
    assert sorted({*begun, *left}) == sorted(alone)
    assert len(set(left)) == len(left) < len(alone)
    assert arrays("together") == arrays("one")


@pytest.mark.long
def test_two_processes_make_every_model_of_several_teachers(project: Path) -> None:
    """The first takes over what a run has; the others help with what is missing, folds too."""
    train = {"epochs": 1, "batch_size": 15, "learning_rate": 1e-3}
    one = {"model": "teacher-pairs", "max_length": 32, "train": train}
    given = recipe_of("pairs", "transformer", name="members", teacher=one)
    write_recipe(project, given, "one.yaml")
    members = [one, one | {"seed": 9, "train": train | {"folds": 2}}]
    write_recipe(project, given | {"teacher": {"kind": "several", "members": members}}, "several.yaml")
    run(project, "several", "-m", "compress", command="teach", recipe="one.yaml")
    found = run(project, "several", *TORCHRUN, command="teach", recipe="several.yaml")
    models = Path(found["run"]) / "teacher" / "models"
    assert sorted(path.name for path in models.iterdir()) == ["0", "1", "1-fold-1", "1-fold-2"]
    assert len(found["models"]["teacher"]["members"][1]["folds"]) == 2
    assert leftovers(Path(found["run"])) == []


def test_paths_are_for_one_process(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence, before anything waits for another process."""
    from tests.tiny_project import kdc

    monkeypatch.setenv("WORLD_SIZE", "2")
    given = ("--teacher", project / "teacher-pairs", "--train", project / "pairs-train.csv", "--student", "mobile")
    result = kdc("distill", *given, "--task", "pairs", "-o", project / "out")
    assert result.exit_code == 2
    assert "2 processes share a recipe, not paths" in result.stderr


def test_relations_are_for_one_process(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process would compare its own tokens alone; said before any work."""
    from tests.tiny_project import kdc

    recipe = recipe_of("pairs", "transformer", name="relations")
    recipe["student"].pop("vocabulary")
    recipe["distill"]["stages"][0]["losses"] = {"soft": 1.0, "relations": 1.0}
    path = write_recipe(project, recipe, "relations.yaml")
    assert kdc("check", path).exit_code == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = kdc("check", path)
    assert result.exit_code == 2
    assert "distill.stages.0.losses.relations compares tokens inside the model, of which 2 processes" in result.stderr

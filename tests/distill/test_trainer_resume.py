"""Training goes on bit for bit after any interruption or kill."""

from __future__ import annotations

import json
import math
import os
import shutil
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.batch import Ints
from compress.distill import checkpoint, trainer
from compress.distill.sampler import steps_per_epoch
from compress.distill.trainer import Job, Phase, rate_at, train
from compress.distill.weighting import Uncertainty
from tests.tiny_models import toy_encoded
from tests.toy_job import ROWS, STEPS, assert_same, make_job, stop_after


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_continues_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: float, seconds: float) -> None:
    """Interrupted again and again, with a checkpoint after each step or after each epoch only."""
    whole = make_job(tmp_path / "whole", average=average)
    expected = train(whole)
    assert expected.step == STEPS
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", seconds)
    draw = np.random.default_rng(int(seconds) + int(10 * average))
    for _ in range(30):
        job = make_job(tmp_path / "work", average=average, tick=stop_after(int(draw.integers(9, 16))))
        try:
            progress = train(job)
        except KeyboardInterrupt:
            continue
        break
    assert_same(job, progress, whole, expected)
    assert progress.best == job.validate(job.module.eval())


def test_a_phase_ends_at_its_step_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """Also when it goes on after a kill; the rate has come down to its end by then."""
    per_epoch = steps_per_epoch(ROWS, 8)

    def cut(work: Path, **options: Any) -> Job:
        job = make_job(work, **options)
        return replace(job, phases=[replace(job.phases[0], epochs=2, steps=per_epoch + 2)])

    whole = cut(tmp_path / "whole")
    expected = train(whole)
    assert expected.step == per_epoch + 2
    assert [entry["step"] for entry in expected.history] == [per_epoch, per_epoch + 2]
    last = expected.history[-1]["learning_rate"]
    assert last == pytest.approx(0.05 * rate_at(per_epoch + 1, per_epoch + 2))
    with pytest.raises(KeyboardInterrupt):
        train(cut(tmp_path / "work", tick=stop_after(per_epoch + 1)))
    again = cut(tmp_path / "work")
    assert_same(again, train(again), whole, expected)


def test_groups_continue_bit_for_bit_and_stay_together(tmp_path: Path) -> None:
    """Epochs of groups differ in their number of steps; the rate still comes down to its end."""
    groups = np.random.default_rng(1).integers(0, 25, ROWS)
    seen: list[Ints] = []

    def grouped(work: Path, **options: Any) -> Job:
        job = replace(make_job(work, **options), groups=groups)
        objective = job.phases[0].objective

        def remember(logits: Tensor, hidden: Tensor | None, rows: Ints, share: float) -> tuple[Tensor, trainer.Parts]:
            seen.append(rows)
            return objective(logits, hidden, rows, share)

        return replace(job, phases=[replace(job.phases[0], objective=remember, epochs=3)])

    whole = grouped(tmp_path / "whole")
    expected = train(whole)
    steps = [row["step"] for row in expected.history]
    assert expected.step == len(seen) == steps[-1]
    assert [whole.sampler.steps(0, epoch) for epoch in range(3)] == np.diff([0, *steps]).tolist()
    assert expected.history[-1]["learning_rate"] == pytest.approx(0.05 * rate_at(steps[-1] - 1, steps[-1]))
    for group in range(25):
        holding = [rows for rows in seen[: steps[0]] if (groups[rows] == group).any()]
        assert len(holding) <= 1
    for steps_done in (5, steps[0] + 3):
        with pytest.raises(KeyboardInterrupt):
            train(grouped(tmp_path / "work", tick=stop_after(steps_done)))
    again = grouped(tmp_path / "work")
    assert_same(again, train(again), whole, expected)


def test_a_checkpoint_from_before_measures_had_a_direction_goes_on(tmp_path: Path) -> None:
    """It holds -1 where no epoch was judged yet."""
    whole = make_job(tmp_path / "whole")
    expected = train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(make_job(tmp_path / "work", tick=stop_after(20)))
    found = checkpoint.latest(tmp_path / "work")
    assert found is not None
    written = json.loads((found / "progress.json").read_bytes())
    older = {key: -1.0 if value is None else value for key, value in written.items()}
    (found / "progress.json").write_text(json.dumps(older))
    again = make_job(tmp_path / "work")
    assert_same(again, train(again), whole, expected)


def test_interruptions_were_real(tmp_path: Path) -> None:
    """The loop of the test above does stop in the middle, and a finished training does not start again."""
    with pytest.raises(KeyboardInterrupt):
        train(make_job(tmp_path, tick=stop_after(20)))
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert 0 < checkpoint.read_progress(found).step <= 20
    train(make_job(tmp_path))
    again = make_job(tmp_path, tick=stop_after(0))
    assert train(again).step == STEPS


def balanced(work: Path, tick: Callable[[], None] = lambda: None) -> Job:
    """Both phases learn the weights of two terms, and the first term's share of the phase is in its weight."""
    job = make_job(work, tick=tick)
    align = job.phases[1].objective

    def phase(number: int) -> Phase:
        balance = Uncertainty(["soft", "hidden"])

        def objective(logits: Tensor, hidden: Tensor | None, rows: Ints, share: float) -> tuple[Tensor, trainer.Parts]:
            _, parts = align(logits, hidden, rows, share)
            weights = {name: torch.tensor(value) for name, value in balance.factors().items()}
            logged = {"share": torch.tensor(share)} | {f"weight.{name}": value for name, value in weights.items()}
            return balance({"soft": (1 - share) * parts["soft"], "hidden": parts["hidden"]}), parts | logged

        return replace(job.phases[1], name=f"phase {number}", epochs=2, objective=objective, balance=balance)

    return replace(job, phases=[phase(0), phase(1)])


def test_learned_weights_and_schedules_continue_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They move at a rate of their own, begin anew in each phase, and stand where they stood after a kill."""
    whole = balanced(tmp_path / "whole")
    expected = train(whole)
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    for steps in (4, 6, 11, 3, 5):
        with pytest.raises(KeyboardInterrupt):
            train(balanced(tmp_path / "work", tick=stop_after(steps)))
    again = balanced(tmp_path / "work")
    assert_same(again, train(again), whole, expected)
    per_epoch = steps_per_epoch(ROWS, 8)
    shares = np.arange(2 * per_epoch) / (2 * per_epoch - 1)
    means = [shares[:per_epoch].mean(), shares[per_epoch:].mean()] * 2
    assert [row["share"] for row in expected.history] == pytest.approx(means, rel=1e-6)
    ends, begins = (abs(math.log(expected.history[row]["weight.hidden"])) for row in (1, 2))
    assert 0 < begins < ends
    last = (job.phases[1].balance.parameters() for job in (again, whole))
    assert all(map(torch.equal, *last))


def test_learned_weights_do_not_decay_and_are_not_clipped(tmp_path: Path) -> None:
    job = balanced(tmp_path)
    group = trainer._optimizer(job, job.phases[0]).param_groups[-1]
    assert (group["peak"], group["weight_decay"], group["clipped"]) == (trainer.BALANCE_RATE, 0.0, False)
    assert len(group["params"]) == 2


def short_job(work: Path, tick: Callable[[], None] = lambda: None) -> Job:
    """Two phases of one epoch of three steps."""
    job = make_job(work, average=0.9, tick=tick)
    phases = [replace(phase, epochs=1) for phase in job.phases]
    return replace(job, phases=phases, encoded=toy_encoded(24))


@pytest.mark.long
def test_survives_a_kill_at_any_write(tmp_path: Path) -> None:
    """Killed without warning before any step, rename or deletion of a file: the same weights in the end."""
    whole = short_job(tmp_path / "whole")
    expected = train(whole)
    events = 0
    while _child(tmp_path / str(events), events):
        job = short_job(tmp_path / str(events))
        assert_same(job, train(job), whole, expected)
        shutil.rmtree(tmp_path / str(events))
        events += 1
    assert events > 30


def _child(work: Path, events: int) -> bool:
    """Train in a child that dies at the given event; whether it died."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            _die_after(events)
            train(short_job(work, os.getpid))
            code = 0
        except BaseException:  # of a forked child, which must not go on as pytest
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, 9)
    return code == 9


def _die_after(events: int) -> None:
    """Count steps and what changes the disk, and die before the given one."""
    left = [events]

    def deadly(work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return work(*args, **kwargs)

        return wrapped

    os.getpid = deadly(os.getpid)
    os.replace = deadly(os.replace)
    os.unlink = deadly(os.unlink)
    os.rmdir = deadly(os.rmdir)
    shutil.rmtree = _rmtree
    trainer.CHECKPOINT_SECONDS = 0.0


def _rmtree(folder: Path) -> None:
    """File by file, so that a child can die between two files."""
    for path in sorted(folder.iterdir()):
        os.unlink(path)
    os.rmdir(folder)

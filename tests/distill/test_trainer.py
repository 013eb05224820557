"""Training goes on bit for bit after any interruption, keeps the best weights, and stops when it should."""

from __future__ import annotations

import json
import math
import os
import shutil
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.batch import Ints
from compress.distill import checkpoint, trainer
from compress.distill.checkpoint import Progress
from compress.distill.losses import hidden_states, soft_targets
from compress.distill.sampler import steps_per_epoch
from compress.distill.trainer import BEST, Job, Phase, rate_at, train
from compress.distill.weighting import Uncertainty
from compress.errors import KdcError
from compress.tasks.measures import measure_named
from compress.text_model import TextModel
from tests.tiny_models import ToyModel, toy_encoded

ROWS, WIDER = 70, 9
STEPS = 6 * 9  # epochs of both phases, batches of 8 rows


def make_job(work: Path, *, average: float = 0.0, tick: Callable[[], None] = lambda: None) -> Job:
    """Two phases: logits, then also hidden states through a projection; `tick` is called in every step."""
    work.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(5)
    said = torch.randn(ROWS, 3, generator=generator)
    states = torch.randn(ROWS, 1, WIDER, generator=generator)
    module = ToyModel()
    torch.manual_seed(3)
    extra = nn.ModuleList([nn.Linear(module.width, WIDER)])

    def imitate(logits: Tensor, hidden: Tensor | None, rows: Ints, share: float) -> tuple[Tensor, trainer.Parts]:
        tick()
        loss = soft_targets(logits, said[rows], 2.0)
        return loss, {"soft": loss}

    def align(logits: Tensor, hidden: Tensor | None, rows: Ints, share: float) -> tuple[Tensor, trainer.Parts]:
        tick()
        assert hidden is not None
        soft = soft_targets(logits, said[rows], 2.0)
        far = hidden_states(extra[0](hidden[:, 0]).unsqueeze(1), states[rows])
        return soft + 0.1 * far, {"soft": soft, "hidden": far}

    encoded = toy_encoded(ROWS)

    def validate(judged: TextModel) -> float:
        assert not judged.training
        inputs = trainer.model_inputs(encoded, range(ROWS), judged.input_names, torch.device("cpu"))
        with torch.inference_mode():
            agree = judged(*inputs).argmax(1) == said.argmax(1)
        return float(agree.float().mean())

    phases = [
        Phase("imitate", 2, 0.05, imitate, head_rate=0.1),
        Phase("align", 4, 0.03, align, hidden=(1,)),
    ]
    return Job(
        name="toy",
        module=module,
        encoded=encoded,
        phases=phases,
        validate=validate,
        work=work,
        device=torch.device("cpu"),
        bf16=False,
        seed=7,
        batch_size=8,
        patience=10,
        average=average,
        extra=extra,
    )


def stop_after(steps: int) -> Callable[[], None]:
    """Ctrl-C in the step after `steps` steps."""
    left = [steps]

    def tick() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    return tick


def assert_same(job: Job, progress: Progress, other: Job, expected: Progress) -> None:
    """Equal bits of the weights, equal history."""
    ours, theirs = job.module.state_dict(), other.module.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert asdict(progress) == asdict(expected)


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


def test_the_least_error_is_the_best(tmp_path: Path) -> None:
    """A measure of which less is better, above 1: best epoch, patience and what is kept."""
    errors = iter([70.0, 55.0, 60.0, 61.0, 58.0, 57.0, 59.0, 60.0])
    job = replace(make_job(tmp_path), measure=measure_named("rmse"), patience=2)
    phases = [replace(phase, epochs=9) for phase in job.phases]
    progress = train(replace(job, phases=phases, validate=lambda module: next(errors)))
    assert (progress.best, progress.best_at) == (55.0, "imitate, epoch 2")
    assert [row["metric"] for row in progress.history] == [70.0, 55.0, 60.0, 61.0, 58.0, 57.0, 59.0, 60.0]


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
        except BaseException:
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


def test_best_weights_are_kept(tmp_path: Path) -> None:
    """The module ends with the epoch that validation liked most, not with the last one."""
    seen: list[dict[str, Tensor]] = []
    scores = iter([0.2, 0.9, 0.3, 0.4, 0.1, 0.5])

    def validate(judged: TextModel) -> float:
        seen.append({name: value.clone() for name, value in judged.state_dict().items()})
        return next(scores)

    job = replace(make_job(tmp_path), validate=validate)
    progress = train(job)
    assert (progress.best, progress.best_at) == (0.9, "imitate, epoch 2")
    assert all(torch.equal(value, seen[1][name]) for name, value in job.module.state_dict().items())
    assert [row["metric"] for row in progress.history] == [0.2, 0.9, 0.3, 0.4, 0.1, 0.5]


def test_each_phase_starts_from_the_best(tmp_path: Path) -> None:
    """Phase two begins with the best weights so far, and says so in its first step."""
    started: list[Tensor] = []
    scores = iter([0.9, 0.2, 0.1, 0.1, 0.1, 0.1])
    job = make_job(tmp_path)

    def first_weights(logits: Tensor, hidden: Tensor | None, rows: Ints, share: float) -> tuple[Tensor, trainer.Parts]:
        started.append(job.module.head.weight.detach().clone())  # ToyModel's
        return job.phases[1].objective(logits, hidden, rows, share)

    phases = [job.phases[0], replace(job.phases[1], objective=first_weights)]
    train(replace(job, phases=phases, validate=lambda module: next(scores)))
    assert torch.equal(started[0], load_file(tmp_path / BEST)["head.weight"])


def test_average_is_judged_and_kept(tmp_path: Path) -> None:
    """With a moving average, validation sees the averaged weights and they are the result."""
    sums = []

    def validate(judged: TextModel) -> float:
        sums.append(float(judged.state_dict()["head.weight"].sum()))
        return len(sums) / 10

    job = replace(make_job(tmp_path, average=0.99), validate=validate)
    raw = make_job(tmp_path / "raw")
    job = replace(job, phases=job.phases[:1])
    train(job)
    train(replace(raw, phases=raw.phases[:1]))
    assert float(job.module.state_dict()["head.weight"].sum()) == sums[-1]
    assert not torch.equal(job.module.state_dict()["head.weight"], raw.module.state_dict()["head.weight"])


def test_stops_early(tmp_path: Path) -> None:
    """Each phase ends after `patience` epochs that are no better than its own best."""
    scores = iter([0.9, 0.5, 0.5, 0.6, 0.6])
    job = make_job(tmp_path)
    phases = [replace(phase, epochs=9) for phase in job.phases]
    progress = train(replace(job, phases=phases, patience=1, validate=lambda module: next(scores)))
    assert [(row["stage"], row["epoch"]) for row in progress.history] == [
        ("imitate", 1),
        ("imitate", 2),
        ("align", 1),
        ("align", 2),
        ("align", 3),
    ]


def test_history_holds_the_means_of_an_epoch(tmp_path: Path) -> None:
    """Loss and terms, averaged over steps; the loss is their weighted sum."""
    progress = train(make_job(tmp_path))
    row = progress.history[-1]
    assert row["loss"] == pytest.approx(row["soft"] + 0.1 * row["hidden"], rel=1e-5)
    assert progress.history[0]["loss"] == progress.history[0]["soft"]
    assert row["step"] == STEPS
    assert json.loads(json.dumps(progress.history)) == progress.history


def test_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    """One sentence with the step; the weights are untouched by the broken step."""
    job = make_job(tmp_path)

    def broken(logits: Tensor, hidden: Tensor | None, rows: Ints, share: float) -> tuple[Tensor, trainer.Parts]:
        return logits.sum() * float("nan"), {}

    before = job.module.head.weight.detach().clone()  # ToyModel's
    with pytest.raises(KdcError, match=r"toy, stage imitate, step 0: the loss became nan"):
        train(replace(job, phases=[Phase("imitate", 1, 0.1, broken)]))
    assert torch.equal(job.module.head.weight, before)  # type: ignore[arg-type]  # ToyModel's


def test_rates(tmp_path: Path) -> None:
    """Linear warm-up over a tenth, linear decay; head and projections have a rate of their own or the body's."""
    shares = [rate_at(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == 1.0
    assert shares[-1] == pytest.approx(1 / 90)
    assert all(a > b for a, b in pairwise(shares[10:]))
    assert rate_at(0, 1) == 1.0
    job = make_job(tmp_path)
    groups = trainer._optimizer(job, job.phases[0]).param_groups
    assert [group["peak"] for group in groups] == [0.05, 0.1, 0.05]
    assert sum(len(group["params"]) for group in groups) == len([*job.module.parameters()]) + 2


def test_batches_reach_the_right_rows(tmp_path: Path) -> None:
    """Row numbers that the objective gets belong to the logits it gets."""
    job = make_job(tmp_path)
    job.module.dropout.p = 0.0  # type: ignore[union-attr]  # ToyModel's
    seen: list[int] = []

    def check(logits: Tensor, hidden: Tensor | None, rows: Ints, share: float) -> tuple[Tensor, trainer.Parts]:
        inputs = trainer.model_inputs(job.encoded, rows, job.module.input_names, job.device)
        torch.testing.assert_close(job.module(*inputs), logits)
        seen.extend(rows.tolist())
        return F.cross_entropy(logits, torch.zeros(len(rows), dtype=torch.int64)), {}

    train(replace(job, phases=[Phase("check", 1, 1e-9, check)]))
    assert sorted(seen) == list(range(ROWS))


# ---------------------------------------------------------------- checkpoints


def test_newest_checkpoint(tmp_path: Path) -> None:
    """None at first; then the end of an epoch counts for more than the step that it follows."""
    assert checkpoint.latest(tmp_path) is None
    module = {"module": ToyModel()}
    checkpoint.save(tmp_path, Progress(step=9, step_in_epoch=9), module, None)
    checkpoint.save(tmp_path, Progress(step=9, epoch=1), module, None)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert checkpoint.read_progress(found) == Progress(step=9, epoch=1)
    checkpoint.save(tmp_path, Progress(stage=1, step=9), module, None)
    assert [checkpoint.read_progress(path).stage for path in tmp_path.iterdir()] == [1]


def test_checkpoint_restores_random_state(tmp_path: Path) -> None:
    """The next random numbers are those that would have come."""
    model = ToyModel()
    checkpoint.save(tmp_path, Progress(), {"module": model}, None)
    expected = torch.rand(4)
    torch.manual_seed(99)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    checkpoint.restore(found, {"module": model}, None)
    assert torch.equal(torch.rand(4), expected)


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older checkpoint stays, no half of the newer one does, and the sentence says what to do."""
    model = {"module": ToyModel()}
    checkpoint.save(tmp_path, Progress(step=1), model, None)

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        save_file({"half": torch.zeros(3)}, path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(KdcError, match=r"the disk is full"):
        checkpoint.save(tmp_path, Progress(step=2), model, None)
    assert [checkpoint.read_progress(path).step for path in tmp_path.iterdir()] == [1]


@pytest.mark.parametrize("size", [1e-3, 1.0, 50.0, float("inf")])
def test_clipping_is_torchs(size: float) -> None:
    """To the last bit, whether or not there is anything to scale; one parameter has no gradient."""
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(2))]
    for parameter in ours[:2]:
        parameter.grad = torch.randn_like(parameter) * size
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    for own, other in zip(ours, theirs, strict=True):
        other.grad = None if own.grad is None else own.grad.clone()
    trainer.clip(ours)
    nn.utils.clip_grad_norm_(theirs, trainer.GRADIENT_NORM)
    for own, other in zip(ours[:2], theirs[:2], strict=True):
        assert own.grad is not None
        torch.testing.assert_close(own.grad, other.grad, rtol=0, atol=0, equal_nan=True)
    assert ours[2].grad is None

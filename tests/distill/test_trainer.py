"""Training keeps the best weights, and stops when it should; checkpoints, rates, batches."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.batch import Ints
from compress.distill import checkpoint, trainer
from compress.distill.checkpoint import Progress
from compress.distill.trainer import BEST, Phase, rate_at, train
from compress.errors import KdcError
from compress.tasks.measures import measure_named
from compress.text_model import TextModel
from tests.tiny_models import ToyModel
from tests.toy_job import ROWS, STEPS, make_job


def test_the_least_error_is_the_best(tmp_path: Path) -> None:
    """A measure of which less is better, above 1: best epoch, patience and what is kept."""
    errors = iter([70.0, 55.0, 60.0, 61.0, 58.0, 57.0, 59.0, 60.0])
    job = replace(make_job(tmp_path), measure=measure_named("rmse"), patience=2)
    phases = [replace(phase, epochs=9) for phase in job.phases]
    progress = train(replace(job, phases=phases, validate=lambda module: next(errors)))
    assert (progress.best, progress.best_at) == (55.0, "imitate, epoch 2")
    assert [row["metric"] for row in progress.history] == [70.0, 55.0, 60.0, 61.0, 58.0, 57.0, 59.0, 60.0]


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

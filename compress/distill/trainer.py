"""The one training loop: teacher, student and control go through it.

Length buckets, dynamic padding, bfloat16 autocast, fused AdamW with warm-up and linear decay, early stopping
on validation, best weights kept, checkpoints that continue bit for bit after a kill. Several processes share the
rows of each step, and each computes the loss of the whole step: the curves are those of one process, within rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from compress import parallel
from compress.artifacts import publishing
from compress.batch import Encoded, Ints
from compress.distill import checkpoint
from compress.distill.checkpoint import Progress
from compress.distill.losses import check_finite
from compress.distill.sampler import Sampler
from compress.distill.weighting import Parts
from compress.predict import model_inputs
from compress.progress import Bar, bar, reporter
from compress.tasks.measures import Measure
from compress.text_model import TextModel

WARMUP_SHARE = 0.1
GRADIENT_NORM = 1.0
CHECKPOINT_SECONDS = 60.0
BALANCE_RATE = 0.01
"""Peak rate of what weighs the terms of a loss: at a network's it would hardly move within the steps of a stage."""
BEST = "best.safetensors"
HIGHER = Measure("metric")
"""Of a job that does not say what it measures."""

Objective = Callable[[Tensor, Tensor | None, Ints, float], tuple[Tensor, Parts]]
"""(logits [B, C], hidden [B, L, H] or None, rows [B], share of the phase, 0 at its first step and 1 at its last) ->
loss, and its terms for the log."""


@dataclass(frozen=True)
class Phase:
    """One stage of a schedule.

    hidden: student layers (from 1) whose states the objective wants. head_rate: None for one rate for all.
    steps: stop after so many, in the middle of an epoch if need be; None for whole epochs. balance: what weighs the
    terms of the objective and learns along in this phase alone.
    """

    name: str
    epochs: int
    rate: float
    objective: Objective
    hidden: tuple[int, ...] = ()
    head_rate: float | None = None
    steps: int | None = None
    balance: nn.Module = field(default_factory=nn.Module)


@dataclass
class Job:
    """All that the loop needs.

    `validate` gives the module's value of `measure`, in evaluation mode. `groups` are numbers of the groups whose rows
    a step must have together.
    """

    name: str
    module: TextModel
    encoded: Encoded
    phases: Sequence[Phase]
    validate: Callable[[TextModel], float]
    work: Path
    device: torch.device
    bf16: bool
    seed: int
    batch_size: int = 32
    patience: int = 3
    measure: Measure = HIGHER
    groups: Ints | None = None
    weight_decay: float = 0.01
    average: float = 0.0
    extra: nn.Module = field(default_factory=nn.Module)
    """Modules that learn along and are not part of the result (projections)."""

    @property
    def sampler(self) -> Sampler:
        """Which rows each step has."""
        return Sampler(self.encoded.lengths, self.batch_size, self.seed, self.groups)


def train(job: Job) -> Progress:
    """Run all phases, from the newest checkpoint in `job.work` on; the module ends with the best weights."""
    job.module.to(job.device)
    job.extra.to(job.device)
    torch.manual_seed(job.seed + parallel.rank())  # dropout differs between the shares of a step
    found = parallel.agree(checkpoint.latest(job.work))
    progress = Progress() if found is None else checkpoint.read_progress(found)
    if found is not None:
        reporter.say(f"  {job.name}: going on from step {progress.step:,}")
    while progress.stage < len(job.phases):
        _run_phase(job, progress, found)
        found = None
        progress.stage += 1
        progress.epoch = progress.step_in_epoch = progress.waiting = 0
        progress.stage_best = None
        _load_best(job)
        _save(job, progress, {"module": job.module, "extra": job.extra}, None)
    _load_best(job)
    return progress


def _save(job: Job, progress: Progress, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer | None) -> None:
    """Write a checkpoint, in the first process."""
    if parallel.is_first():
        checkpoint.save(job.work, progress, modules, optimizer)


def _load_best(job: Job) -> None:
    from safetensors.torch import load_file

    parallel.wait()  # for the first process, which writes the file
    job.module.load_state_dict(load_file(job.work / BEST))
    parallel.wait()  # for the others, before it is written again


def _optimizer(job: Job, phase: Phase) -> torch.optim.AdamW:
    head = {id(p) for p in job.module.head_parameters()} if phase.head_rate is not None else set()
    body = [p for p in job.module.parameters() if id(p) not in head]
    groups: list[dict[str, Any]] = [{"params": body, "lr": phase.rate}]
    if phase.head_rate is not None:
        groups.append({"params": job.module.head_parameters(), "lr": phase.head_rate})
    if extra := list(job.extra.parameters()):
        groups.append({"params": extra, "lr": phase.rate})
    if balance := list(phase.balance.parameters()):
        groups.append({"params": balance, "lr": BALANCE_RATE, "weight_decay": 0.0, "clipped": False})
    for group in groups:
        group["peak"] = group["lr"]
    return torch.optim.AdamW(groups, weight_decay=job.weight_decay, fused=True)


def rate_at(step: int, total: int) -> float:
    """Share of the peak rate at a step: linear warm-up over the first tenth, then linear decay to 0."""
    warmup = max(1, int(total * WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


@dataclass
class _Loop:
    """What one phase holds while it runs."""

    accelerator: Accelerator
    optimizer: torch.optim.AdamW
    averaged: AveragedModel | None
    counts: list[int]
    total: int
    saved: float

    def modules(self, job: Job, phase: Phase) -> dict[str, nn.Module]:
        own: dict[str, nn.Module] = {"module": job.module, "extra": job.extra, "balance": phase.balance}
        return own if self.averaged is None else own | {"averaged": self.averaged}


def _run_phase(job: Job, progress: Progress, found: Path | None) -> None:
    phase = job.phases[progress.stage]
    phase.balance.to(job.device)
    counts = [job.sampler.steps(progress.stage, epoch) for epoch in range(phase.epochs)]
    averaged = (
        AveragedModel(job.module, multi_avg_fn=get_ema_multi_avg_fn(job.average))  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if job.average
        else None
    )
    accelerator = Accelerator(cpu=job.device.type == "cpu")
    total = phase.steps or sum(counts)
    loop = _Loop(accelerator, _optimizer(job, phase), averaged, counts, total, time.monotonic())
    if found is not None:
        mid_phase = progress.epoch > 0 or progress.step_in_epoch > 0
        checkpoint.restore(
            found,
            loop.modules(job, phase) if mid_phase else {"module": job.module, "extra": job.extra},
            loop.optimizer if mid_phase else None,
        )
        if not parallel.is_first():  # what was written is the random state of the first
            torch.manual_seed(job.seed + parallel.rank() + progress.step)
        parallel.wait()
    with bar(f"{job.name}: {phase.name}", len(job.encoded) * phase.epochs, "rows") as shown:
        shown.resume_at(progress.epoch * len(job.encoded) + progress.step_in_epoch * job.batch_size)
        while progress.epoch < phase.epochs and progress.waiting < job.patience:
            _run_epoch(job, phase, progress, loop, shown)


def _run_epoch(job: Job, phase: Phase, progress: Progress, loop: _Loop, shown: Bar) -> None:
    batches = job.sampler.batches(progress.stage, progress.epoch)
    job.module.train()
    done = sum(loop.counts[: progress.epoch])
    for rows in batches[progress.step_in_epoch : loop.total - done]:
        step = done + progress.step_in_epoch
        for group in loop.optimizer.param_groups:
            group["lr"] = group["peak"] * rate_at(step, loop.total)
        _step(job, phase, progress, loop, rows, share=step / max(1, loop.total - 1))
        progress.step += 1
        progress.step_in_epoch += 1
        shown.advance(len(rows), "" if progress.best is None else f"best {progress.best:.4f}")
        if time.monotonic() - loop.saved > CHECKPOINT_SECONDS:
            _save(job, progress, loop.modules(job, phase), loop.optimizer)
            loop.saved = time.monotonic()
    _close_epoch(job, phase, progress, loop)
    _save(job, progress, loop.modules(job, phase), loop.optimizer)
    loop.saved = time.monotonic()


def _step(job: Job, phase: Phase, progress: Progress, loop: _Loop, rows: Ints, *, share: float) -> None:
    inputs = model_inputs(job.encoded, parallel.share_of(rows), job.module.input_names, job.device)
    with torch.autocast(job.device.type, torch.bfloat16, enabled=job.bf16):
        result = job.module(*inputs, hidden=phase.hidden)
    logits, hidden = result if phase.hidden else (result, None)
    said = parallel.gathered(logits.float(), len(rows))
    states = None if hidden is None else parallel.gathered(hidden.float(), len(rows))
    loss, parts = phase.objective(said, states, rows, share)
    check_finite(loss.detach(), f"{job.name}, stage {phase.name}, step {progress.step}")
    loop.accelerator.backward(loss)
    parallel.add_gradients(job.module)  # projections and weights of terms saw all rows already
    clipped = [group for group in loop.optimizer.param_groups if group.get("clipped", True)]
    clip([p for group in clipped for p in group["params"]])
    loop.optimizer.step()
    loop.optimizer.zero_grad(set_to_none=True)
    if loop.averaged is not None:
        loop.averaged.update_parameters(job.module)
    for name, part in {"loss": loss, **parts}.items():
        progress.sums[name] = progress.sums.get(name, 0.0) + float(part.detach())


def clip(parameters: Sequence[nn.Parameter]) -> None:
    """Scale gradients so that their norm is GRADIENT_NORM at the most.

    As torch's own clipping, which multiplies by 1 where nothing is to be scaled: a pass over all gradients for nothing.
    """
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if norm > GRADIENT_NORM:
        nn.utils.clip_grads_with_norm_(parameters, GRADIENT_NORM, norm)


def _close_epoch(job: Job, phase: Phase, progress: Progress, loop: _Loop) -> None:
    from safetensors.torch import save_file

    judged = job.module if loop.averaged is None else cast(TextModel, loop.averaged.module)
    judged.eval()
    parallel.share_buffers(judged)
    metric = parallel.agree(job.validate(judged) if parallel.is_first() else 0.0)
    # Told by the step, not by the optimizer: after a resume at the end of an epoch it has taken no step yet.
    share = rate_at(sum(loop.counts[: progress.epoch]) + progress.step_in_epoch - 1, loop.total)
    means = {name: value / max(progress.step_in_epoch, 1) for name, value in progress.sums.items()}
    progress.epoch += 1
    progress.step_in_epoch, progress.sums = 0, {}
    progress.history.append(
        {"stage": phase.name, "epoch": progress.epoch, "step": progress.step, "metric": metric}
        | means
        | {"learning_rate": phase.rate * share}
    )
    if job.measure.better(metric, progress.best):
        progress.best, progress.best_at = metric, f"{phase.name}, epoch {progress.epoch}"
        if parallel.is_first():
            with publishing(job.work / BEST) as temporary:
                save_file({k: v.detach().cpu().clone().contiguous() for k, v in judged.state_dict().items()}, temporary)
    improved = job.measure.better(metric, progress.stage_best)
    progress.waiting = 0 if improved else progress.waiting + 1
    progress.stage_best = metric if improved else progress.stage_best
    reporter.detail(f"  {job.name}: {phase.name} epoch {progress.epoch}: validation {metric:.4f}")

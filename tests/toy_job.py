"""A training of seconds, in two phases, that stops where a test wants it to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.batch import Ints
from compress.distill import trainer
from compress.distill.checkpoint import Progress
from compress.distill.losses import hidden_states, soft_targets
from compress.distill.trainer import Job, Phase
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

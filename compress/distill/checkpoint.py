"""Checkpoints from which training goes on bit for bit: weights, optimizer, random state, place in the data.

Tensors are safetensors, the rest is JSON; nothing is pickled. A checkpoint is a folder, published by rename
under a name of its own; the older ones are deleted only after the newer stands.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.artifacts import publishing, remove

PREFIX = "step-"


@dataclass
class Progress:
    """Where training stands.

    step counts over all stages; best is the best validation metric so far, waiting the epochs since.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    best: float | None = None
    best_at: str = ""
    stage_best: float | None = None
    waiting: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def save(
    folder: Path, progress: Progress, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer | None
) -> None:
    """Write a checkpoint, then delete the older ones."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {"random.torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    for name, module in modules.items():
        tensors |= {f"module.{name}.{key}": value for key, value in module.state_dict().items()}
    if optimizer is not None:
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{key}": torch.as_tensor(value) for key, value in state.items()}
    # Storage that two names share would be refused by safetensors.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    # The end of an epoch is another state of the same step: it must not replace what a kill may still need.
    target = folder / f"{PREFIX}{progress.stage:02d}-{progress.step:09d}-{progress.epoch:06d}"
    with publishing(target) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / "tensors.safetensors")
        (temporary / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    for older in folder.glob(f"{PREFIX}*"):
        if older.name < target.name:
            remove(older)


def latest(folder: Path) -> Path | None:
    """The newest checkpoint, or None."""
    return max(folder.glob(f"{PREFIX}*"), default=None, key=lambda path: path.name)


def read_progress(checkpoint: Path) -> Progress:
    """Where training stood."""
    return Progress(**json.loads((checkpoint / "progress.json").read_bytes()))


def restore(checkpoint: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer | None) -> None:
    """Put weights, optimizer and random state back as they were."""
    from safetensors.torch import load_file

    tensors = load_file(checkpoint / "tensors.safetensors")
    for name, module in modules.items():
        prefix = f"module.{name}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    if optimizer is not None:
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".", 2)
                states.setdefault(int(number), {})[key] = tensor
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.torch"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])

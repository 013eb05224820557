"""A student at its start, with all that a trainer other than kdc's needs to train it on equal terms.

Everything comes from a finished run: the rows, what its teacher said of them, how many steps its student took.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from compress.artifacts import Artifact, read_artifact
from compress.batch import Encoded, Examples, Floats, Ints, TeacherOutputs
from compress.data.encode import encode_examples
from compress.data.load import load_splits
from compress.distill.objectives import Objectives, objectives_of
from compress.distill.sampler import Sampler
from compress.distill.stages import encoder_of
from compress.distill.weighting import Settings, settings_at
from compress.errors import DataError, IntegrityError
from compress.predict import model_inputs, predict_logits
from compress.progress import reporter
from compress.recipe.file import load_recipe
from compress.steps.context import Run
from compress.steps.learning import build
from compress.students.build import Built
from compress.teachers.arrays import read_outputs
from compress.text_model import TextModel

ROWS = "rows"
"""Name of a batch's row numbers, beside the inputs of the model."""
ASKED_AGAIN = 32
"""Rows on which the teacher's kept answers are compared with what it says now."""
STRANGER = 0.1
"""Mean difference of the two, as a share of the logits' standard deviation, from which on they are not of one row."""

Batch = dict[str, Tensor]
"""`rows` int64 [B], and the inputs of the student int64 [B, T] by name."""


@dataclass(frozen=True)
class Study:
    """What a peer trains, and on what.

    steps: optimizer steps, of kdc's student unless another number was asked for. kept: the stages of the run.
    """

    run: Run
    built: Built
    outputs: TeacherOutputs
    steps: int
    kept: dict[str, Artifact]

    @property
    def seed(self) -> int:
        """Of the student's start, the order of the rows and dropout."""
        return self.run.recipe.seed

    @cached_property
    def rows(self) -> Examples:
        """Training rows, then the transfer set."""
        return self.run.splits.transfer

    @cached_property
    def encoded(self) -> Encoded:
        """The rows as the student reads them."""
        return encode_examples(encoder_of(self.built), self.rows)

    @cached_property
    def validation(self) -> Encoded:
        """The validation rows as the student reads them."""
        return encode_examples(encoder_of(self.built), self.run.splits.validation)

    @cached_property
    def objectives(self) -> Objectives:
        """Losses against the labels."""
        return objectives_of(self.run.judge.kind, self.rows, self.run.device)

    @property
    def batch_size(self) -> int:
        """Rows in a step."""
        return self.run.recipe.distill.batch_size

    @property
    def rate(self) -> float:
        """Peak learning rate: that of the recipe's first stage."""
        return self.run.recipe.distill.stages[0].learning_rate

    @property
    def aim(self) -> Settings:
        """Temperature and weights of the recipe's last stage, which has all the terms, at its first step."""
        return settings_at(self.run.recipe.distill.stages[-1], 0.0)

    @cached_property
    def sampler(self) -> Sampler:
        """The order of the rows in kdc's first stage, which the peers follow to the end."""
        return Sampler(self.encoded.lengths, self.batch_size, self.seed)

    @property
    def epoch_steps(self) -> int:
        """Steps in which all rows are seen once."""
        return self.sampler.steps(0, 0)

    def batches(self) -> list[Ints]:
        """Rows of each step, as many as there are steps."""
        epochs = -(-self.steps // self.epoch_steps)
        made = [rows for epoch in range(epochs) for rows in self.sampler.batches(0, epoch)]
        return made[: self.steps]

    def collate(self, rows: Sequence[int]) -> Batch:
        """The inputs of some rows, padded to the longest of them, on the device."""
        names, device = self.built.module.input_names, self.run.device
        inputs = model_inputs(self.encoded, rows, names, device)
        return {ROWS: torch.tensor(rows, device=device), **dict(zip(names, inputs, strict=True))}

    def loader(self) -> DataLoader[Any]:
        """One batch a step."""
        every: Any = range(len(self.rows))
        return DataLoader(every, batch_sampler=Batches(self), collate_fn=self.collate)


class Batches(BatchSampler):
    """kdc's batches for whoever takes a batch sampler of torch."""

    def __init__(self, study: Study) -> None:
        super().__init__(SequentialSampler(range(len(study.rows))), study.batch_size, drop_last=False)
        self.steps = [rows.tolist() for rows in study.batches()]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


class KeptTeacher(nn.Module):
    """Answers with what the run's teacher said of a batch's rows instead of computing it.

    Logits float32 [B, C]; with `hidden` also the token means [B, L, H] of the mapped layers.
    """

    def __init__(self, study: Study, *, hidden: bool = False) -> None:
        super().__init__()
        self.outputs, self.hidden = study.outputs, hidden

    def forward(self, rows: Tensor, **_inputs: Tensor) -> Any:
        picked = rows.cpu().numpy()
        logits = torch.from_numpy(self.outputs.logits[picked]).to(rows.device).float()
        if not self.hidden or self.outputs.hidden is None:
            return logits
        return logits, torch.from_numpy(self.outputs.hidden[picked]).to(rows.device).float()


class AsPeersCall(nn.Module):
    """The student, called with a batch's inputs by name and in the arithmetic of kdc's student; answers are float32."""

    def __init__(self, study: Study, *, hidden: bool = False) -> None:
        super().__init__()
        self.module = study.built.module
        self.device, self.bf16 = study.run.device, study.run.bf16
        self.hidden = tuple(range(1, self.module.layers + 1)) if hidden else ()

    def forward(self, rows: Tensor, **inputs: Tensor) -> Any:
        with torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            result = self.module(*(inputs[name] for name in self.module.input_names), hidden=self.hidden)
        return tuple(part.float() for part in result) if self.hidden else result.float()


class Keeper:
    """Judges a student on validation after each epoch's worth of steps, as kdc does, and keeps the best weights."""

    def __init__(self, study: Study, name: str, module: TextModel) -> None:
        self.study, self.name, self.module = study, name, module
        self.best: float | None = None
        self.weights: dict[str, Tensor] = {}

    def after(self, step: int) -> None:
        """Called after each step, counted from 1; judges at the end of an epoch and of the training."""
        study = self.study
        if step % study.epoch_steps and step != study.steps:
            return
        run = study.run
        metric = run.judge.validate(self.module, study.validation, run.device, run.bf16)
        self.module.train()
        reporter.say(f"  {self.name}: step {step:,} of {study.steps:,}, validation {metric:.4f}")
        if run.judge.kind.metric.better(metric, self.best):
            self.best = metric
            self.weights = {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def finish(self) -> TextModel:
        """The module with its best weights."""
        self.module.load_state_dict(self.weights)
        return self.module


def open_study(
    folder: Path, work: Path, *, seed: int | None = None, steps: int | None = None, overrides: Sequence[str] = ()
) -> Study:
    """Read a finished run and build its student anew.

    Args:
        folder: of the run. work: folder for files of the data, kept as long as the study.
        seed: None for the recipe's; another one changes the start and the order of the rows, not the rows.
        steps: None for as many as the run's student took. overrides: `key.path=value` for the recipe.

    Raises:
        DataError: the run is not finished, or of a commit that did not keep what is needed.
        IntegrityError: the kept answers are not those of this teacher to these rows.
    """
    loaded = load_recipe(folder / "recipe.yaml", overrides)
    kept = {name: found for name in ("teacher", "student", "control") if (found := read_artifact(folder / name))}
    taken = _steps(folder, kept)
    splits = load_splits(loaded, work)
    recipe = loaded.recipe if seed is None else loaded.recipe.model_copy(update={"seed": seed})
    run = Run(loaded.model_copy(update={"recipe": recipe}), folder, splits)
    outputs = read_outputs(folder / "outputs")
    _check_answers(run, outputs)
    return Study(run, build(run), outputs, steps or taken, kept)


def _steps(folder: Path, kept: dict[str, Artifact]) -> int:
    for name in ("teacher", "student"):
        if name not in kept:
            raise DataError(f"{folder}: there is no {name}/artifact.json; give the folder of a finished run")
    if not (folder / "outputs").is_dir():
        raise DataError(f"{folder}: there is no outputs/ with what the teacher said; give the folder of a finished run")
    steps: int | None = kept["student"].metrics.get("steps")
    if steps is None:
        raise DataError(f"{folder}: student/artifact.json does not tell the steps; run the recipe again with this kdc")
    return steps


def _check_answers(run: Run, outputs: TeacherOutputs) -> None:
    """Compare kept answers with what the teacher says now: the rows may have been made otherwise at another commit."""
    rows = run.splits.transfer
    if len(outputs.logits) != len(rows):
        raise IntegrityError(
            f"{run.folder}: the teacher answered {len(outputs.logits):,} rows, but the data now have {len(rows):,}; "
            "run the recipe again with this kdc and these data"
        )
    taught = run.taught()
    if taught is None or outputs.classes is not None:
        return
    places = np.unique(np.linspace(0, len(rows) - 1, ASKED_AGAIN).astype(np.int64))
    now = predict_logits(taught.module, encode_examples(taught.encoder, rows.take(places)), run.device)
    before: Floats = np.asarray(outputs.logits[places], np.float32)
    apart, usual = float(np.abs(now - before).mean()), float(now.std())
    if apart > STRANGER * usual:
        raise IntegrityError(
            f"{run.folder}: what the teacher says now of {len(places)} rows is {apart:.3g} from what was kept, on "
            f"average, where logits deviate by {usual:.3g}; run the recipe again with this kdc and these data"
        )

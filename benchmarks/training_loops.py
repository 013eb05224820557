"""The loops that `benchmarks.training` compares, and the clock that stops them.

The plain ones are what people write themselves, with the usual parts of torch and transformers, each with one thing
more than the one before. Then there are TextBrewer's distiller, in its environment, and kdc's trainer, called as a run
calls it.
"""

from __future__ import annotations

import copy
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding

from compress.batch import Encoded, Examples, Ints, Splits, TeacherOutputs, no_labels
from compress.data.encode import encode_examples
from compress.data.simulate import simulate
from compress.distill.device import training_device, use_bf16
from compress.distill.losses import hidden_states, soft_targets
from compress.distill.objectives import LabelObjectives, Objectives
from compress.distill.sampler import epoch_batches, steps_per_epoch
from compress.distill.stages import distil_objective, encoder_of
from compress.distill.trainer import Job, Phase, train
from compress.distill.weighting import Parts, settings_at
from compress.recipe import ClassificationTask, Losses, SimulatedShop, Stage, TransformerStudent
from compress.students.build import Built, build_student, student_tokens
from compress.teachers.arrays import read_outputs
from compress.teachers.huggingface import Teacher
from compress.teachers.outputs import compute_outputs
from compress.text_model import TransformerClassifier

STAGE = Stage(name="align", epochs=1, learning_rate=2e-4, temperature=2.0, losses=Losses(soft=1.0, hidden=0.1))
BATCH, MAX_LENGTH, SEED = 32, 128, 7
TEXTBREWER = "textbrewer"
FOREVER = 10**9
"""Steps that no loop gets to before its time is up."""


class TimeIsUp(Exception):
    """Ends a loop from inside one of its steps."""


class Watch:
    """Counts the rows between steps.

    The first interval is warm-up (the optimizer's state is made there) when more follow.
    """

    def __init__(self, seconds: float, device: torch.device) -> None:
        self.seconds, self.device = seconds, device
        self.marks: list[tuple[float, int]] = []

    def step(self, rows: int) -> None:
        """Called by every loop at the same place: after the student's forward pass, before the losses.

        Raises:
            TimeIsUp: at least one interval was timed and the seconds are over.
        """
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.marks.append((time.perf_counter(), rows))
        timed = self._timed()
        if len(self.marks) > 2 and timed[-1][0] - timed[0][0] >= self.seconds:
            raise TimeIsUp

    def _timed(self) -> list[tuple[float, int]]:
        return self.marks[1:] if len(self.marks) > 2 else self.marks

    def rate(self) -> float:
        """Rows a second."""
        timed = self._timed()
        return sum(rows for _, rows in timed[:-1]) / (timed[-1][0] - timed[0][0])


Loop = Callable[[Watch, int], None]
"""Trains until the watch stops it or its epoch ends; the number seeds the order of the rows."""


@dataclass(frozen=True)
class Lesson:
    """One student with all that the loops share.

    fill: rows a second at which kdc cached the teacher's outputs.
    """

    teacher: Teacher
    built: Built
    rows: Examples
    encoded: Encoded
    outputs: TeacherOutputs
    fill: float
    device: torch.device
    bf16: bool

    @property
    def objectives(self) -> Objectives:
        """The losses of the task."""
        return LabelObjectives(self.rows, self.device)

    @property
    def layers(self) -> tuple[int, ...]:
        """Student layers whose states are compared."""
        return tuple(range(1, self.built.module.layers + 1))


def shop(rows: int) -> Splits:
    """The simulated shop with two titles to each text, about 34 tokens together."""
    splits = simulate(
        SimulatedShop(kind="simulated-shop", train=2 * rows), ClassificationTask(kind="classification"), SEED
    )
    train_rows = splits.train
    joined = [f"{a} {b}" for a, b in zip(train_rows.texts[:rows], train_rows.texts[rows:], strict=True)]
    train = Examples(ids=train_rows.ids[:rows], texts=joined, labels=no_labels(rows, None))
    return Splits(train, splits.validation, splits.test, None, splits.labels, splits.fingerprint, splits.notes)


def prepare(section: TransformerStudent, teacher: Teacher, rows: Examples, work: Path) -> Lesson:
    """Build a student and fill the cache of what the teacher says, as a run does."""
    device = training_device()
    bf16 = use_bf16("auto", device)
    spec = teacher.spec
    built = build_student(
        section,
        teacher=teacher.module,
        teacher_spec=spec,
        tokens=student_tokens(section, teacher.tokenizer_json, spec.pad_id, rows.texts),
        texts=rows.texts,
        task=spec.task,
        labels=spec.labels,
        positive=None,
        seed=SEED,
    )
    shards, out = work / "shards", work / "outputs"
    shards.mkdir(parents=True)
    layers = built.layer_map
    start = time.perf_counter()
    asked = encode_examples(teacher.encoder, rows)
    compute_outputs(teacher, asked, layers=layers, work=shards, out=out, device=device, bf16=bf16)
    fill = len(rows) / (time.perf_counter() - start)
    encoded = encode_examples(encoder_of(built), rows)
    return Lesson(teacher, built, rows, encoded, read_outputs(out), fill, device, bf16)


def plain_copy(module: Any, device: torch.device) -> TransformerClassifier:
    """A copy with the attention that transformers takes by default."""
    copied: TransformerClassifier = copy.deepcopy(module)
    copied.model.set_attn_implementation("sdpa")
    return copied.to(device)


@dataclass(frozen=True)
class Rung:
    """What a plain loop does beyond the simplest one.

    padding: each batch to MAX_LENGTH or to its longest row. bucketed: rows of like length in a batch. cached: the
    teacher was asked once, beforehand. bf16: the student's forward pass in bfloat16, where kdc trains in it. fused:
    the fused AdamW.
    """

    padding: Literal["max_length", "longest"] = "longest"
    bucketed: bool = False
    cached: bool = False
    bf16: bool = False
    fused: bool = False


RUNGS = {
    "naive": Rung(padding="max_length"),
    "dynamic": Rung(),
    "bucketed": Rung(bucketed=True),
    "cached": Rung(bucketed=True, cached=True),
    "bf16": Rung(bucketed=True, cached=True, bf16=True),
    "fused": Rung(bucketed=True, cached=True, bf16=True, fused=True),
}
"""From the usual script to all that kdc does apart from its own code."""


class Buckets:
    """Batches of rows of like length, in another order each epoch: a batch sampler for torch's DataLoader."""

    def __init__(self, lengths: Ints) -> None:
        self.lengths, self.epoch = lengths, 0

    def __iter__(self) -> Iterator[list[int]]:
        batches = epoch_batches(self.lengths, BATCH, seed=SEED, epoch=self.epoch)
        self.epoch += 1
        return iter([rows.tolist() for rows in batches])

    def __len__(self) -> int:
        return steps_per_epoch(len(self.lengths), BATCH)


def plain_loader(lesson: Lesson, rung: Rung) -> DataLoader[Any]:
    """Padded batches: `row` int64 [B], and the tokenizer's fields int64 [B, T]."""
    tokenizer = lesson.teacher.tokenizer
    tokenized = tokenizer(list(lesson.rows.texts), truncation=True, max_length=MAX_LENGTH, return_token_type_ids=True)
    features: Any = [{"row": i} | {name: tokenized[name][i] for name in tokenized} for i in range(len(lesson.rows))]
    collator = DataCollatorWithPadding(tokenizer, padding=rung.padding, max_length=MAX_LENGTH)
    if rung.bucketed:
        return DataLoader(features, batch_sampler=Buckets(lesson.encoded.lengths), collate_fn=collator)
    return DataLoader(features, batch_size=BATCH, shuffle=True, collate_fn=collator)


class PlainLoop:
    """The usual script, with what the rung adds. teacher: as `plain_copy` gives it, in evaluation mode."""

    def __init__(self, lesson: Lesson, rung: Rung, teacher: TransformerClassifier) -> None:
        self.lesson, self.rung, self.teacher = lesson, rung, teacher
        self.student = plain_copy(lesson.built.module, lesson.device)
        self.projections = copy.deepcopy(lesson.built.projections).to(lesson.device)
        self.loader = plain_loader(lesson, rung)
        self.bf16 = rung.bf16 and lesson.bf16

    def __call__(self, watch: Watch, seed: int) -> None:
        """Train until the watch raises."""
        torch.manual_seed(seed)
        self.student.train()
        parameters = [*self.student.parameters(), *self.projections.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=STAGE.learning_rate, fused=self.rung.fused)
        for batch in itertools.chain.from_iterable(itertools.repeat(self.loader)):
            said, states = self._teacher_says(batch)
            with torch.autocast(self.lesson.device.type, torch.bfloat16) if self.bf16 else nullcontext():
                logits, hidden = self.student(*self._inputs(batch, self.student), hidden=self.lesson.layers)
            watch.step(len(logits))
            loss = self._loss(logits.float(), hidden.float(), said, states)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()

    def _teacher_says(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Logits [B, C] and the token means of the mapped layers [B, L, H]."""
        if not self.rung.cached:
            with torch.no_grad():
                answer: tuple[Tensor, Tensor] = self.teacher(
                    *self._inputs(batch, self.teacher), hidden=self.lesson.built.layer_map
                )
            return answer
        picked, outputs = batch["row"].numpy(), self.lesson.outputs
        if outputs.hidden is None:
            raise ValueError("the teacher's outputs have no hidden states")
        said, states = (torch.from_numpy(kept[picked]) for kept in (outputs.logits, outputs.hidden))
        return said.to(self.lesson.device).float(), states.to(self.lesson.device).float()

    def _inputs(self, batch: Any, module: TransformerClassifier) -> list[Tensor]:
        return [batch[name].to(self.lesson.device) for name in module.input_names]

    def _loss(self, logits: Tensor, hidden: Tensor, said: Tensor, states: Tensor) -> Tensor:
        projected = torch.stack([project(hidden[:, i]) for i, project in enumerate(self.projections)], 1)
        now = settings_at(STAGE, 0.0)
        soft = soft_targets(logits, said, now.temperature)
        return now.weights["soft"] * soft + now.weights["hidden"] * hidden_states(projected, states)


class _Named(nn.Module):
    """A classifier that is called with a batch's fields by name; answers logits and the states of some layers."""

    def __init__(self, module: TransformerClassifier, layers: Sequence[int]) -> None:
        super().__init__()
        self.module, self.layers = module, tuple(layers)

    def forward(self, **batch: Tensor) -> Any:
        return self.module(*(batch[name] for name in self.module.input_names), hidden=self.layers)


class TextBrewerLoop:
    """TextBrewer's `GeneralDistiller` on the batches of the simplest loop, comparing the same logits and states."""

    def __init__(self, lesson: Lesson, teacher: TransformerClassifier) -> None:
        self.lesson, self.loader = lesson, plain_loader(lesson, RUNGS["naive"])
        self.teacher = _Named(teacher, lesson.built.layer_map)
        self.student = _Named(plain_copy(lesson.built.module, lesson.device), lesson.layers)

    def __call__(self, watch: Watch, seed: int) -> None:
        """Train until the watch raises."""
        from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

        torch.manual_seed(seed)
        now = settings_at(STAGE, 0.0)
        widths = (self.student.module.width, self.teacher.module.width)
        match = {"feature": "hidden", "loss": "hidden_mse", "weight": now.weights["hidden"]}
        matches = [
            match | {"layer_T": i, "layer_S": i, "proj": ["linear", *widths]} for i in range(len(self.lesson.layers))
        ]

        def watched(batch: Any, answer: tuple[Tensor, Tensor]) -> dict[str, Any]:
            watch.step(len(answer[0]))
            return said(batch, answer)

        def said(batch: Any, answer: tuple[Tensor, Tensor]) -> dict[str, Any]:
            return {"logits": answer[0], "hidden": list(answer[1].unbind(1))}

        with tempfile.TemporaryDirectory() as work:
            distiller = GeneralDistiller(
                TrainingConfig(ckpt_steps=FOREVER, output_dir=work, device=self.lesson.device),
                DistillationConfig(temperature=now.temperature, intermediate_matches=matches),
                self.teacher,
                self.student,
                said,
                watched,
            )
            optimizer = torch.optim.AdamW(self.student.parameters(), lr=STAGE.learning_rate)
            with distiller:
                distiller.train(optimizer, self.loader, num_steps=FOREVER, batch_postprocessor=dict)


class KdcLoop:
    """kdc's trainer; only the objective is wrapped, to see the steps go by."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson
        self.student = copy.deepcopy(lesson.built.module)
        self.projections: nn.ModuleList = copy.deepcopy(lesson.built.projections)
        self.objective = distil_objective(STAGE, lesson.outputs, lesson.objectives, self.projections, lesson.device)

    def __call__(self, watch: Watch, seed: int) -> None:
        """Train until the watch raises, one epoch at the most; what is written at its end is not timed."""

        def objective(logits: Tensor, hidden: Tensor | None, picked: Ints, share: float) -> tuple[Tensor, Parts]:
            watch.step(len(picked))
            return self.objective(logits, hidden, picked, share)

        phase = Phase(STAGE.name, 1, STAGE.learning_rate, objective, self.lesson.layers)
        with tempfile.TemporaryDirectory() as work:
            train(
                Job(
                    name="kdc",
                    module=self.student,
                    encoded=self.lesson.encoded,
                    phases=[phase],
                    validate=lambda module: 0.0,
                    work=Path(work),
                    device=self.lesson.device,
                    bf16=self.lesson.bf16,
                    seed=seed,
                    batch_size=BATCH,
                    extra=self.projections,
                )
            )


def loops(lesson: Lesson) -> dict[str, Loop]:
    """The contenders, each with a student of its own; TextBrewer is imported when its loop is called."""
    teacher = plain_copy(lesson.teacher.module, lesson.device).eval()
    found: dict[str, Loop] = {name: PlainLoop(lesson, rung, teacher) for name, rung in RUNGS.items()}
    return found | {TEXTBREWER: TextBrewerLoop(lesson, teacher), "kdc": KdcLoop(lesson)}

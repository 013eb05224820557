"""Quantization-aware distillation: it mends what rounding to 4 bits breaks, and goes on bit for bit after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress.batch import Floats, TeacherOutputs
from compress.data.encode import encode_examples
from compress.distill import trainer
from compress.distill.aware import distil_aware
from compress.distill.checkpoint import Progress
from compress.distill.judge import Judge
from compress.distill.stages import Schooling, encoder_of
from compress.predict import model_inputs, predict_logits
from compress.recipe import ClassificationTask, Distill, MobileStudent, Stage, Vocabulary
from compress.students.build import Built, build_student, student_tokens
from compress.students.fake_quantization import calibrate, fake_quantized
from tests.tiny_models import CORPUS, splits

CPU = torch.device("cpu")
DATA = splits(rows=64)
LEARNING = Stage(name="aware", epochs=6, learning_rate=2e-3)
SECTION = MobileStudent(
    kind="mobile", width=16, blocks=1, kernel=3, dropout=0, init="random", vocabulary=Vocabulary(train=300)
)


def built_student() -> Built:
    """A student with outliers in its weights, which cost all others their precision."""
    built = build_student(
        SECTION,
        teacher=None,
        teacher_spec=None,
        tokens=student_tokens(SECTION, None, 0, CORPUS),
        texts=CORPUS,
        task="classification",
        labels=DATA.labels,
        positive=None,
        seed=1,
    )
    torch.manual_seed(2)
    with torch.no_grad():
        for layer in built.module.modules():
            if isinstance(layer, nn.Linear | nn.Conv1d):
                layer.weight.mul_(torch.where(torch.rand_like(layer.weight) < 0.05, 6.0, 1.0))
    return built


def answers(built: Built) -> Floats:
    """Logits of the training rows."""
    return predict_logits(built.module, encode_examples(encoder_of(built), DATA.transfer), CPU)


def rounded(bits: int) -> tuple[Built, Floats]:
    """The student under fake quantization, calibrated, and what it said in float."""
    built = built_student()
    said = answers(built)
    encoded = encode_examples(encoder_of(built), DATA.transfer)
    module = fake_quantized(built.module, bits)
    calibrate(module, [model_inputs(encoded, range(32), module.input_names, CPU)])
    return replace(built, module=module), said


def learn(built: Built, said: Floats, work: Path) -> Progress:
    """Distil it from what the float student said."""
    work.mkdir(exist_ok=True)
    section = Distill(stages=(LEARNING,), batch_size=8, precision="fp32", patience=10)
    schooling = Schooling(Judge(DATA, ClassificationTask(kind="classification")), section, CPU, False, 3)
    return distil_aware(built, TeacherOutputs(logits=said.astype(np.float16)), LEARNING, schooling, work)


def test_four_bits_lose_less_after_learning(tmp_path: Path) -> None:
    built, said = rounded(4)
    before = np.abs(answers(built) - said).mean()
    scales = {name: value.clone() for name, value in built.module.named_parameters() if name.endswith("moved")}
    progress = learn(built, said, tmp_path / "work")
    after = np.abs(answers(built) - said).mean()
    assert after < 0.7 * before, (before, after)
    assert progress.history[-1]["soft"] < progress.history[0]["soft"]
    moved = dict(built.module.named_parameters())
    assert all(not torch.equal(value, moved[name]) for name, value in scales.items())


def test_it_continues_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the first and in a later epoch; ranges are looked at anew each time, and nothing comes of it."""
    whole, said = rounded(4)
    expected = learn(whole, said, tmp_path / "whole")
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    check = trainer.check_finite
    left = [0]

    def stop(loss: torch.Tensor, place: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        check(loss, place)

    monkeypatch.setattr(trainer, "check_finite", stop)
    for steps in (5, 14):
        left[0] = steps
        with pytest.raises(KeyboardInterrupt):
            learn(*rounded(4), tmp_path / "work")
    again, said = rounded(4)
    assert learn(again, said, tmp_path / "work") == expected
    ours, theirs = again.module.state_dict(), whole.module.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

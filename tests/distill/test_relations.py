"""Attention relations: which layers are watched, and whole trainings with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.batch import Splits, TeacherOutputs
from compress.distill import trainer
from compress.distill.checkpoint import Progress
from compress.distill.judge import Judge
from compress.distill.relations import Relations
from compress.distill.stages import Schooling, distil
from compress.errors import RecipeError
from compress.recipe import ClassificationTask, Distill, HuggingFaceTeacher, TransformerStudent
from compress.students.build import Built, build_student
from compress.students.vocabulary import whole
from compress.teachers.huggingface import Teacher, load_teacher
from tests.relations_by_loops import relations_by_loops
from tests.tiny_models import bert_folder, gpt2_folder, splits

CPU = torch.device("cpu")


def masked(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(-1)


# ---------------------------------------------------------------- models


@pytest.fixture(scope="module")
def data() -> Splits:
    return splits(rows=48)


@pytest.fixture
def teacher(tmp_path: Path, data: Splits) -> Teacher:
    return loaded(bert_folder(tmp_path / "teacher"), data)


def loaded(folder: Path, data: Splits) -> Teacher:
    section = HuggingFaceTeacher(model=str(folder), max_length=32)
    return load_teacher(section, folder, task="classification", labels=data.labels, positive=None, trained=True)


def student(teacher: Teacher, data: Splits, **section: object) -> Built:
    return build_student(
        TransformerStudent.model_validate({"kind": "transformer", "layers": 2} | section),
        teacher=teacher.module,
        teacher_spec=teacher.spec,
        tokens=whole(teacher.tokenizer_json, teacher.spec.pad_id),
        texts=data.transfer.texts,
        task="classification",
        labels=data.labels,
        positive=None,
        seed=1,
    )


def batch() -> list[Tensor]:
    """Ids, mask and type ids of two rows, of 7 and 4 tokens."""
    ids = torch.randint(5, 90, (2, 7))
    mask = masked([7, 4]).long()
    return [ids * mask, mask, torch.zeros_like(ids)]


@pytest.mark.parametrize(
    "section", [{}, {"layer_map": [1, 3]}, {"init": "random", "hidden": 24, "heads": 3}], ids=["cut", "map", "anew"]
)
def test_the_last_layer_is_compared_with_the_teachers_behind_it(
    teacher: Teacher, data: Splits, section: dict[str, object]
) -> None:
    """Queries, keys and values again from the layers' inputs; the teacher's 4 heads divide both widths."""
    built = student(teacher, data, **section)
    inputs = batch()
    layer = built.layer_map[-1]
    relations = Relations(built.module, teacher.module, layer, bf16=False)  # type: ignore[arg-type]  # a transformer
    built.module.eval()(*inputs)
    found = relations()
    expected = 0.0
    named = dict(zip(("input_ids", "attention_mask", "token_type_ids"), inputs, strict=True))
    for part in ("query", "key", "value"):
        states = []
        for model, number in ((built.module.model, built.module.layers), (teacher.module.model, layer)):
            before = model(**named, output_hidden_states=True).hidden_states[number - 1]
            states.append(getattr(model.bert.encoder.layer[number - 1].attention.self, part)(before).detach())
        expected += relations_by_loops(states[0], states[1], masked([7, 4]), 4)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert found.requires_grad
    relations.close()
    assert not relations.ours.states


def test_the_teacher_itself_has_nothing_to_learn(teacher: Teacher, data: Splits) -> None:
    built = student(teacher, data, layers=4)
    relations = Relations(built.module, teacher.module, 4, bf16=False)  # type: ignore[arg-type]  # a transformer
    built.module.eval()(*batch())
    assert abs(relations().item()) < 1e-6


def test_models_that_cannot_be_compared(tmp_path: Path, teacher: Teacher, data: Splits) -> None:
    narrow = student(teacher, data, init="random", hidden=30, heads=3)
    with pytest.raises(RecipeError, match=r"the teacher's 4 attention heads do not divide student.hidden, which is 30"):
        Relations(narrow.module, teacher.module, 4, bf16=False)  # type: ignore[arg-type]  # a transformer
    decoder = loaded(gpt2_folder(tmp_path / "decoder"), data)
    with pytest.raises(RecipeError, match=r"queries, keys and values of GPT2ForSequenceClassification are not told"):
        Relations(student(teacher, data).module, decoder.module, 4, bf16=False)  # type: ignore[arg-type]  # a transformer


# ---------------------------------------------------------------- trainings

SECTION = Distill.model_validate(
    {
        "stages": [
            {"name": "imitate", "epochs": 1, "learning_rate": 1e-3},
            {
                "name": "relate",
                "epochs": 2,
                "learning_rate": 1e-3,
                "losses": {"soft": {"from": 1, "to": 0.5}, "relations": 1},
            },
        ],
        "batch_size": 16,
        "precision": "fp32",
    }
)


def learn(teacher: Teacher, data: Splits, work: Path) -> tuple[Built, Progress]:
    """A student that is distilled by SECTION, going on from what stands in `work`."""
    work.mkdir(exist_ok=True)
    built = student(teacher, data, init="random")
    said = TeacherOutputs(logits=np.random.default_rng(0).normal(size=(48, 3)).astype(np.float16))
    schooling = Schooling(Judge(data, ClassificationTask(kind="classification")), SECTION, CPU, bf16=False, seed=1)
    return built, distil(built, said, schooling, work, teacher.module)


def stopping(after: int) -> Callable[[Relations], Tensor]:
    """Ctrl-C instead of the term, after so many."""
    left, real = [after], Relations.__call__

    def called(self: Relations) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(self)

    return called


def test_relations_are_learned_and_go_on_after_a_kill(
    tmp_path: Path, teacher: Teacher, data: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The term falls; interrupted in the middle of its stage the training ends with the same bits; no hook stays."""
    whole_one, expected = learn(teacher, data, tmp_path / "whole")
    first, *rest = expected.history
    assert "relations" not in first
    assert rest[1]["relations"] < rest[0]["relations"]
    assert rest[1]["weight.relations"] == 1.0
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    for after in (2, 1):
        with monkeypatch.context() as patched:
            patched.setattr(Relations, "__call__", stopping(after))
            with pytest.raises(KeyboardInterrupt):
                learn(teacher, data, tmp_path / "work")
    built, progress = learn(teacher, data, tmp_path / "work")
    assert progress == expected
    ours, theirs = built.module.state_dict(), whole_one.module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for module in (*built.module.modules(), *teacher.module.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks

"""Factored token embeddings: the best of their rank, the same when loaded again, smaller, and exported like others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.errors import RecipeError
from compress.recipe import TransformerStudent
from compress.students.build import Built, build_student, describe, load_student, save_student
from compress.students.factored import FactoredEmbedding, factor
from compress.students.vocabulary import token_counts, whole
from compress.teachers.huggingface import Teacher
from tests.tiny_models import CORPUS


def built(teacher: Teacher, **fields: Any) -> Built:
    """A student cut from the teacher."""
    section = TransformerStudent.model_validate({"kind": "transformer", "layers": 2} | fields)
    return build_student(
        section,
        teacher=teacher.module,
        teacher_spec=teacher.spec,
        tokens=whole(teacher.tokenizer_json, teacher.spec.pad_id),
        texts=CORPUS,
        task="classification",
        labels=("a", "b", "c"),
        positive=None,
        seed=7,
    )


def test_factors_are_the_best_of_their_rank(bert_teacher: Teacher) -> None:
    """Against numpy: no other matrix of that rank is nearer, each token counted as often as it stands, plus one."""
    plain, small = built(bert_teacher), built(bert_teacher, embedding_size=8)
    wide = plain.module.model.get_input_embeddings().weight.detach().double().numpy()
    factored = small.module.model.get_input_embeddings()
    assert isinstance(factored, FactoredEmbedding)
    product = factored(torch.arange(len(wide))).detach().double().numpy()
    assert np.linalg.matrix_rank(product, tol=1e-3) == 8
    counts = token_counts(small.tokens.tokenizer_json, small.tokens.size, CORPUS)
    often = np.sqrt(counts + 1.0)[:, None]
    lost = np.linalg.svd(often * wide, compute_uv=False)[8:]
    assert np.linalg.norm(often * (product - wide)) == pytest.approx(np.linalg.norm(lost), rel=1e-4)


def test_embeddings_of_that_rank_lose_nothing(bert_teacher: Teacher) -> None:
    model = built(bert_teacher).module.model
    embedding = model.get_input_embeddings()
    low = torch.randn(len(embedding.weight), 8) @ torch.randn(8, embedding.weight.shape[1])
    embedding.weight.data.copy_(low)
    factor(model, 8, np.zeros(len(low), np.int64))
    torch.testing.assert_close(model.get_input_embeddings()(torch.arange(len(low))), low, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("init", ["teacher", "random"])
def test_a_saved_student_answers_the_same(init: str, bert_teacher: Teacher, tmp_path: Path) -> None:
    small = built(bert_teacher, embedding_size=8, init=init)
    save_student(small.module, small.spec, small.tokens.tokenizer_json, tmp_path / "student")
    loaded, spec, _ = load_student(tmp_path / "student")
    assert spec == replace_inputs(small).spec
    rows = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    inputs = (rows, (rows != 0).long(), torch.zeros_like(rows))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(*inputs), small.module.eval()(*inputs))
    sizes = describe(small, {})
    assert sizes["parameters"] < describe(built(bert_teacher, init=init), {})["parameters"]


def replace_inputs(student: Built) -> Built:
    """The student as it is written: with what its module says of itself."""
    return replace(student, spec=student.spec.model_copy(update={"similarity": student.module.similarity}))


def test_factors_as_wide_as_the_whole(bert_teacher: Teacher) -> None:
    width = bert_teacher.module.width
    with pytest.raises(RecipeError, match=f"student.embedding_size is {width}, but a whole embedding has {width}"):
        built(bert_teacher, embedding_size=width)

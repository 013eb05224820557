"""The two-tower student: neither text sees the other, and a pair's answer is the cosine of what each is alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from compress.artifacts import Similarity
from compress.batch import Examples
from compress.data.encode import encode_examples
from compress.distill.stages import encoder_of
from compress.errors import RecipeError
from compress.predict import predict_logits
from compress.recipe import TwoTowerStudent
from compress.students.build import Built, build_student, load_student, save_student, student_tokens
from compress.students.first_token import is_plain_bert
from compress.students.two_tower import TwoTower
from compress.teachers.huggingface import Teacher
from tests.tiny_models import CORPUS

CPU = torch.device("cpu")
FIRST, SECOND = CORPUS[:12], CORPUS[40:52]


def build(teacher: Teacher | None, *, labels: tuple[str, ...] = ("no", "yes"), task: str = "pairs") -> Built:
    """A student of two layers, embeddings of 16 numbers."""
    init = "random" if teacher is None else "teacher"
    vocabulary = {"train": 300} if teacher is None else {}
    section = TwoTowerStudent.model_validate(
        {"kind": "two-tower", "layers": 2, "embedding": 16, "init": init, "vocabulary": vocabulary}
        | ({"hidden": 32, "heads": 2} if teacher is None else {})
    )
    json_text = None if teacher is None else teacher.tokenizer_json
    return build_student(
        section,
        teacher=None if teacher is None else teacher.module,
        teacher_spec=None if teacher is None else teacher.spec,
        tokens=student_tokens(section, json_text, 0 if teacher is None else teacher.spec.pad_id, CORPUS),
        texts=CORPUS,
        task=task,
        labels=labels,
        positive=labels[-1] if len(labels) == 2 else None,
        seed=3,
    )


def tower(built: Built) -> TwoTower:
    """Its module, in evaluation mode."""
    module = built.module.eval()
    assert isinstance(module, TwoTower)
    return module


def logits(built: Built, texts: tuple[str, ...], pairs: tuple[str, ...]) -> np.ndarray:
    """Logits of pairs, in batches of like length."""
    rows = Examples(ids=texts, texts=texts, pairs=pairs)
    return predict_logits(built.module.eval(), encode_examples(encoder_of(built), rows), CPU)


def alone(built: Built, text: str) -> torch.Tensor:
    """The embedding by the reference implementation: the body of Transformers on the one text."""
    module, encoder = tower(built), encoder_of(built)
    ids = torch.from_numpy(encoder.encode([text])[0][0]).long()[None]
    with torch.no_grad():
        states = module.bert(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return module.project(states.mean(1))[0]


@pytest.mark.parametrize("origin", ["cut", "anew"])
def test_a_pairs_answer_is_the_cosine_of_the_texts_alone(origin: str, bert_teacher: Teacher) -> None:
    """Of two labels each has half of scale · cosine + bias, with its sign."""
    built = build(bert_teacher if origin == "cut" else None)
    torch.nn.init.normal_(tower(built).affine, std=0.02)
    said = tower(built).similarity
    cosines = [
        float(cosine_similarity(alone(built, a), alone(built, b), dim=0)) for a, b in zip(FIRST, SECOND, strict=True)
    ]
    expected = said.scale * np.array(cosines) + said.bias
    found = logits(built, FIRST, SECOND)
    np.testing.assert_allclose(found[:, 1] - found[:, 0], expected, atol=2e-4)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-6)


def test_like_texts_have_the_highest_answer(bert_teacher: Teacher) -> None:
    """A text is nearer to itself than to any other: cosine 1."""
    built = build(bert_teacher)
    own = logits(built, FIRST, FIRST)[:, 1]
    assert (own > logits(built, FIRST, SECOND)[:, 1]).all()
    np.testing.assert_allclose(2 * own, tower(built).similarity.scale + tower(built).similarity.bias, rtol=1e-5)


def test_one_output_for_numbers(bert_teacher: Teacher) -> None:
    """Ranking: the score itself, and no bias to begin with."""
    built = build(bert_teacher, labels=("score",), task="ranking")
    np.testing.assert_allclose(logits(built, FIRST, FIRST), tower(built).similarity.scale, rtol=1e-5)
    assert tower(built).similarity == Similarity(scale=10.0, bias=0.0)


def test_positive_may_be_the_first_label(bert_teacher: Teacher) -> None:
    """Then the signs change places."""
    module = tower(build(bert_teacher))
    module.positive = 0
    with torch.no_grad():
        same = torch.nn.functional.normalize(torch.ones(1, 16), dim=-1)
        assert module._logits(same, same).tolist()[0][0] > 0


def test_texts_are_tokenised_apart(bert_teacher: Teacher) -> None:
    """Each with its own special tokens, cut to half of the length; a long first text leaves the second its room."""
    built = build(bert_teacher)
    encoder = encoder_of(built)
    long = " ".join(CORPUS[:10])
    ids, types, truncated = encoder.encode([long, FIRST[0]], [SECOND[0], long])
    single = [encoder.encode([text])[0][0].tolist() for text in (long, SECOND[0], FIRST[0])]
    assert ids[0].tolist() == single[0] + single[1]
    assert ids[1].tolist() == single[2] + single[0]
    assert len(single[0]) == built.spec.max_length // 2
    assert types[0].tolist() == [0] * len(single[0]) + [1] * len(single[1])
    assert truncated == 2


def test_saved_and_loaded(bert_teacher: Teacher, tmp_path: Path) -> None:
    """The same answers, and model.json tells scale and bias as they were learned."""
    built = build(bert_teacher)
    with torch.no_grad():
        tower(built).affine.copy_(torch.tensor([0.05, -0.1]))
    save_student(built.module, built.spec, built.tokens.tokenizer_json, tmp_path)
    module, spec, _ = load_student(tmp_path)
    assert spec.similarity is not None
    assert spec.similarity.scale == pytest.approx(10 * math.exp(0.5))
    assert spec.similarity.bias == pytest.approx(-6.0)
    before = logits(built, FIRST, SECOND)
    built.module = module
    np.testing.assert_array_equal(logits(built, FIRST, SECOND), before)


def test_refused(bert_teacher: Teacher, gpt2_teacher: Teacher) -> None:
    """One text, three labels, or a teacher whose layers read from left to right."""
    with pytest.raises(RecipeError, match="two-tower compares two texts, and the data have one"):
        build(bert_teacher, task="classification")
    with pytest.raises(RecipeError, match="tells two labels apart, and the data have 3"):
        build(bert_teacher, labels=("a", "b", "c"))
    assert not is_plain_bert(gpt2_teacher.module.model)
    with pytest.raises(RecipeError, match=r"two-tower is cut from BERT teachers only, this one is GPT2"):
        build(gpt2_teacher)

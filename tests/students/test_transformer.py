"""Students cut from the teacher: the same function while nothing is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ModernBertConfig, ModernBertForSequenceClassification

from compress.batch import Examples
from compress.data.encode import encode_examples
from compress.errors import RecipeError
from compress.predict import predict_logits
from compress.recipe import TransformerStudent
from compress.runtime.text import TextEncoder
from compress.students.build import build_student, load_student, save_student
from compress.students.fits import spread
from compress.students.transformer import build_anew, cut_from_teacher
from compress.students.vocabulary import StudentTokens, prune, train, whole
from compress.teachers.huggingface import Teacher
from compress.text_model import TransformerClassifier
from tests.tiny_models import CORPUS

CPU = torch.device("cpu")
EACH = pytest.mark.parametrize("which", ["bert_teacher", "gpt2_teacher", "llama_teacher"])


def section(**fields: Any) -> TransformerStudent:
    """A student's recipe section."""
    return TransformerStudent(kind="transformer", **fields)


def tokens_of(teacher: Teacher, keep: int | None = None) -> StudentTokens:
    """All of the teacher's tokens, or some."""
    if keep is None:
        return whole(teacher.tokenizer_json, teacher.spec.pad_id)
    return prune(teacher.tokenizer_json, teacher.spec.pad_id, CORPUS[:40], keep)


def answers(module: TransformerClassifier, tokens: StudentTokens, texts: tuple[str, ...]) -> np.ndarray:
    """Logits of texts."""
    encoder = TextEncoder(tokens.tokenizer_json, max_length=32, pad_id=tokens.pad_id)
    rows = Examples(ids=texts, texts=texts)
    return predict_logits(module, encode_examples(encoder, rows), CPU)


@EACH
def test_all_layers_and_tokens_give_the_teachers_answers(which: str, request: pytest.FixtureRequest) -> None:
    """A cut that leaves nothing out is the teacher."""
    teacher: Teacher = request.getfixturevalue(which)
    tokens = tokens_of(teacher)
    student = cut_from_teacher(teacher.module, tokens, (1, 2, 3, 4))
    np.testing.assert_allclose(
        answers(student, tokens, CORPUS[:30]), answers(teacher.module, tokens, CORPUS[:30]), atol=1e-5
    )


@EACH
def test_embeddings_follow_the_kept_tokens(which: str, request: pytest.FixtureRequest) -> None:
    """Texts whose tokens are all kept are answered as before the cut."""
    teacher: Teacher = request.getfixturevalue(which)
    full, tokens = tokens_of(teacher), tokens_of(teacher, 256 if which == "bert_teacher" else 520)
    assert tokens.size < full.size
    kept = set(tokens.teacher_ids.tolist())
    encoder = TextEncoder(full.tokenizer_json, max_length=32)
    texts = tuple(text for text in CORPUS[:40] if kept.issuperset(encoder.encode([text])[0][0].tolist()))
    assert len(texts) >= 5
    student = cut_from_teacher(teacher.module, tokens, (1, 2, 3, 4))
    np.testing.assert_allclose(answers(student, tokens, texts), answers(teacher.module, full, texts), atol=1e-5)


@EACH
def test_a_cut_student_is_the_same_when_loaded_again(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Layers renumbered, tokens pruned: what was trained is what is saved."""
    teacher: Teacher = request.getfixturevalue(which)
    tokens = tokens_of(teacher, 256 if which == "bert_teacher" else 520)
    built = build_student(
        section(layers=2),
        teacher=teacher.module,
        teacher_spec=teacher.spec,
        tokens=tokens,
        texts=CORPUS,
        task="classification",
        labels=teacher.spec.labels,
        positive=None,
        seed=1,
    )
    assert built.layer_map == (2, 4)
    save_student(built.module, built.spec, tokens.tokenizer_json, tmp_path)
    module, spec, tokenizer_json = load_student(tmp_path)
    assert spec == built.spec
    assert tokenizer_json == tokens.tokenizer_json
    assert isinstance(module, TransformerClassifier)
    assert isinstance(built.module, TransformerClassifier)
    np.testing.assert_array_equal(answers(module, tokens, CORPUS[:9]), answers(built.module, tokens, CORPUS[:9]))


def test_cut_layers_are_the_mapped_ones(bert_teacher: Teacher) -> None:
    """Layer i of the student starts as the teacher's mapped layer; the teacher itself stays as it was."""
    before = {name: value.clone() for name, value in bert_teacher.module.state_dict().items()}
    student = cut_from_teacher(bert_teacher.module, tokens_of(bert_teacher), (1, 3))
    source, target = bert_teacher.module.model.bert.encoder.layer, student.model.bert.encoder.layer
    for own, mapped in zip(target, (source[0], source[2]), strict=True):
        assert torch.equal(own.output.dense.weight, mapped.output.dense.weight)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    after = bert_teacher.module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_layer_named_twice_is_copied_twice(bert_teacher: Teacher, tmp_path: Path) -> None:
    """Shared weights would learn together and could not be saved."""
    student = cut_from_teacher(bert_teacher.module, tokens_of(bert_teacher), (4, 4))
    first, second = student.model.bert.encoder.layer
    assert first.output.dense.weight is not second.output.dense.weight
    student.model.save_pretrained(tmp_path, safe_serialization=True)


def test_a_foreign_vocabulary_starts_at_the_mean(bert_teacher: Teacher) -> None:
    """Tokens that the teacher knows keep their embedding; a new one gets the mean of all."""
    tokens = train(["zebra quilt zebra quilt red"], 256, bert_teacher.tokenizer_json)
    student = cut_from_teacher(bert_teacher.module, tokens, (4,))
    old = bert_teacher.module.model.get_input_embeddings().weight
    new = student.model.get_input_embeddings().weight
    fresh = int(np.flatnonzero(tokens.teacher_ids < 0)[0])
    known = int(np.flatnonzero(tokens.teacher_ids >= 5)[0])
    torch.testing.assert_close(new[fresh], old.mean(0))
    assert torch.equal(new[known], old[tokens.teacher_ids[known]])


def test_layers_that_are_not_alike(bert_teacher: Teacher) -> None:
    """ModernBERT's first layer lacks a normalisation that the others have: none of them can take its place."""
    config = ModernBertConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        pad_token_id=0,
    )
    teacher = TransformerClassifier(ModernBertForSequenceClassification(config), ("input_ids", "attention_mask"))
    tokens = tokens_of(bert_teacher)
    assert cut_from_teacher(teacher, tokens, (1, 4)).layers == 2
    with pytest.raises(RecipeError, match=r"layers \[2, 4\] of ModernBert.* not built alike"):
        cut_from_teacher(teacher, tokens, (2, 4))


def test_heads_must_divide_the_width(bert_teacher: Teacher) -> None:
    """The sentence names both."""
    with pytest.raises(RecipeError, match=r"student.hidden is 40, which 3 heads"):
        build_anew(
            section(hidden=40, heads=3, init="random"),
            tokens_of(bert_teacher),
            labels=("a", "b"),
            max_length=16,
            default_width=32,
        )


def test_evenly_spread_layers() -> None:
    """The last layer is always there, none twice, in order."""
    assert spread(3, 6) == (2, 4, 6)
    assert spread(4, 12) == (3, 6, 9, 12)
    for teacher in range(1, 25):
        for student in range(1, teacher + 1):
            layers = spread(student, teacher)
            assert layers[-1] == teacher
            assert len(set(layers)) == student
            assert list(layers) == sorted(layers)
            assert layers[0] >= 1

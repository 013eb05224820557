"""Students from recipe sections: layer maps, starts, folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from tokenizers import Tokenizer

from compress.artifacts import SPEC
from compress.batch import Examples
from compress.data.encode import encode_examples
from compress.distill.stages import encoder_of
from compress.errors import IntegrityError, RecipeError
from compress.predict import predict_logits
from compress.recipe import MobileStudent, ResidualStudent, StaticStudent, Student, TransformerStudent, Vocabulary
from compress.students.build import (
    Built,
    build_student,
    describe,
    load_student,
    save_student,
    student_tokens,
)
from compress.students.encoder import TokenEncoder
from compress.students.families import FAMILIES
from compress.students.fits import layer_map_of
from compress.students.start import contextual_vectors
from compress.students.static import StaticEncoder
from compress.students.vocabulary import train, whole
from compress.teachers.huggingface import Teacher
from tests.tiny_models import CORPUS


def mobile(**fields: Any) -> MobileStudent:
    """A small convolution student."""
    return MobileStudent(kind="mobile", **({"width": 16, "blocks": 2} | fields))


def residual(**fields: Any) -> ResidualStudent:
    """Another small convolution student."""
    return ResidualStudent(kind="residual", **({"width": 16, "blocks": 2} | fields))


def static(**fields: Any) -> StaticStudent:
    """A small student without layers."""
    return StaticStudent(kind="static", **({"width": 16} | fields))


def build(section: Student, teacher: Teacher | None, *, task: str = "classification", seed: int = 3) -> Built:
    """A student with the vocabulary that its section asks for."""
    json_text = None if teacher is None else teacher.tokenizer_json
    return build_student(
        section,
        teacher=None if teacher is None else teacher.module,
        teacher_spec=None if teacher is None else teacher.spec,
        tokens=student_tokens(section, json_text, 0 if teacher is None else teacher.spec.pad_id, CORPUS),
        texts=CORPUS,
        task=task,
        labels=("a", "b", "c"),
        positive=None,
        seed=seed,
    )


def answers(built: Built) -> np.ndarray:
    """Logits of a few rows, as the student's task has them."""
    pairs = CORPUS[40:50] if built.spec.task == "pairs" else None
    rows = Examples(ids=CORPUS[:10], texts=CORPUS[:10], pairs=pairs)
    return predict_logits(built.module, encode_examples(encoder_of(built), rows), torch.device("cpu"))


def test_layer_map() -> None:
    """Spread where the recipe says nothing, else as it says; none without a teacher model."""
    assert layer_map_of(mobile(blocks=2), 4) == (2, 4)
    assert layer_map_of(mobile(blocks=8), 4) == (1, 1, 2, 2, 2, 3, 4, 4)
    assert layer_map_of(mobile(blocks=2, layer_map=[1, 4]), 4) == (1, 4)
    assert layer_map_of(residual(blocks=3), 6) == (2, 4, 6)
    assert layer_map_of(static(), 6) == (6,)
    assert layer_map_of(static(layer_map=[2]), 6) == (2,)
    assert layer_map_of(mobile(), None) == ()


def test_every_kind_of_a_recipe_can_be_built() -> None:
    """The discriminator's values are the families."""
    kinds = TypeAdapter(Student).json_schema()["discriminator"]["mapping"]
    assert kinds.keys() == FAMILIES.keys()


def test_layers_that_the_teacher_lacks() -> None:
    """Named or counted, the sentence has both numbers."""
    with pytest.raises(RecipeError, match=r"student.layers is 5, but the teacher has only 4"):
        layer_map_of(TransformerStudent(kind="transformer", layers=5), 4)
    with pytest.raises(RecipeError, match=r"student.layer_map names layer 7, but the teacher has 4"):
        layer_map_of(TransformerStudent(kind="transformer", layers=2, layer_map=[1, 7]), 4)
    anew = TransformerStudent(kind="transformer", layers=6, init="random")
    assert layer_map_of(anew, 4)[-1] == 4


def test_no_teacher_to_take_tokens_from() -> None:
    """A file of scores brings none."""
    with pytest.raises(RecipeError, match=r"set vocabulary.train"):
        student_tokens(mobile(), None, 0, CORPUS)


@pytest.mark.parametrize("task", ["classification", "pairs"])
@pytest.mark.parametrize(
    "section",
    [
        mobile(),
        mobile(init="random", vocabulary=Vocabulary(train=256)),
        residual(),
        static(),
        static(init="random", vocabulary=Vocabulary(train=256)),
        static(bigrams=512),
        TransformerStudent(kind="transformer", layers=2),
        TransformerStudent(kind="transformer", layers=1, hidden=24, heads=2, init="random"),
        TransformerStudent(kind="transformer", layers=1, vocabulary=Vocabulary(keep=256)),
    ],
    ids=["mobile", "mobile-anew", "residual", "static", "static-anew", "bigrams", "cut", "anew", "pruned"],
)
def test_a_student_is_the_same_when_loaded_again(
    bert_teacher: Teacher, section: Student, task: str, tmp_path: Path
) -> None:
    """Weights, specification and tokenizer, with nothing of the teacher at hand; and the same seed, the same start."""
    built = build(section, bert_teacher, task=task)
    module, spec, text = load_student(save(built, tmp_path))
    assert (spec, text) == (built.spec, built.tokens.tokenizer_json)
    again = Built(module, spec, built.tokens, built.layer_map, built.projections)
    np.testing.assert_array_equal(answers(again), answers(built))
    np.testing.assert_array_equal(answers(build(section, bert_teacher, task=task)), answers(built))
    assert spec.max_length == bert_teacher.spec.max_length


def save(built: Built, folder: Path) -> Path:
    """Write a student folder."""
    save_student(built.module, built.spec, built.tokens.tokenizer_json, folder)
    return folder


@pytest.mark.parametrize("family", [mobile, residual, static])
def test_a_student_without_a_teacher(family: Callable[..., Student]) -> None:
    """A file of scores: tokens trained, no projections."""
    section = family(init="random", vocabulary=Vocabulary(train=256))
    built = build(section, None, task="pairs")
    assert (built.layer_map, len(built.projections)) == ((), 0)
    assert built.spec.max_length == 128
    assert np.isfinite(answers(built)).all()


def test_projections_lead_to_the_teachers_width(bert_teacher: Teacher) -> None:
    """One a mapped layer, 16 to 32."""
    built = build(mobile(), bert_teacher)
    assert [(p.in_features, p.out_features) for p in built.projections] == [(16, 32), (16, 32)]
    assert len(build(static(), bert_teacher).projections) == 1


@pytest.mark.parametrize("family", [mobile, residual, static])
def test_embeddings_keep_the_teachers_geometry(bert_teacher: Teacher, family: Callable[..., Student]) -> None:
    """PCA to a smaller width keeps who is near whom; to a larger one keeps all of it."""
    tokens = whole(bert_teacher.tokenizer_json, bert_teacher.spec.pad_id)
    source = contextual_vectors(bert_teacher.module, tokens, layer=4)
    source = source - source.mean(0)
    for width, least in ((24, 0.8), (32, 0.999), (48, 0.8)):
        module = build(family(width=width), bert_teacher).module
        assert isinstance(module, TokenEncoder)
        own = module.embedding.weight.detach()
        found = torch.corrcoef(torch.stack([torch.pdist(own), torch.pdist(source)]))[0, 1]
        assert float(found) > least


def test_frequent_tokens_of_the_data_weigh_little_in_a_static_student(bert_teacher: Teacher) -> None:
    """Started from the teacher or not: frequencies are the data's."""
    for init in ("teacher", "random"):
        built = build(static(init=init), bert_teacher)
        assert isinstance(built.module, StaticEncoder)
        weights = built.module.log_weights.weight[:, 0].exp()
        vocabulary = Tokenizer.from_str(built.tokens.tokenizer_json).get_vocab()
        assert weights[vocabulary["[CLS]"]] < weights[vocabulary["shoes"]] < weights[vocabulary["[MASK]"]] == 1


@pytest.mark.parametrize("init", ["teacher", "random"])
def test_embeddings_of_a_static_student_start_as_large_as_asked(bert_teacher: Teacher, init: str) -> None:
    """0.05 where the recipe says nothing; of the same shape at any size."""
    plain, large = (build(static(init=init, **given), bert_teacher).module for given in ({}, {"embedding_std": 0.5}))
    assert isinstance(plain, StaticEncoder)
    assert isinstance(large, StaticEncoder)
    assert float(plain.embedding.weight.detach().std()) == pytest.approx(0.05, rel=0.05)
    torch.testing.assert_close(large.embedding.weight, 10 * plain.embedding.weight)


def test_pairs_of_neighbours_do_not_disturb_the_start(bert_teacher: Teacher) -> None:
    """States of the rows are those of the same student without pairs, until it learns."""
    inputs = [torch.tensor([[2, 30, 40, 50, 3]]), torch.ones(1, 5, dtype=torch.int64)]
    plain, paired = (build(static(bigrams=buckets), bert_teacher).module.eval() for buckets in (None, 512))
    torch.testing.assert_close(paired(*inputs, hidden=(1,))[1], plain(*inputs, hidden=(1,))[1])


def test_too_few_known_tokens_start_at_random(bert_teacher: Teacher) -> None:
    """A vocabulary that shares next to nothing with the teacher's: finite numbers."""
    tokens = train(["яблоко груша"] * 3, 256, bert_teacher.tokenizer_json)
    built = build_student(
        mobile(),
        teacher=bert_teacher.module,
        teacher_spec=bert_teacher.spec,
        tokens=tokens,
        texts=CORPUS,
        task="classification",
        labels=("a", "b"),
        positive=None,
        seed=0,
    )
    assert (tokens.teacher_ids >= 0).sum() <= 16
    assert all(torch.isfinite(value).all() for value in built.module.state_dict().values())


def test_description(bert_teacher: Teacher) -> None:
    """Sizes add up, and the report covers each split."""
    built = build(mobile(vocabulary=Vocabulary(keep=256)), bert_teacher)
    found = describe(built, {"train": CORPUS, "test": ["日本 shoes"]})
    assert found["parameters"] == sum(p.numel() for p in built.module.parameters())
    assert found["parameters"] - found["parameters_without_embeddings"] == 256 * 16
    assert found["vocabulary"]["train"]["unknown"] == 0
    assert found["vocabulary"]["test"]["unknown"] > 0
    assert found["vocabulary"]["tokens"] == 256


def test_folders_that_are_no_students(tmp_path: Path, bert_teacher: Teacher) -> None:
    """Each with its sentence."""
    with pytest.raises(IntegrityError, match=r"is not a student folder: it has no model.json"):
        load_student(tmp_path)
    (tmp_path / SPEC).write_text(json.dumps(bert_teacher.spec.model_dump(mode="json")))
    with pytest.raises(IntegrityError, match=r"does not say how the student was built"):
        load_student(tmp_path)

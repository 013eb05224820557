"""A narrower BERT: exact where the wide one's activations lie in the subspace, and what cannot be is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from compress.batch import Examples
from compress.data.encode import encode_examples
from compress.distill.stages import encoder_of
from compress.errors import RecipeError
from compress.predict import predict_logits
from compress.recipe import TransformerStudent
from compress.runtime.text import TextEncoder
from compress.students.build import build_student, load_student, save_student
from compress.students.fits import check_narrow, is_narrower
from compress.students.narrow import _basis, narrow
from compress.students.vocabulary import StudentTokens, train, whole
from compress.teachers.huggingface import Teacher
from tests.tiny_models import CORPUS

SIZES = (32, 4, 64)


def section(**fields: Any) -> TransformerStudent:
    """A student's recipe section."""
    return TransformerStudent.model_validate({"kind": "transformer", "layers": 2} | fields)


def bert(tokens: StudentTokens, hidden: int, heads: int, intermediate: int) -> Any:
    """Two random layers, with biases and one gain for each normalisation."""
    config = BertConfig(
        vocab_size=tokens.size,
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=40,
        num_labels=3,
    )
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm.weight" in name:
                parameter.fill_(1.3)
            else:
                parameter.normal_(std=0.2)
    return model


def widened(small: Any, big: Any, basis: torch.Tensor) -> Any:
    """A wide model that does in a subspace what the small one does: half of its heads and neurons add nothing."""
    state, wide = small.state_dict(), {name: torch.zeros_like(value) for name, value in big.state_dict().items()}
    for name, value in state.items():
        target = wide[name]
        if "LayerNorm.weight" in name:
            target.fill_(float(value[0]) / math.sqrt(basis.shape[0] / basis.shape[1]))
        elif "embeddings" in name and value.dim() == 2:
            target.copy_(value @ basis.T)
        elif any(part in name for part in ("output.dense.weight",)):
            target[:, : value.shape[1]] = basis @ value
        elif "LayerNorm.bias" in name or "output.dense.bias" in name:
            target.copy_(basis @ value)
        elif name.startswith("classifier"):
            target[..., : value.shape[-1]] = value
        elif value.dim() == 2:
            target[: value.shape[0]] = value @ basis.T
        elif value.dim() == 1:
            target[: value.shape[0]] = value
    big.load_state_dict(wide)
    return big


def logits(model: Any, encoder: TextEncoder) -> np.ndarray:
    """Answers to a few texts."""
    ids, types, _ = encoder.encode(CORPUS[:8])
    feed = encoder.arrays(ids, types, ("input_ids", "attention_mask"))
    with torch.no_grad():
        said: np.ndarray = model(**{name: torch.from_numpy(array) for name, array in feed.items()}).logits.numpy()
    return said


def test_exact_where_nothing_lies_outside() -> None:
    """Half the width, heads and neurons of a model that uses no more than that."""
    torch.manual_seed(0)
    tokens = train(CORPUS, 300, None)
    encoder = TextEncoder(tokens.tokenizer_json, max_length=32, pad_id=tokens.pad_id)
    small, big = bert(tokens, 16, 2, 24), bert(tokens, 32, 4, 48)
    moments = torch.randn(32, 32, dtype=torch.float64)
    wide = widened(small, big, _basis(moments @ moments.T, 16))
    np.testing.assert_allclose(logits(wide, encoder), logits(small, encoder), atol=1e-4)
    again = narrow(section(hidden=16, intermediate=24), wide, encoder, CORPUS)
    assert (again.config.hidden_size, again.config.num_attention_heads, again.config.intermediate_size) == (16, 2, 24)
    np.testing.assert_allclose(logits(again, encoder), logits(wide, encoder), atol=1e-3)


def test_the_basis_is_orthonormal_and_keeps_equal_entries() -> None:
    """Equal entries of the narrow stream are equal entries of the wide one, whatever the data."""
    torch.manual_seed(1)
    states = torch.randn(200, 24, dtype=torch.float64)
    basis = _basis(states.T @ states, 8).double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(8, dtype=torch.float64), atol=1e-6, rtol=0)
    equal = torch.full((8,), 1 / math.sqrt(8), dtype=torch.float64)
    torch.testing.assert_close(basis @ equal, torch.full((24,), 1 / math.sqrt(24)).double(), atol=1e-6, rtol=0)


def test_the_principal_directions_are_kept() -> None:
    """Of activations in three directions (less the mean of each) four hold all."""
    torch.manual_seed(2)
    states = torch.randn(100, 3, dtype=torch.float64) @ torch.randn(3, 24, dtype=torch.float64)
    basis = _basis(states.T @ states, 4).double()
    torch.testing.assert_close(states @ basis @ basis.T, states, atol=1e-4, rtol=0)


def test_a_student_of_another_width(bert_teacher: Teacher, tmp_path: Any) -> None:
    """Built by the recipe, saved and loaded: the same answers; nearer to the teacher's than a random start."""
    tokens = whole(bert_teacher.tokenizer_json, bert_teacher.spec.pad_id)

    def student(**fields: Any) -> Any:
        return build_student(
            section(hidden=24, intermediate=48, layers=4, **fields),
            teacher=bert_teacher.module,
            teacher_spec=bert_teacher.spec,
            tokens=tokens,
            texts=CORPUS,
            task="classification",
            labels=("a", "b", "c"),
            positive=None,
            seed=3,
        )

    built = student()
    rows = encode_examples(encoder_of(built), Examples(ids=CORPUS, texts=CORPUS))
    device = torch.device("cpu")
    found = predict_logits(built.module.eval(), rows, device)
    save_student(built.module, built.spec, tokens.tokenizer_json, tmp_path)
    np.testing.assert_array_equal(predict_logits(load_student(tmp_path)[0], rows, device), found)
    wanted = predict_logits(bert_teacher.module.eval(), rows, device)
    by_chance = predict_logits(student(init="random").module.eval(), rows, device)
    assert np.abs(found - wanted).mean() < 0.5 * np.abs(by_chance - wanted).mean()


@pytest.mark.parametrize(
    ("fields", "model", "sentence"),
    [
        ({"hidden": 40}, "bert", r"student.hidden is 40; .* multiple of their size, 8, and at most 32"),
        ({"hidden": 20}, "bert", r"student.hidden is 20; .* multiple of their size, 8"),
        ({"hidden": 16, "heads": 4}, "bert", r"student.heads is 4, but 2 heads .* make a width of 16"),
        ({"heads": 2}, "bert", r"student.heads is 2, but 4 heads"),
        ({"intermediate": 96}, "bert", r"student.intermediate is 96, but the teacher has 64"),
        ({"hidden": 16}, "gpt2", r"make BERT teachers narrower, this one is gpt2"),
    ],
)
def test_what_cannot_be(fields: dict[str, int], model: str, sentence: str) -> None:
    """Each names the key, both values and the way out."""
    assert is_narrower(section(**fields), SIZES)
    with pytest.raises(RecipeError, match=sentence):
        check_narrow(section(**fields), SIZES, model=model)


def test_the_teachers_own_sizes_are_no_change() -> None:
    """Said or not, for any kind of teacher."""
    for fields in ({}, {"hidden": 32}, {"hidden": 32, "heads": 4, "intermediate": 64}):
        assert not is_narrower(section(**fields), SIZES)
        check_narrow(section(**fields), SIZES, model="gpt2")

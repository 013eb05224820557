"""A sequence classifier as teacher: its head in the order of the labels, encoders and decoders alike."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.artifacts import Standard
from compress.batch import Examples, Floats
from compress.data.encode import encode_examples
from compress.errors import DataError, RecipeError
from compress.predict import predict_logits
from compress.recipe import HuggingFaceTeacher
from compress.teachers.head import match_labels, order_head
from compress.teachers.huggingface import (
    PAIR_SEPARATOR,
    Teacher,
    load_teacher,
    save_teacher,
)
from tests.tiny_models import CORPUS, bert_folder, edit_json, gpt2_folder, llama_folder

CPU = torch.device("cpu")
LABELS = ("a", "b", "c")


def load(folder: Path, labels: tuple[str, ...] = LABELS, **options: Any) -> Teacher:
    """A trained teacher for the given labels."""
    section = HuggingFaceTeacher(model=str(folder), max_length=options.pop("max_length", 32))
    defaults = {"task": "classification", "positive": None, "trained": True}
    return load_teacher(section, folder, labels=labels, **(defaults | options))


def answers(teacher: Teacher, *, pairs: bool = False) -> Floats:
    """Logits of 12 titles."""
    rows = Examples(ids=CORPUS[:12], texts=CORPUS[:12], pairs=CORPUS[60:72] if pairs else None)
    return predict_logits(teacher.module, encode_examples(teacher.encoder, rows), CPU)


# ---------------------------------------------------------------- the head's labels


def test_matching_labels() -> None:
    """By name in any order, by number where the head has no names, a single logit for two labels."""
    assert match_labels({0: "b", 1: "c", 2: "a"}, LABELS, "x") == (2, 0, 1)
    assert match_labels({"0": "LABEL_0", "1": "LABEL_1"}, ("no", "yes"), "x") == (0, 1)
    assert match_labels({0: "LABEL_0"}, ("no", "yes"), "x") == ()
    with pytest.raises(DataError, match=r"has 2 outputs \(a, b\), but the data have 3 labels"):
        match_labels({0: "a", 1: "b"}, LABELS, "x")
    with pytest.raises(DataError, match=r"does not know the labels c; it knows a, b, d"):
        match_labels({0: "a", 1: "b", 2: "d"}, LABELS, "x")


def test_a_head_with_one_output_is_a_number_whatever_its_name(tmp_path: Path) -> None:
    """For ranking it is taken as it is; a head with two is refused."""
    assert match_labels({0: "relevance"}, ("score",), "x") == (0,)
    with pytest.raises(
        DataError, match=r"has 2 outputs \(no, yes\), but this task asks for one number; .*num_labels=1"
    ):
        match_labels({0: "no", 1: "yes"}, ("score",), "x")
    folder = bert_folder(tmp_path, ("relevance",))
    teacher = load(folder, ("score",), task="ranking")
    assert (teacher.spec.two_texts, teacher.spec.labels, teacher.spec.standard) == (True, ("score",), None)
    assert answers(teacher, pairs=True).shape == (12, 1)


def test_a_trained_head_is_put_into_the_datas_standard(tmp_path: Path) -> None:
    """Its numbers are in the labels' unit; afterwards, and saved and loaded again, they are standardised."""
    folder = bert_folder(tmp_path / "one", ("LABEL_0",))
    unit = answers(load(folder, ("score",), task="ranking"))
    first, second = Standard(mean=1000.0, std=50.0), Standard(mean=-3.0, std=0.25)
    teacher = load(folder, ("score",), task="regression", standard=first)
    np.testing.assert_allclose(answers(teacher), (unit - 1000) / 50, rtol=1e-4)
    assert not teacher.spec.two_texts
    save_teacher(teacher, tmp_path / "saved", None)
    again = load(tmp_path / "saved", ("score",), task="regression", standard=first)
    np.testing.assert_array_equal(answers(again), answers(teacher))
    other = load(tmp_path / "saved", ("score",), task="regression", standard=second)
    np.testing.assert_allclose(answers(other), (unit + 3) / 0.25, atol=2e-3)


def test_a_head_without_a_bias_cannot_be_standardised(tmp_path: Path) -> None:
    """GPT-2's; taught here it learns standardised numbers from the start."""
    folder = gpt2_folder(tmp_path, ("LABEL_0",))
    standard = Standard(mean=10.0, std=2.0)
    with pytest.raises(DataError, match=r"no linear layer of one output with a bias.*teacher\.kind: scores"):
        load(folder, ("score",), task="regression", standard=standard)
    fresh = load(folder, ("score",), task="regression", standard=standard, trained=False)
    assert (fresh.spec.standard, answers(fresh).shape) == (standard, (12, 1))


def test_regression_may_read_two_texts(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path, ("LABEL_0",))
    options = {"task": "regression", "trained": False, "standard": Standard(mean=0.0, std=1.0)}
    one, two = (load(folder, ("score",), two_texts=pairs, **options) for pairs in (False, True))
    assert (one.spec.separator, two.spec.separator) == ("", PAIR_SEPARATOR)
    assert (one.spec.two_texts, two.spec.two_texts) == (False, True)


@pytest.mark.parametrize("builder", [bert_folder, gpt2_folder])
def test_a_head_in_another_order(builder: Any, tmp_path: Path) -> None:
    """Logits come in the order of the data's labels, before and after the teacher is saved."""
    straight = answers(load(builder(tmp_path / "one")))
    turned = load(builder(tmp_path / "two", ("c", "a", "b")))
    np.testing.assert_allclose(answers(turned), straight[:, [1, 2, 0]], atol=1e-6)
    assert turned.module.model.config.id2label == dict(enumerate(LABELS))
    save_teacher(turned, tmp_path / "saved", 0.3)
    again = load(tmp_path / "saved")
    np.testing.assert_array_equal(answers(again), answers(turned))
    assert again.spec == turned.spec


@pytest.mark.parametrize(("positive", "column"), [("yes", 1), ("no", 0), (None, 1)])
def test_a_single_logit_becomes_two(positive: str | None, column: int, tmp_path: Path) -> None:
    """0 and the margin for the positive label; softmax gives the sigmoid of the logit."""
    folder = bert_folder(tmp_path / "one", ("match",))
    raw = load(folder, ("match",), trained=False).module
    teacher = load(folder, ("no", "yes"), positive=positive)
    rows = encode_examples(teacher.encoder, Examples(ids=CORPUS[:12], texts=CORPUS[:12]))
    both = predict_logits(teacher.module, rows, CPU)
    np.testing.assert_allclose(both[:, column], predict_logits(raw, rows, CPU)[:, 0], atol=1e-6)
    assert not both[:, 1 - column].any()
    save_teacher(teacher, tmp_path / "saved", None)
    np.testing.assert_array_equal(answers(load(tmp_path / "saved", ("no", "yes"), positive=positive)), both)


def test_a_head_that_cannot_be_reordered(tmp_path: Path) -> None:
    """A head without a linear layer is taken where it fits, and refused where it would have to change."""
    model = load(bert_folder(tmp_path)).module.model
    model.classifier = nn.Conv1d(32, 3, 1)
    order_head(model, (0, 1, 2), 2, "x")
    with pytest.raises(DataError, match=r"head of x has no linear layer of 3 outputs"):
        order_head(model, (2, 0, 1), 2, "x")


def test_wrong_number_of_labels(tmp_path: Path) -> None:
    """The sentence has both."""
    with pytest.raises(DataError, match=r"has 3 outputs .* but the data have 2 labels \(x, y"):
        load(bert_folder(tmp_path), ("x", "y"))


# ---------------------------------------------------------------- what cannot be loaded


def test_an_untrained_head_is_refused(tmp_path: Path) -> None:
    """An encoder alone must be fine-tuned first."""
    folder = bert_folder(tmp_path)
    load(folder).module.model.bert.save_pretrained(folder, safe_serialization=True)
    edit_json(folder / "config.json", id2label={"0": "a", "1": "b", "2": "c"})
    with pytest.raises(DataError, match=r"lacks trained weights for classifier.*; add teacher.train"):
        load(folder)
    fresh = load(folder, ("p", "q", "r", "s"), trained=False)
    assert answers(fresh).shape == (12, 4)
    assert fresh.spec.labels == ("p", "q", "r", "s")


def test_damaged_files(tmp_path: Path) -> None:
    """Weights cut short, weights of another shape, a tokenizer that is none, no tokenizer, another kind of model."""
    folder = bert_folder(tmp_path / "good")

    def broken(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for path in folder.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        return target

    short = broken("short")
    (short / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"is cut short"):
        load(short)
    shape = broken("shape")
    edit_json(shape / "config.json", intermediate_size=64)
    with pytest.raises(DataError, match=r"could not be loaded"):
        load(shape)
    token = broken("token")
    (token / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"the tokenizer of .*token could not be loaded"):
        load(token)
    none = broken("none")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (none / name).unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"could not be loaded"):
        load(none)
    other = broken("other")
    edit_json(other / "config.json", model_type="no-such-model", architectures=[])
    with pytest.raises(DataError, match=r"could not be loaded"):
        load(other)


def test_more_tokens_than_positions(tmp_path: Path) -> None:
    """Said before the first row fails deep inside the model."""
    with pytest.raises(RecipeError, match=r"teacher.max_length is 64, but the teacher has 40 positions"):
        load(bert_folder(tmp_path), max_length=64)


# ---------------------------------------------------------------- decoders


@pytest.mark.parametrize("builder", [gpt2_folder, llama_folder])
@pytest.mark.parametrize("pairs", [False, True])
def test_a_decoder_teaches(tmp_path: Path, pairs: bool, builder: Any) -> None:
    """Padding does not change its answers; two texts stand apart by a separator of ours."""
    teacher = load(builder(tmp_path), task="pairs" if pairs else "classification")
    assert teacher.spec.separator == (PAIR_SEPARATOR if pairs else "")
    assert teacher.spec.inputs == ("input_ids", "attention_mask")
    together = answers(teacher, pairs=pairs)
    assert together.std() > 0.01
    for row in (0, 7, 11):
        one = Examples(ids=["x"], texts=[CORPUS[row]], pairs=[CORPUS[60 + row]] if pairs else None)
        alone = predict_logits(teacher.module, encode_examples(teacher.encoder, one), CPU)
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_a_decoder_says_hidden_states(tmp_path: Path) -> None:
    """Means over the tokens of each layer, padding left out."""
    teacher = load(gpt2_folder(tmp_path))
    module = teacher.module.eval()
    ids = torch.tensor([[5, 6, 7, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    with torch.no_grad():
        logits, hidden = module(ids, mask, hidden=(2, 4))
        short, expected = module(ids[:, :3], mask[:, :3], hidden=(2, 4))
    assert hidden.shape == (1, 2, 32)
    torch.testing.assert_close(hidden, expected)
    torch.testing.assert_close(logits, short)


def test_a_tokenizer_without_padding(tmp_path: Path) -> None:
    """Its end token pads; without either there is a sentence."""
    teacher = load(gpt2_folder(tmp_path / "with"))
    assert teacher.spec.pad_id == 0
    with pytest.raises(DataError, match=r"neither a padding nor an end token"):
        load(gpt2_folder(tmp_path / "without", pad=False))


def test_only_inputs_that_the_model_takes(tmp_path: Path) -> None:
    """Type ids go to a model that tells two apart, however the tokenizer was saved."""
    assert load(bert_folder(tmp_path / "two")).spec.inputs == (
        "input_ids",
        "attention_mask",
        "token_type_ids",
    )
    one = load(bert_folder(tmp_path / "one", type_vocab_size=1), task="pairs")
    assert one.spec.inputs == ("input_ids", "attention_mask")
    assert np.isfinite(answers(one, pairs=True)).all()


def test_the_head_alone_is_the_head(tmp_path: Path) -> None:
    """The parameters that learn at the head's rate."""
    module = load(bert_folder(tmp_path)).module
    assert {tuple(p.shape) for p in module.head_parameters()} == {(3, 32), (3,)}


def test_hidden_layers_of_an_encoder(tmp_path: Path) -> None:
    """Layer i is the state after the i-th layer; padding is left out of the mean."""
    module = load(bert_folder(tmp_path)).module.eval()
    ids = torch.tensor([[2, 9, 10, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        logits, hidden = module(ids, mask, torch.zeros_like(ids), hidden=(1, 4))
        states = copy.copy(module.model.bert)(
            input_ids=ids, attention_mask=mask, output_hidden_states=True
        ).hidden_states
        plain = module(ids, mask, torch.zeros_like(ids))
    torch.testing.assert_close(hidden[:, 0], states[1][:, :4].mean(1))
    torch.testing.assert_close(hidden[:, 1], states[4][:, :4].mean(1))
    torch.testing.assert_close(plain, logits)

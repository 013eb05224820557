"""The static student by hand: weighted means, what two texts are compared by, and what it starts from."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from compress.errors import RecipeError
from compress.recipe import StaticStudent
from compress.students.features import bigram_mask, bigrams, ordinary_tokens, overlap
from compress.students.start import contextual_vectors, principal, sif_log_weights
from compress.students.static import StaticEncoder, compare_means, means
from compress.students.vocabulary import prune, template, token_counts, train, whole
from compress.teachers.huggingface import Teacher
from tests.students.rows import batch
from tests.tiny_models import CORPUS, unigram_json


def test_means_by_hand() -> None:
    """Weights 1 and 3 of the first two tokens; no token at all gives zeros."""
    states = torch.tensor([[[4.0, 0.0], [0.0, 8.0], [9.0, 9.0]]])
    weights = torch.tensor([[[1.0, 3.0, 0.0], [0.0, 0.0, 0.0]]])
    assert means(states, weights).tolist() == [[[1.0, 6.0], [0.0, 0.0]]]


def test_two_texts_by_hand() -> None:
    """7 8 | 7 9: means of each, means of what the other lacks, their differences and products, weighted shares."""
    ids, mask, segments = batch([([7, 8], [7, 9])], 5)
    states = torch.tensor([[[1.0], [2.0], [1.0], [5.0], [99.0]]])
    weights = torch.tensor([[1.0, 3.0, 1.0, 1.0, 0.0]])
    both = overlap(ids, segments, mask.float(), torch.tensor([0]))
    u, v = [7 / 4, 2.0], [3.0, 5.0]
    expected = [*u, *v, *(abs(a - b) for a, b in zip(u, v, strict=True)), *(a * b for a, b in zip(u, v, strict=True))]
    found = compare_means(states, weights, segments, both)
    torch.testing.assert_close(found, torch.tensor([[*expected, 1 / 4, 1 / 2]]))


def test_the_one_hidden_state_is_the_mean_of_the_row() -> None:
    """Both texts together, each token by its weight."""
    torch.manual_seed(0)
    section = StaticStudent(kind="static", width=8)
    model = StaticEncoder(section, vocabulary=20, classes=2, pairs=True, special_ids=(0, 1)).eval()
    torch.nn.init.normal_(model.log_weights.weight)
    ids, mask, segments = batch([([4, 5, 6], [7])], 6)
    _, hidden = model(ids, mask, segments, hidden=(1,))
    own = ids[0, :4]
    weights = model.log_weights(own).exp()
    expected = (weights * model.embedding(own)).sum(0) / weights.sum()
    torch.testing.assert_close(hidden, expected[None, None])


# ---------------------------------------------------------------- pairs of neighbours


def test_buckets_by_hand() -> None:
    """(7919·before + token) mod buckets, exact and not negative for the largest tokens."""
    ids = torch.tensor([[5, 7, 4], [250_000, 250_001, 0]])
    assert bigrams(ids, 1000).tolist() == [
        [5, (7919 * 5 + 7) % 1000, (7919 * 7 + 4) % 1000],
        [0, (7919 * 250_000 + 250_001) % 1000, (7919 * 250_001) % 1000],
    ]
    assert 7919 * 250_001 + 250_001 < 2**31


def test_tokens_before_the_same_one_have_buckets_of_their_own() -> None:
    """With as many buckets as tokens no two pairs that share a token share a bucket."""
    tokens = torch.arange(4096)
    after = bigrams(torch.stack([torch.full_like(tokens, 11), tokens], 1), 4096)[:, 1]
    before = bigrams(torch.stack([tokens, torch.full_like(tokens, 11)], 1), 4096)[:, 1]
    assert len(after.unique()) == len(before.unique()) == 4096


def test_which_tokens_have_a_neighbour() -> None:
    """Not across special tokens (0 to 3), not from one text into the other, not into padding."""
    ids, mask, segments = batch([([2, 7, 8, 1, 9, 3], [5, 6, 3]), ([7, 8], [9, 5])], 10)
    ordinary = ordinary_tokens(ids, mask.float(), torch.tensor([0, 1, 2, 3]))
    assert ordinary.tolist() == [[0, 1, 1, 0, 1, 0, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]]
    assert bigram_mask(ordinary, segments).tolist() == [[0, 0, 1, 0, 0, 0, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0, 0, 0, 0, 0]]
    assert bigram_mask(ordinary, None).tolist() == [[0, 0, 1, 0, 0, 0, 0, 1, 0, 0], [0, 1, 1, 1, 0, 0, 0, 0, 0, 0]]


def test_a_pair_is_added_to_the_token_that_ends_it() -> None:
    """7 8 9: the mean of 7, 8 and (7, 8), 9 and (8, 9), each by the weight of its token."""
    torch.manual_seed(0)
    section = StaticStudent(kind="static", width=8, bigrams=256)
    model = StaticEncoder(section, vocabulary=20, classes=2, pairs=False, special_ids=(0, 1)).eval()
    torch.nn.init.normal_(model.log_weights.weight)
    assert model.bigrams is not None
    ids = torch.tensor([[7, 8, 9]])
    _, hidden = model(ids, torch.ones_like(ids), hidden=(1,))
    states = model.embedding(ids[0])
    states[1:] += model.bigrams(torch.tensor([(7919 * 7 + 8) % 256, (7919 * 8 + 9) % 256]))
    weights = model.log_weights(ids[0]).exp()
    torch.testing.assert_close(hidden, ((weights * states).sum(0) / weights.sum())[None, None])


# ---------------------------------------------------------------- the start


def test_weights_are_smooth_inverse_frequencies() -> None:
    """a / (a + p) with a = 0.001: a token never seen weighs 1, one that is all there is next to nothing."""
    counts = np.array([0, 10, 990])
    expected = [1.0, 0.001 / 0.011, 0.001 / 0.991]
    assert sif_log_weights(counts).exp().tolist() == pytest.approx(expected)
    assert sif_log_weights(np.zeros(2, np.int64)).tolist() == [0, 0]


def test_counts_are_those_of_the_students_tokenizer(bert_teacher: Teacher) -> None:
    """Of the cut vocabulary, whose splits are others; the tokens around a text count once for each."""
    from tokenizers import Tokenizer

    tokens = prune(bert_teacher.tokenizer_json, bert_teacher.spec.pad_id, CORPUS[:40], 256)
    rows = Tokenizer.from_str(tokens.tokenizer_json).encode_batch(list(CORPUS[:40]))
    expected = Counter(token for row in rows for token in row.ids)
    found = token_counts(tokens.tokenizer_json, tokens.size, CORPUS[:40])
    assert {token: count for token, count in enumerate(found) if count} == expected


def test_what_stands_around_a_text(bert_teacher: Teacher, gpt2_teacher: Teacher) -> None:
    """[CLS] and [SEP], <s> and </s>, nothing."""
    from tokenizers import Tokenizer

    for text, names in ((bert_teacher.tokenizer_json, ("[CLS]", "[SEP]")), (unigram_json(), ("<s>", "</s>"))):
        ids = [Tokenizer.from_str(text).token_to_id(name) for name in names]
        assert template(text) == ([ids[0]], [ids[1]])
    assert template(gpt2_teacher.tokenizer_json) == ([], [])


def test_what_stands_around_a_text_of_another_script() -> None:
    """A BPE tokenizer without bytes that knows two Chinese words makes nothing of a Latin letter."""
    from tokenizers import Tokenizer, models, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(["红色", "跑鞋"], trainer)
    around = [("<s>", 0), ("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=around)
    assert tokenizer.encode("a").ids == [0, 1]
    assert template(tokenizer.to_str()) == ([0], [1])
    with pytest.raises(RecipeError, match=r"makes no token of any text"):
        template(Tokenizer(models.BPE()).to_str())


@pytest.mark.parametrize("which", ["bert_teacher", "gpt2_teacher", "llama_teacher"])
def test_vectors_are_what_the_teacher_says_of_a_token_alone(which: str, request: pytest.FixtureRequest) -> None:
    """The mean over all positions of the layer's states, as the teacher's own library gives them."""
    teacher: Teacher = request.getfixturevalue(which)
    tokens = whole(teacher.tokenizer_json, teacher.spec.pad_id)
    found = contextual_vectors(teacher.module, tokens, layer=3)
    before, after = template(teacher.tokenizer_json)
    assert found.shape == (tokens.size, teacher.module.width)
    for token in (0, 5, tokens.size - 1):
        row = torch.tensor([[*before, token, *after]])
        with torch.no_grad():
            body = teacher.module.model.base_model(input_ids=row, output_hidden_states=True)
        torch.testing.assert_close(found[token], body.hidden_states[3][0].mean(0), atol=1e-5, rtol=1e-4)


def test_tokens_that_the_teacher_does_not_know_have_no_vector(bert_teacher: Teacher) -> None:
    """A vocabulary trained anew: as many vectors as common tokens, in the student's order."""
    tokens = train([f"{text} zebra quilt" for text in CORPUS], 300, bert_teacher.tokenizer_json)
    known = tokens.teacher_ids[tokens.teacher_ids >= 0]
    assert 0 < len(known) < tokens.size
    everything = whole(bert_teacher.tokenizer_json, bert_teacher.spec.pad_id)
    expected = contextual_vectors(bert_teacher.module, everything, layer=4)[known]
    torch.testing.assert_close(contextual_vectors(bert_teacher.module, tokens, layer=4), expected)


def test_principal_directions_are_those_of_scikit_learn() -> None:
    """Up to the sign of a direction."""
    from sklearn.decomposition import PCA

    rows = torch.randn(50, 12, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(1.0, 13))
    expected = PCA(5, svd_solver="full").fit_transform(rows.numpy())
    np.testing.assert_allclose(principal(rows, 5).abs().numpy(), np.abs(expected), atol=1e-4)

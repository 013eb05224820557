"""The student's tokens: the teacher's vocabulary cut to what the data use, or a new one trained on the data.

A cut keeps special tokens, every single character (with and without the continuation prefix) and the most frequent
tokens, so that a dropped token is spelled by kept pieces and nothing becomes unknown that was known before. The report
says what share of the data's tokens keep their split.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.batch import Ints
from compress.errors import RecipeError

CONTINUATION = "##"
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


def _encodings(tokenizer: Any, texts: Sequence[str]) -> Iterable[list[int]]:
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
    size = tokenizer.get_vocab_size(with_added_tokens=True)
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
    counts = _count(Tokenizer.from_str(tokenizer_json), texts)
    kind = parsed["model"]["type"]
    pieces = _pieces(parsed["model"])
    must = {pad_id, *(int(token["id"]) for token in parsed["added_tokens"])}
    must |= {i for token, i in pieces.items() if _is_basic(token)}
    if len(must) >= keep:
        raise RecipeError(
            f"student.vocabulary.keep is {keep}, but the teacher's special tokens and single characters alone are "
            f"{len(must)}; set it above that"
        )
    chosen = set(must)
    parents = _merge_parents(parsed["model"], pieces) if kind == "BPE" else {}
    # Tokens that the data never use follow in the teacher's own order, which is by frequency in most vocabularies.
    for token_id in sorted(pieces.values(), key=lambda item: (-counts.get(item, 0), item)):
        needed = _closure(token_id, parents) - chosen
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
    return StudentTokens(json.dumps(parsed, ensure_ascii=False), np.array(kept), remap[pad_id], _special_ids(parsed), report)


def _pieces(model: dict[str, Any]) -> dict[str, int]:
    if model["type"] in ("WordPiece", "BPE", "WordLevel"):
        return {str(token): int(i) for token, i in model["vocab"].items()}
    if model["type"] == "Unigram":
        return {str(entry[0]): i for i, entry in enumerate(model["vocab"])}
    raise RecipeError(f"student.vocabulary.keep: a tokenizer of type {model['type']} cannot be cut; use vocabulary.train")


def _is_basic(token: str) -> bool:
    return len(token.removeprefix(CONTINUATION).removeprefix("▁").removeprefix("Ġ")) <= 1 or token in SPECIALS


def _merge_parents(model: dict[str, Any], pieces: dict[str, int]) -> dict[int, tuple[int, int]]:
    parents: dict[int, tuple[int, int]] = {}
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        parents.setdefault(pieces[left + right], (pieces[left], pieces[right]))
    return parents


def _closure(token: int, parents: dict[int, tuple[int, int]]) -> set[int]:
    """A BPE token and all that it is merged from; without them it could not be built."""
    needed, todo = set(), [token]
    while todo:
        current = todo.pop()
        if current not in needed:
            needed.add(current)
            todo.extend(parents.get(current, ()))
    return needed


def _rewrite(parsed: dict[str, Any], remap: dict[int, int]) -> None:
    """Give every kept token its new number, wherever a tokenizer.json names one."""
    model = parsed["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in sorted(remap)]
        model["unk_id"] = remap.get(model["unk_id"])
    else:
        model["vocab"] = {token: remap[i] for token, i in model["vocab"].items() if i in remap}
    if model["type"] == "BPE":
        vocab = model["vocab"]
        split = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [[a, b] for a, b in split if a in vocab and b in vocab and a + b in vocab]
    for token in parsed["added_tokens"]:
        token["id"] = remap[token["id"]]
    parsed["padding"] = parsed["truncation"] = None
    if parsed.get("post_processor"):
        _rewrite_processor(parsed["post_processor"], remap)


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

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIALS), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    sep, cls = tokenizer.token_to_id("[SEP]"), tokenizer.token_to_id("[CLS]")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    known = _pieces(json.loads(teacher_json)["model"]) if teacher_json else {}
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    teacher_ids = np.array([known.get(token, -1) for token, _ in vocabulary])
    text = str(tokenizer.to_str())
    report = {"tokens": len(vocabulary), "teacher_tokens": len(known), "coverage": 1.0, "trained": True}
    return StudentTokens(text, teacher_ids, tokenizer.token_to_id("[PAD]"), _special_ids(json.loads(text)), report)


def unknown_rate(tokenizer_json: str, texts: Sequence[str], unknown: str = "[UNK]") -> dict[str, float]:
    """Share of unknown tokens and mean tokens of a text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json)
    unk = tokenizer.token_to_id(unknown)
    counts = _count(tokenizer, texts)
    total = sum(counts.values())
    return {"unknown": counts.get(unk, 0) / max(total, 1), "mean_tokens": total / max(len(texts), 1)}

"""Texts and pairs of texts as numbers for the cheap classic models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.batch import Floats

MOST_FEATURES = 200_000
SAMPLE_FOR_SCRIPT = 2000
CJK_SHARE = 0.2
CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Kana, Chinese characters and Hangul: written without spaces, or with words that change their ending."""
TOKEN = re.compile(f"[{CJK}]|[^\\W{CJK}]+")


def is_cjk(texts: Sequence[str]) -> bool:
    """Whether the texts are in a script without spaces: at least a fifth of the letters of the first rows."""
    sample = "".join(texts[:SAMPLE_FOR_SCRIPT])
    letters = sum(character.isalpha() for character in sample)
    return len(re.findall(f"[{CJK}]", sample)) > CJK_SHARE * max(letters, 1)


def tfidf(texts: Sequence[str]) -> tuple[Any, str]:
    """An unfitted TF-IDF vectorizer that suits the script of the texts, and the name of its unit."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    characters = is_cjk(texts)
    grams: dict[str, Any] = (
        {"analyzer": "char", "ngram_range": (1, 3)}
        if characters
        else {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
    )
    vectors = TfidfVectorizer(sublinear_tf=True, max_features=MOST_FEATURES, dtype=np.float32, **grams)
    return vectors, "character 1-3 grams" if characters else "word 1-2 grams"


@dataclass(frozen=True)
class PairFeatures:
    """Turns two columns of texts into numbers that say how far they overlap.

    words, characters: fitted TF-IDF vectorizers. rarity: inverse document frequency of a token; unknown: that
    of a token which no training row has.
    """

    words: Any
    characters: Any
    rarity: dict[str, float]
    unknown: float

    @classmethod
    def fit(cls, texts: Sequence[str]) -> PairFeatures:
        """Count words and characters in the training texts, first and second ones alike."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(analyzer=tokens, sublinear_tf=True, dtype=np.float32)
        grams = (1, 2) if is_cjk(texts) else (3, 4)
        characters = TfidfVectorizer(
            analyzer="char_wb",
            ngram_range=grams,
            sublinear_tf=True,
            max_features=MOST_FEATURES,
            dtype=np.float32,
        )
        words.fit(texts)
        characters.fit(texts)
        rarity = {word: float(words.idf_[column]) for word, column in words.vocabulary_.items()}
        return cls(words, characters, rarity, max(rarity.values(), default=1.0))

    def table(self, first: Sequence[str], second: Sequence[str]) -> Floats:
        """Features, float32 [N, 18], of N pairs."""
        overlaps = np.array([self._overlap(a, b) for a, b in zip(first, second, strict=True)], np.float32)
        cosines = [
            np.asarray(vectors.transform(first).multiply(vectors.transform(second)).sum(axis=1), np.float32)
            for vectors in (self.words, self.characters)
        ]
        return np.hstack([overlaps.reshape(len(first), -1), *(cosine.reshape(-1, 1) for cosine in cosines)])

    def _overlap(self, first: str, second: str) -> list[float]:
        """Overlap of two texts: of tokens, of tokens weighted by rarity, of numbers; and their shape."""
        a, b = tokens(first), tokens(second)
        left, right = set(a), set(b)
        both = left & right
        rare_left, rare_right = self._rarities(left - both), self._rarities(right - both)
        rare_both = self._rarities(both)
        shared = sum(rare_both)
        numbers_left, numbers_right = _numbers(left), _numbers(right)
        prefix = _common_prefix(a, b)
        return [
            _share(len(both), len(left | right)),
            _share(len(both), len(left)),
            _share(len(both), len(right)),
            _share(shared, shared + sum(rare_left)),
            _share(shared, shared + sum(rare_right)),
            max(rare_left, default=0.0),
            max(rare_right, default=0.0),
            max(rare_both, default=0.0),
            _share(len(numbers_left & numbers_right), len(numbers_left | numbers_right)),
            float(len(numbers_left & numbers_right)),
            float(len(numbers_left - numbers_right)),
            float(len(numbers_right - numbers_left)),
            float(len(a) - len(b)),
            _share(min(len(a), len(b)), max(len(a), len(b))),
            float(prefix),
            _share(prefix, min(len(a), len(b))),
        ]

    def _rarities(self, chosen: set[str]) -> list[float]:
        return [self.rarity.get(token, self.unknown) for token in chosen]


def tokens(text: str) -> list[str]:
    """Lower-case words and numbers; a character of a script without spaces is a token of its own."""
    return TOKEN.findall(text.lower())


def _numbers(chosen: set[str]) -> set[str]:
    return {token for token in chosen if any(character.isdigit() for character in token)}


def _common_prefix(first: Sequence[str], second: Sequence[str]) -> int:
    for length, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return length
    return min(len(first), len(second))


def _share(part: float, whole: float) -> float:
    """Part of the whole; -1 where there is no whole, which boosting can tell from 0."""
    return part / whole if whole else -1.0

"""A cheap classic model, fitted in seconds: what distillation has to beat to be worth its trouble."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.artifacts import write_json
from compress.batch import Examples, Floats, Ints, Splits
from compress.decide import best_threshold, softmax
from compress.errors import DataError
from compress.recipe import PairsTask, Task
from compress.tasks.metrics import evaluate, positive_label

FILE = "baseline.json"
MOST_FEATURES = 200_000
SAMPLE_FOR_SCRIPT = 2000
CJK_SHARE = 0.2
CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Kana, Chinese characters and Hangul: written without spaces, or with words that change their ending."""
TOKEN = re.compile(f"[{CJK}]|[^\\W{CJK}]+")

Scorer = Callable[[Examples], Floats]


def fit_baseline(splits: Splits, task: Task, seed: int, out: Path) -> dict[str, Any]:
    """Fit the classic model of the task on the training rows and write `baseline.json` into the folder `out`.

    Classification: TF-IDF and a linear SVM. Pairs: gradient boosting on overlap features; with two labels the
    threshold is chosen on validation.

    Returns:
        description, seconds of fitting and answering, threshold (None without one), and the measures of
        `tasks.metrics.evaluate` on `validation` and `test`.

    Raises:
        DataError: a split has no labels.
    """
    start = time.perf_counter()
    if isinstance(task, PairsTask):
        description, scorer = _fit_pairs(splits.train, len(splits.labels), seed)
    else:
        description, scorer = _fit_classification(splits.train, len(splits.labels), seed)
    positive = positive_label(task, splits.labels)
    validation, test = scorer(splits.validation), scorer(splits.test)
    threshold = None
    if positive is not None:
        index = splits.labels.index(positive)
        threshold = best_threshold(validation[:, index], _labels(splits.validation, "validation") == index)
    measured = {
        name: evaluate(scores, _labels(rows, name), splits.labels, positive, threshold)
        for name, scores, rows in (
            ("validation", validation, splits.validation),
            ("test", test, splits.test),
        )
    }
    seconds = round(time.perf_counter() - start, 3)
    result = {"description": description, "seconds": seconds, "threshold": threshold, **measured}
    write_json(out / FILE, result)
    return result


def is_cjk(texts: Sequence[str]) -> bool:
    """Whether the texts are in a script without spaces: at least a fifth of the letters of the first rows."""
    sample = "".join(texts[:SAMPLE_FOR_SCRIPT])
    letters = sum(character.isalpha() for character in sample)
    return len(re.findall(f"[{CJK}]", sample)) > CJK_SHARE * max(letters, 1)


def _labels(rows: Examples, split: str) -> Ints:
    if rows.labels is None:
        raise DataError(f"the {split} rows have no labels, which the baseline needs; set data.{split}.columns.label")
    return rows.labels


def _spread(scores: npt.NDArray[Any], classes: Ints, count: int) -> Floats:
    """Scores [N, K] of the fitted classes as [N, C]: 0 for classes without a training row."""
    full = np.zeros((len(scores), count), np.float32)
    full[:, classes] = scores
    return full


# ---------------------------------------------------------------- classification


def _fit_classification(train: Examples, count: int, seed: int) -> tuple[str, Scorer]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    characters = is_cjk(train.texts)
    grams: dict[str, Any] = (
        {"analyzer": "char", "ngram_range": (1, 3)}
        if characters
        else {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
    )
    vectors = TfidfVectorizer(sublinear_tf=True, max_features=MOST_FEATURES, dtype=np.float32, **grams)
    model = LinearSVC(random_state=seed)
    model.fit(vectors.fit_transform(train.texts), _labels(train, "train"), sample_weight=train.weights)

    def score(rows: Examples) -> Floats:
        margins = model.decision_function(vectors.transform(rows.texts))
        if margins.ndim == 1:
            margins = np.stack([-margins, margins], axis=1)
        return _spread(softmax(margins), model.classes_, count)

    unit = "character 1-3 grams" if characters else "word 1-2 grams"
    return f"TF-IDF of {unit} and a linear SVM", score


# ---------------------------------------------------------------- pairs


def _fit_pairs(train: Examples, count: int, seed: int) -> tuple[str, Scorer]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    features = PairFeatures.fit([*train.texts, *_second(train)])
    model = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=200, max_leaf_nodes=15, l2_regularization=1.0, random_state=seed
    )
    table = features.table(train.texts, _second(train))
    model.fit(table, _labels(train, "train"), sample_weight=train.weights)

    def score(rows: Examples) -> Floats:
        found = model.predict_proba(features.table(rows.texts, _second(rows)))
        return _spread(found, model.classes_, count)

    return f"gradient boosting on {table.shape[1]} overlap features", score


def _second(rows: Examples) -> Sequence[str]:
    if rows.pairs is None:
        raise DataError("the task is pairs, but the rows have no second text; set data.train.columns.text_pair")
    return rows.pairs


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

"""A cheap classic model, fitted in seconds: what distillation has to beat to be worth its trouble."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.artifacts import write_json
from compress.batch import Examples, Floats, Ints, Labels, Splits
from compress.decide import softmax
from compress.errors import DataError
from compress.recipe import Task
from compress.students.text_features import PairFeatures, tfidf
from compress.tasks.kinds import task_kind
from compress.texts import ROWS_A_PIECE, Joined

FILE = "baseline.json"
BOOSTING: dict[str, Any] = {"learning_rate": 0.05, "max_iter": 200, "max_leaf_nodes": 15, "l2_regularization": 1.0}

MOST_ROWS = {"classification": 50_000, "regression": 50_000, "pairs": 200_000, "ranking": 200_000}
"""Training rows that a model is fitted on at the most: its table of words stands in memory."""

Scorer = Callable[[Examples], npt.NDArray[Any]]
"""Rows to what the task's measures take, [N, C]."""


def fit_baseline(splits: Splits, task: Task, seed: int, out: Path) -> dict[str, Any]:
    """Fit the classic model of the task on the training rows and write `baseline.json` into the folder `out`.

    Classification: TF-IDF and a linear SVM. Pairs: gradient boosting on overlap features; with two labels the
    threshold is chosen on validation. Ranking: the same features, boosted against the grades. Regression: TF-IDF
    (of each text) and ridge regression.

    Of more training rows than MOST_ROWS a sample is read, as the description says.

    Returns:
        description, seconds of fitting and answering, threshold (None without one), and the task's measures on
        `validation` and `test`.

    Raises:
        DataError: a split has no labels.
    """
    start = time.perf_counter()
    kind = task_kind(task, splits)
    train = _sample(splits.train, MOST_ROWS[task.kind], seed)
    description, scorer = FITS[task.kind](train, len(splits.labels), seed)
    if len(train) < len(splits.train):
        description += f", on {len(train):,} of {len(splits.train):,} training rows"
    splits_of = {"validation": splits.validation, "test": splits.test}
    for name, rows in splits_of.items():
        _labels(rows, name)
    scores = {name: _in_pieces(scorer, rows) for name, rows in splits_of.items()}
    threshold = kind.threshold(scores["validation"], splits.validation)
    measured = {name: kind.measure(scores[name], rows, threshold) for name, rows in splits_of.items()}
    seconds = round(time.perf_counter() - start, 3)
    result = {"description": description, "seconds": seconds, "threshold": threshold, **measured}
    write_json(out / FILE, result)
    return result


def _sample(rows: Examples, most: int, seed: int) -> Examples:
    """All rows, or so many of them, drawn at random, in their order."""
    if len(rows) <= most:
        return rows
    return rows.take(np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False)))


def _in_pieces(scorer: Scorer, rows: Examples) -> npt.NDArray[Any]:
    starts = range(0, len(rows), ROWS_A_PIECE)
    return np.concatenate([scorer(rows.take(range(start, min(start + ROWS_A_PIECE, len(rows))))) for start in starts])


def _labels(rows: Examples, split: str) -> Labels:
    if rows.labels is None:
        raise DataError(f"the {split} rows have no labels, which the baseline needs; set data.{split}.columns.label")
    return rows.labels


def _second(rows: Examples) -> Sequence[str]:
    if rows.pairs is None:
        raise DataError("the task compares two texts, but the rows have no second; set data.train.columns.text_pair")
    return rows.pairs


def _spread(scores: npt.NDArray[Any], classes: Ints, count: int) -> Floats:
    """Scores [N, K] of the fitted classes as [N, C]: 0 for classes without a training row."""
    full = np.zeros((len(scores), count), np.float32)
    full[:, classes] = scores
    return full


def _fit_classification(train: Examples, count: int, seed: int) -> tuple[str, Scorer]:
    from sklearn.svm import LinearSVC

    vectors, unit = tfidf(train.texts)
    model = LinearSVC(random_state=seed)
    model.fit(vectors.fit_transform(train.texts), _labels(train, "train"), sample_weight=train.weights)

    def score(rows: Examples) -> Floats:
        margins = model.decision_function(vectors.transform(rows.texts))
        if margins.ndim == 1:
            margins = np.stack([-margins, margins], axis=1)
        return _spread(softmax(margins), model.classes_, count)

    return f"TF-IDF of {unit} and a linear SVM", score


def _fit_pairs(train: Examples, count: int, seed: int) -> tuple[str, Scorer]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    features = PairFeatures.fit(Joined(train.texts, _second(train)))
    model = HistGradientBoostingClassifier(random_state=seed, **BOOSTING)
    table = features.table(train.texts, _second(train))
    model.fit(table, _labels(train, "train"), sample_weight=train.weights)

    def score(rows: Examples) -> Floats:
        found = model.predict_proba(features.table(rows.texts, _second(rows)))
        return _spread(found, model.classes_, count)

    return f"gradient boosting on {table.shape[1]} overlap features", score


def _fit_ranking(train: Examples, count: int, seed: int) -> tuple[str, Scorer]:
    from sklearn.ensemble import HistGradientBoostingRegressor

    features = PairFeatures.fit(Joined(train.texts, _second(train)))
    model = HistGradientBoostingRegressor(random_state=seed, **BOOSTING)
    table = features.table(train.texts, _second(train))
    model.fit(table, _labels(train, "train"))

    def score(rows: Examples) -> npt.NDArray[Any]:
        return np.asarray(model.predict(features.table(rows.texts, _second(rows)))).reshape(-1, 1)

    return f"gradient boosting on {table.shape[1]} overlap features, against the grades", score


def _fit_regression(train: Examples, count: int, seed: int) -> tuple[str, Scorer]:
    from scipy.sparse import hstack
    from sklearn.linear_model import Ridge

    columns = [train.texts] if train.pairs is None else [train.texts, train.pairs]
    made = [tfidf(texts) for texts in columns]
    model = Ridge()
    table = hstack([vectors.fit_transform(texts) for (vectors, _), texts in zip(made, columns, strict=True)])
    model.fit(table.tocsr(), _labels(train, "train"), sample_weight=train.weights)

    def score(rows: Examples) -> npt.NDArray[Any]:
        texts = [rows.texts] if train.pairs is None else [rows.texts, _second(rows)]
        found = [vectors.transform(column) for (vectors, _), column in zip(made, texts, strict=True)]
        return np.asarray(model.predict(hstack(found).tocsr())).reshape(-1, 1)

    return f"TF-IDF of {' and '.join(dict.fromkeys(unit for _, unit in made))} and ridge regression", score


FITS: dict[str, Callable[[Examples, int, int], tuple[str, Scorer]]] = {
    "classification": _fit_classification,
    "pairs": _fit_pairs,
    "ranking": _fit_ranking,
    "regression": _fit_regression,
}
"""Kind of task -> (training rows, labels, seed) -> description and fitted model."""

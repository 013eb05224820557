"""Recipes that cannot be meant: the one sentence that names the key, what is there and what may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.recipe.file import resolve
from tests.recipe_sections import MINIMAL, NUMBERS, refused_section, stage


def test_unknown_key_names_the_nearest_and_all() -> None:
    message = refused_section(data={"train": {"path": "a", "columns": {"txt": 1}}})
    assert message == (
        "r.yaml: data.train.columns.txt: unknown key (did you mean text?); "
        "allowed: group, id, label, privileged, privileged_pair, text, text_pair, weight"
    )


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"gatess": 1, "seed": "x"}, "gatess: unknown key (did you mean gates?)"),
        ({"gatess": 1, "seed": "x"}, "(and 1 more)"),
        ({"data": {**MINIMAL["data"], "unlabeled": [{"pth": 1}]}}, "data.unlabeled.0.pth: unknown key"),
        ({"data": {**MINIMAL["data"], "unlabeled": {"pth": 1}}}, "data.unlabeled.pth: unknown key"),
        ({"data": {**MINIMAL["data"], "validation": {"fraction": 2}}}, "must be less than 1, not 2"),
        ({"data": {"kind": "simulatd"}}, "data.kind: must be one of files, simulated-shop, not 'simulatd'"),
        ({"task": {}}, "task.kind: is missing (The kind of task); allowed: classification, pairs"),
        ({"task": "pairs"}, "task: must be a mapping of keys, not 'pairs'"),
        (
            {"task": {"kind": "pairs", "positive": 1}},
            "task.positive: must be a string, not 1; put it in quotes",
        ),
        ({"export": [{"to": "onx"}]}, "export.0.to: must be one of onnx, tensorrt, tensorrt-rtx, not 'onx'"),
        ({"export": [{"too": "onnx"}]}, "export.0.to: is missing"),
        ({"student": {"kind": "mobile", "kernel": 4}}, "student: kernel must be odd, not 4"),
        ({"student": {"kind": "residual", "kernel": 4}}, "student: kernel must be odd, not 4"),
        (
            {"student": {"kind": "mobile", "blocks": 3, "layer_map": [2, 4]}},
            "student: layer_map names 2 layers, but the student has 3",
        ),
        (
            {"student": {"kind": "static", "layer_map": [2, 4]}},
            "student: layer_map names 2 layers, but the student has 1",
        ),
        ({"student": {"kind": "static", "blocks": 4}}, "student.blocks: unknown key"),
        (
            {"student": {"kind": "static", "bigrams": 0}},
            "student.bigrams: must be greater than or equal to 256, not 0",
        ),
        ({"student": {"kind": "mobile", "bigrams": 4096}}, "student.bigrams: unknown key"),
        ({"student": {"kind": "static", "embedding_std": 0}}, "student.embedding_std: must be greater than 0, not 0"),
        (
            {"student": {"kind": "static"}, "quantize": {"method": "static"}},
            "quantize.method: static measures the ranges of convolutions, and a static student has none; "
            "set it to dynamic",
        ),
        ({"student": {"kind": "transformer", "layers": "three"}}, "student.layers: must be a whole number"),
        (
            {"student": {"kind": "transformer", "layers": True}},
            "student.layers: must be text or a number, not true",
        ),
        ({"gates": {"p99_ms": float("nan")}}, "gates.p99_ms: must be a finite number, not nan"),
        (
            {"gates": {"quality": {"metric": "f2", "retain": 1}}},
            "gates.quality.metric: must be one of accuracy",
        ),
        ({"name": "a b"}, "name: must match pattern"),
        ({"task": {"kind": "ranking", "metric": "ndcg"}}, "task.metric: must match pattern"),
        ({"task": {"kind": "ranking", "loss": "triplet"}}, "task.loss: must be one of pointwise, listwise"),
        ({"task": {"kind": "regression", "metric": "f1"}}, "task.metric: must be one of rmse, mae, spearman, not 'f1'"),
        (
            {"distill": {"stages": [{"name": "a", "losses": {"soft": 1, "listwise": 1}}]}},
            "distill.stages.0.losses.listwise compares the rows of a query, which only task.kind: ranking has",
        ),
        (
            {
                "task": {"kind": "regression"},
                "distill": {"stages": [{"name": "a", "losses": {"soft": 1, "reverse_kl": 1}}]},
            },
            "distill.stages.0.losses.reverse_kl compares the probabilities of labels, which task.kind: regression does",
        ),
        (
            {"task": {"kind": "regression"}, "data": {"kind": "simulated-shop"}},
            "the simulated shop has no numbers to learn",
        ),
        (
            {"task": {"kind": "ranking"}, "teacher": {"model": "m", "train": {"swap_pairs": True}}},
            "teacher.train.swap_pairs: a query and a document cannot change places",
        ),
        (
            {
                "task": {"kind": "regression"},
                "teacher": {"kind": "scores", "path": "x", "scale": "logits"},
                "student": {"kind": "mobile", "init": "random", "vocabulary": {"train": 500}},
            },
            "teacher.scale is for scores of labels",
        ),
        ({"name": None}, "name: is missing"),
        ({"teacher": {"kind": "scores", "path": "x"}}, "needs a teacher model"),
        (
            {
                "teacher": {"kind": "scores", "path": "x"},
                "student": {"kind": "mobile", "init": "random", "vocabulary": {"train": 500}},
                "distill": {"stages": [{"name": "a", "losses": {"soft": 1, "hidden_cosine": 1}}]},
            },
            "a file of scores has no hidden states: set losses.hidden and losses.hidden_cosine to 0",
        ),
        ({"distill": {"stages": []}}, "distill.stages: must have at least 1 item"),
    ],
)
def test_sentence(sections: dict[str, Any], expected: str) -> None:
    assert expected in refused_section(**sections)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (stage(losses={"soft": -1}), "distill.stages.0.losses.soft: must be greater than or equal to 0 or a mapping"),
        (
            stage(losses={"soft": {"from": -1, "to": 1}}),
            "distill.stages.0.losses.soft.from: must be greater than or equal to 0, not -1 (Value at the stage's first",
        ),
        (
            stage(losses={"soft": {"from": 1, "two": 1}}),
            "losses.soft.two: unknown key (did you mean to?)",
        ),
        (stage(losses={"hidden": {"from": 1}}), "losses.hidden.to: is missing (Value at its last step"),
        (stage(losses={"soft": {"from": 1, "to": 1}}), "losses.soft: goes from 1 to 1: write 1 alone"),
        (stage(losses={"soft": {"from": True, "to": 0}}), "losses.soft.from: must be text or a number, not true"),
        (stage(temperature={"from": 4, "to": 0}), "distill.stages.0.temperature.to: must be greater than 0, not 0"),
        (stage(temperature={"from": 400, "to": 1}), "temperature.from: must be less than or equal to 100, not 400"),
        (
            stage(temperature={"from": 4, "to": 1, "shape": "cosin"}),
            "temperature.shape: must be one of linear, cosine, not 'cosin' (did you mean cosine?)",
        ),
        (stage(temperature=0), "distill.stages.0.temperature: must be greater than 0 or a mapping of keys, not 0"),
        (
            stage(losses={"hard": 1}, temperature={"from": 4, "to": 1}),
            "distill.stages.0.temperature has a schedule, but no term of losses has a temperature",
        ),
        (
            NUMBERS | stage(losses={"soft": 1}, temperature={"from": 4, "to": 1}),
            "temperature has a schedule, but no term of losses has a temperature for task.kind: regression",
        ),
        (
            stage(losses={"soft": 1}, weighting="uncertainty"),
            "distill.stages.0: weighting: uncertainty weighs terms against each other, and losses has soft alone",
        ),
        (
            stage(losses={"soft": {"from": 1, "to": 0}, "hard": 1}, weighting="uncertainty"),
            "weighting: uncertainty learns the weights, but losses.soft has a schedule",
        ),
        (stage(weighting="learned"), "distill.stages.0.weighting: must be one of fixed, uncertainty, not 'learned'"),
        (
            stage(losses={"hard": 1}, confidence=True),
            "confidence weighs the rows of soft, reverse_kl and jensen_shannon",
        ),
        (
            NUMBERS | stage(confidence=True),
            "distill.stages.0.confidence is the probability of a label, which task.kind:",
        ),
        (stage(losses={"soft": 0}), "distill.stages.0: every loss weight is 0: nothing to learn"),
    ],
)
def test_weights_that_cannot_be(sections: dict[str, Any], expected: str) -> None:
    message = refused_section(**sections)
    assert expected in message
    assert "\n" not in message


RELATED = stage(losses={"soft": 1, "relations": 1})


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (
            {"student": {"kind": "mobile"}},
            "distill.stages.0.losses.relations compares attention, and a mobile student has none: leave it out",
        ),
        (
            {"student": {"kind": "transformer", "vocabulary": {"keep": 4000}}},
            "losses.relations compares tokens with the teacher's, and student.vocabulary.keep gives the student others",
        ),
        (
            {"student": {"kind": "transformer", "vocabulary": {"train": 4000}}},
            "student.vocabulary.train gives the student others: leave one of the two out",
        ),
        (
            {"teacher": {"model": "m", "max_length": 32}, "student": {"kind": "transformer", "max_length": 64}},
            "student.max_length is 64 and teacher.max_length 32: lower the student's",
        ),
        (
            {
                "teacher": {"kind": "scores", "path": "x"},
                "student": {"kind": "transformer", "init": "random", "vocabulary": {"train": 500}},
            },
            "losses.relations compares attention, and a file of scores has none",
        ),
    ],
)
def test_relations_that_cannot_be(sections: dict[str, Any], expected: str) -> None:
    assert expected in refused_section(**RELATED, **sections)
    assert resolve({**MINIMAL, **RELATED}, Path("r.yaml")).recipe.distill.relation_stages == [0]

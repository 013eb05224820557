"""A request becomes an answer, alone or in company, and what cannot be answered is refused by name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from compress.artifacts import ONNX, SPEC, ModelSpec, write_json
from compress.errors import DataError, IntegrityError
from compress.runtime.engine import ModelBytes
from compress.runtime.predictor import Predictor, Request
from tests.tiny import tiny_deployable, tiny_onnx, tiny_requests, tiny_spec, tiny_tokenizer_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "classification")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "pairs", "pairs")


def test_probabilities_sum_to_one_and_the_best_is_the_label(folder: Path) -> None:
    for answer in Predictor.from_folder(folder).answer(tiny_requests()):
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert answer.score == answer.probabilities[answer.label] == max(answer.probabilities.values())
        assert list(answer.probabilities) == ["shoes", "power", "kitchen"]


def test_ids_come_back_in_order(folder: Path) -> None:
    assert [answer.id for answer in Predictor.from_folder(folder).answer(tiny_requests())] == [
        "0",
        "1",
        "2",
        "3",
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_company_in_a_batch_changes_nothing(folder: Path, batch_size: int) -> None:
    predictor = Predictor.from_folder(folder)
    together = predictor.logits(tiny_requests(), batch_size=batch_size)
    alone = np.concatenate([predictor.logits([request]) for request in tiny_requests()])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_requests_no_answers(folder: Path) -> None:
    predictor = Predictor.from_folder(folder)
    assert predictor.answer([]) == []
    assert predictor.logits([]).shape == (0, 3)


def test_pairs_answer_by_threshold_and_score_the_positive_label(tmp_path: Path) -> None:
    requests = tiny_requests("pairs")
    for threshold in (0.0, 1.0):
        folder = tiny_deployable(tmp_path / str(threshold), "pairs", threshold=threshold)
        answers = Predictor.from_folder(folder).answer(requests)
        assert all(answer.score == answer.probabilities["1"] for answer in answers)
        assert {answer.label for answer in answers} == {"1" if threshold == 0 else "0"}


def test_ranking_answers_with_the_score_alone(tmp_path: Path) -> None:
    predictor = Predictor.from_folder(tiny_deployable(tmp_path, "ranking"))
    requests = tiny_requests("ranking")
    answers = predictor.answer(requests, batch_size=3)
    assert [asdict(answer).keys() for answer in answers] == [{"id", "score"}] * 4
    assert [answer.score for answer in answers] == pytest.approx(predictor.logits(requests)[:, 0].tolist())
    with pytest.raises(DataError, match=r"request 1 .*text_pair"):
        predictor.answer([Request("red shoe")])


def test_regression_answers_in_the_unit_of_its_labels(tmp_path: Path) -> None:
    predictor = Predictor.from_folder(tiny_deployable(tmp_path, "regression"))
    answers = predictor.answer(tiny_requests("regression"))
    expected = 50 + 20 * predictor.logits(tiny_requests("regression"))[:, 0].astype(np.float64)
    assert [answer.score for answer in answers] == pytest.approx(expected.tolist())
    assert [answer.id for answer in answers] == ["0", "1", "2", "3"]


def test_regression_may_read_two_texts(tmp_path: Path) -> None:
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    predictor = Predictor.from_folder(tiny_deployable(tmp_path, "regression", two_texts=True, inputs=inputs))
    with pytest.raises(DataError, match=r"request 1 has one text, this model compares two"):
        predictor.answer([Request("red shoe")])
    forth, back = predictor.answer([Request("red shoe", "usb charger"), Request("usb charger", "red shoe")])
    assert forth.score != back.score


def test_a_specification_without_two_texts_means_what_its_task_needs() -> None:
    known = tiny_spec("pairs").model_dump(mode="json")
    del known["two_texts"], known["standard"]
    older = ModelSpec.model_validate(known)
    assert (older.two_texts, older.standard) == (True, None)
    assert not ModelSpec.model_validate(known | {"task": "classification"}).two_texts


def test_a_task_of_the_future_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        IntegrityError, match=r"task is 'tagging', known are classification, pairs, ranking, regression"
    ):
        Predictor.from_folder(tiny_deployable(tmp_path, "tagging"))


def test_the_order_of_the_two_texts_matters_to_the_model(pairs: Path) -> None:
    predictor = Predictor.from_folder(pairs)
    forth, back = predictor.logits([Request("red shoe", "usb charger"), Request("usb charger", "red shoe")])
    assert not np.allclose(forth, back)


def test_the_model_may_be_given_as_bytes(folder: Path) -> None:
    model = folder / ONNX
    from_bytes = Predictor.open(tiny_spec("classification"), tiny_tokenizer_json(), ModelBytes(model.read_bytes()))
    assert from_bytes.answer(tiny_requests()) == Predictor.from_folder(folder).answer(tiny_requests())


def test_an_empty_text_is_refused_by_position_and_id(folder: Path) -> None:
    requests = [*tiny_requests(), Request("  \t", id="sku-9")]
    with pytest.raises(DataError, match=r"request 5 \(id 'sku-9'\) has an empty text"):
        Predictor.from_folder(folder).answer(requests, batch_size=2)


def test_a_pair_without_its_second_text_is_refused(pairs: Path) -> None:
    with pytest.raises(DataError, match=r"request 1 .*text_pair"):
        Predictor.from_folder(pairs).answer([Request("red shoe")])


def test_half_a_character_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="lone surrogate"):
        Predictor.from_folder(folder).answer([Request("red \ud83d shoe")])


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / ONNX).unlink()
    with pytest.raises(DataError, match=r"model\.onnx"):
        Predictor.from_folder(folder)


def test_a_broken_model_is_refused(folder: Path) -> None:
    (folder / ONNX).write_bytes(b"not a model")
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        Predictor.from_folder(folder)


def test_labels_must_be_as_many_as_logits(folder: Path) -> None:
    tiny_onnx(folder / ONNX, 4)
    with pytest.raises(IntegrityError, match=r"\[1, 4\].*\[1, 3\]"):
        Predictor.from_folder(folder).logits([Request("red")])


def test_inputs_must_be_those_of_the_spec(folder: Path) -> None:
    tiny_onnx(folder / ONNX, 3, pairs=True)
    with pytest.raises(IntegrityError, match="token_type_ids"):
        Predictor.from_folder(folder)


def test_an_unreadable_spec_is_refused(folder: Path) -> None:
    write_json(folder / SPEC, {"task": "classification"})
    with pytest.raises(IntegrityError, match=r"model\.json"):
        Predictor.from_folder(folder)


def test_not_a_number_is_refused(folder: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(folder / ONNX))
    bias = next(item for item in model.graph.initializer if item.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([0, np.nan, 0], np.float32), "bias"))
    onnx.save(model, str(folder / ONNX))
    with pytest.raises(IntegrityError, match="not a finite number"):
        Predictor.from_folder(folder).answer([Request("red")])


def test_answering_loads_no_training_library(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from compress.runtime.predictor import Predictor, Request\n"
        "import compress.runtime.bundle, compress.runtime.requests\n"
        "print(Predictor.from_folder(Path(sys.argv[1])).answer([Request('red shoe')])[0].label)\n"
        "heavy = ('torch', 'transformers', 'datasets', 'sklearn', 'onnx')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    label, loaded = done.stdout.splitlines()
    assert label in {"shoes", "power", "kitchen"}
    assert loaded == "[]"

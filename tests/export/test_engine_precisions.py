"""An engine of every precision from every family of students, for three generations of GPUs; none is run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from compress.artifacts import ONNX
from compress.errors import RecipeError
from compress.export.engines import build_engines
from compress.export.parity import agreement
from compress.export.plain import NO_BF16, PlainSession
from compress.export.tensorrt import NOT_RUN
from compress.export.tensorrt_build import NOT_TIMED
from compress.quantize.calibration import feeds
from compress.quantize.typed import typed_onnx
from compress.recipe import EnginePrecision, TensorRTExport
from compress.runtime.predictor import Predictor, Request
from tests.tiny import WORDS
from tests.tiny_students import SECTIONS, exported_student

pytestmark = pytest.mark.usefixtures("tensorrt_rtx")

PRECISIONS: tuple[EnginePrecision, ...] = get_args(EnginePrecision)
ALL, WITH_FP8 = ["sm80", "sm89", "sm120"], ["sm89", "sm120"]
BITS = {"sm80": 2, "sm89": 8, "sm120": 16}
REQUESTS = [Request(f"{first} {second}", f"{second} {first}") for first in WORDS for second in WORDS[:5]]
WEIGHTS = {
    "fp32": {"Float"},
    "fp16": {"Half"},
    "bf16": {"BFloat16"},
    "int8": {"Int8", "Float"},
    "int8-fp16": {"Int8", "Half"},
    "fp8": {"FP8", "Float"},
    "fp8-fp16": {"FP8", "Half"},
    "int4": {"Int4", "Half"},
}
"""What the builder tells that the engine's weights are stored in."""
ABSENT = {"fp32": {"Half", "Int8"}, "fp16": {"Int8", "BFloat16"}, "int4": {"Int8", "FP8"}, "fp8": {"Int8", "Half"}}
LEAST_SAME = {"fp32": 1e-6, "fp16": 0.01, "int8": 0.1, "int8-fp16": 0.1, "fp8": 0.35, "fp8-fp16": 0.35, "int4": 0.35}
"""Largest difference of a logit from float, as a share of the largest logit: 7, 3 and 3 bits of a random model."""


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An exported student of a family, made once."""
    return cache(lambda family: exported_student(tmp_path_factory.mktemp(family), family))


@pytest.fixture(params=SECTIONS)
def student(request: pytest.FixtureRequest, students: Callable[[str], Path]) -> Path:
    """An exported student of each family."""
    return students(request.param)


def engines(student: Path, out: Path, **section: Any) -> dict[str, Any]:
    """One engine, with what its ONNX says of REQUESTS in onnxruntime."""
    predictor = Predictor.from_folder(student)
    said = predictor.logits(REQUESTS)

    def measure(session: PlainSession) -> dict[str, Any]:
        parity = agreement(said, session.logits(feeds(predictor, REQUESTS)))
        return parity | {"share": parity["max_logit_difference"] / float(np.abs(said).max())}

    (out / "work").mkdir(parents=True)
    convert = partial(typed_onnx, feeds=lambda: feeds(predictor, REQUESTS))
    (found,) = build_engines(
        student / ONNX,
        out,
        [TensorRTExport.model_validate({"to": "tensorrt-rtx", "max_batch": 16, **section})],
        out / "work",
        max_length=64,
        convert=convert,
        measure=measure,
    ).values()
    return dict(found)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_family_is_built_in_every_precision(student: Path, tmp_path: Path, precision: EnginePrecision) -> None:
    gpus = WITH_FP8 if "fp8" in precision else ALL
    found = engines(student, tmp_path, precision=precision, gpus=gpus)
    engine = (tmp_path / found["file"]).read_bytes()
    assert (engine[:4], len(engine)) == (b"vtrt", found["size_bytes"])
    assert engine[32] == sum(BITS[gpu] for gpu in gpus)
    assert found["weights"].keys() >= WEIGHTS[precision]
    assert not found["weights"].keys() & ABSENT.get(precision, set())
    shapes = {"min": [1, 1], "opt": [8, 32], "max": [16, 64]}
    assert found["inputs"] == dict.fromkeys(Predictor.from_folder(student).spec.inputs, shapes)
    assert (found["profile"], found["max_batch"], found["max_length"]) == ("dynamic", 16, 64)
    assert found["outputs"]["logits"].startswith("float [-1, ")
    assert found["quality"] == found["latency"] == NOT_RUN
    assert found["timing_cache"] == NOT_TIMED
    if precision == "bf16":
        assert found["source"] == NO_BF16
    else:
        assert found["source"]["share"] < LEAST_SAME[precision]


@pytest.mark.parametrize("precision", ["fp8", "fp8-fp16"])
def test_fp8_is_refused_for_gpus_without_it_before_any_work(precision: str) -> None:
    with pytest.raises(ValueError, match=r"fp8.* is not for sm80, only for sm89, sm120, sm121: take fp16"):
        TensorRTExport.model_validate({"to": "tensorrt-rtx", "precision": precision, "gpus": ["sm89", "sm80"]})


def test_each_gpu_alone_gets_an_engine_of_its_own(students: Callable[[str], Path], tmp_path: Path) -> None:
    for gpu in ALL:
        found = engines(students("static"), tmp_path / gpu, precision="int8-fp16", gpus=[gpu])
        assert (tmp_path / gpu / found["file"]).read_bytes()[32] == BITS[gpu]


def test_a_length_beyond_the_positions_is_refused_with_what_fits(
    students: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.export.tensorrt.build", None)  # so that a build would fail
    with pytest.raises(RecipeError, match=r"export.max_length: .*model.onnx takes 128 tokens at the most, not 129"):
        engines(students("transformer"), tmp_path / "out", precision="fp16", gpus=["sm89"], max_length=129)


def test_two_towers_are_asked_for_their_positions_too(students: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"takes \d+ tokens at the most, not 1000"):
        engines(students("two-tower"), tmp_path / "out", precision="fp16", gpus=["sm89"], max_length=1000)

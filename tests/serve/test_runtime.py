"""Which of a bundle's models a server runs, on how many threads, and what it keeps of texts that come again."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from compress.artifacts import ONNX, PORTABLE, read_spec, write_spec
from compress.bundle.write import write_bundle
from compress.commands.serve import serve as command
from compress.quantize.openvino import write_float
from compress.runtime.bundle import open_bundle
from compress.runtime.predictor import Request
from compress.runtime.text_cache import LONGEST
from compress.serve.settings import Settings
from compress.serve.text_counts import TextCounts
from tests.serve.servers import Server, serving, tiny_bundle
from tests.tiny import tiny_deployable, tiny_requests

PAIR = {"text": "usb charger", "text_pair": "charger 65 w"}
OTHER_THRESHOLD = 0.1
"""By which the models are told apart: PAIR is a match for that of OpenVINO alone."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a model for onnxruntime and one for OpenVINO."""
    folder = tmp_path_factory.mktemp("two") / "shipped"
    for each in (folder, folder / PORTABLE):
        tiny_deployable(each, "pairs")
    write_float(folder / ONNX, folder)
    (folder / ONNX).unlink()
    write_spec(folder, read_spec(folder).model_copy(update={"runtime": "openvino", "threshold": OTHER_THRESHOLD}))
    golden = tiny_requests("pairs")
    return write_bundle(folder, folder.with_name("two.kdc"), name="two", golden=golden, metrics={}, provenance={})


@pytest.mark.parametrize("asked", ["auto", "onnxruntime", "openvino"])
def test_the_model_that_was_asked_for_answers_and_is_named(bundle: Path, asked: str, tmp_path: Path) -> None:
    named = "openvino" if asked == "auto" else asked
    wanted = open_bundle(bundle).predictor(runtime=named).answer([Request(**PAIR)])[0]
    served = Path(shutil.copy(bundle, tmp_path))
    with serving(served, "--runtime", asked) as server:
        answer = server.post("/v1/predict", PAIR).json()
        assert answer == vars(wanted)
        assert answer["label"] == {"openvino": "1", "onnxruntime": "0"}[named]
        told = server.get("/ready").json()
        assert (told["runtime"], told["threads"]) == (named, 1)
        digest = told["bundle"]["digest"][:16]
        assert server.metric(f'kdc_bundle_workers{{digest="{digest}",runtime="{named}",threads="1"}}') == 1


def test_a_worker_computes_with_as_many_threads_as_it_was_told(tmp_path: Path) -> None:
    counted = []
    for threads in (1, 4):
        with serving(tiny_bundle(tmp_path / f"{threads}.kdc"), "--threads", threads) as server:
            server.post("/v1/predict", {"requests": [{"text": "shoe"}] * 32})
            assert server.get("/ready").json()["threads"] == threads
            [worker] = server.workers()
            counted.append(len(list(Path(f"/proc/{worker}/task").iterdir())))
    assert counted[1] - counted[0] == 3 + 3  # of the runtime, of the tokenizer


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = tiny_bundle(tmp_path_factory.mktemp("keeping") / "keeping.kdc")
    with serving(bundle, "--cached-texts", 2) as server:
        yield server


def looked_up(server: Server) -> list[float]:
    return [server.metric(f'kdc_cached_texts_total{{outcome="{outcome}"}}') for outcome in ("hit", "miss")]


def test_texts_that_come_again_are_counted_and_the_oldest_is_dropped(keeping: Server) -> None:
    assert looked_up(keeping) == [0, 0]  # golden requests do not count
    answers = {}
    for text in ("one", "two", "two", "three", "one", "x" * (LONGEST + 1)):
        answer = keeping.post("/v1/predict", {"text": text}).json()
        assert answers.setdefault(text, answer) == answer
    assert looked_up(keeping) == [1, 4]  # `one` made room for `three`; what is too long is not looked up


def test_nothing_is_kept_where_it_is_switched_off(tmp_path: Path) -> None:
    with serving(tiny_bundle(tmp_path / "off.kdc"), "--cached-texts", 0) as server:
        for _ in range(2):
            server.post("/v1/predict", {"text": "one"})
        assert looked_up(server) == [0, 0]


def test_counts_are_those_since_the_last_look(tmp_path: Path) -> None:
    opened = open_bundle(tiny_bundle(tmp_path / "counted.kdc"))
    counts, first, second = TextCounts(), opened.predictor(cached_texts=8), opened.predictor(cached_texts=8)
    first.answer([Request("a"), Request("a"), Request("b")])
    assert counts.since(first) == (1, 2)
    first.answer([Request("a")])
    second.answer([Request("a")])
    assert (counts.since(first), counts.since(second)) == ((1, 0), (0, 1))
    assert counts.since(opened.predictor()) == (0, 0)


def test_the_command_and_the_settings_have_the_same_defaults() -> None:
    options = {name: each.default for name, each in inspect.signature(command).parameters.items()}
    settings = Settings()
    assert options.pop("max_wait_ms") == 1000 * settings.max_wait
    shared = {name: value for name, value in options.items() if hasattr(settings, name)}
    assert shared == {name: getattr(settings, name) for name in shared}
    assert {"runtime", "cached_texts", "threads", "queue"} <= shared.keys()

"""OpenVINO answers as onnxruntime does, on as many threads as asked, and tells nobody; without it kdc says so."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from compress import extras
from compress.artifacts import IR, ONNX, SPEC, read_spec, write_spec
from compress.errors import DataError, EnvironmentProblem, IntegrityError
from compress.quantize.openvino import write_float
from compress.runtime import openvino_engine
from compress.runtime.engine import ModelBytes, open_engine, why_not_here
from compress.runtime.predictor import Predictor, Request
from tests.tiny import tiny_deployable, tiny_requests, tiny_spec

SPY = """
import sys, os
seen = []
def hook(event, args):
    if event.startswith(("socket.", "urllib.", "http.")):
        seen.append((event, str(args[:2])))
sys.addaudithook(hook)
from compress.extras import require
for name in ("openvino", "nncf"):
    require(name, extra=name, why="a test")
from nncf.telemetry import telemetry
from openvino.tools.ovc import telemetry as other
telemetry.start_session("x"); telemetry.send_event("x", "y", "z"); other.send_event("a", "b", "c")
assert sys.modules["openvino_telemetry"] is None
assert not seen, seen
assert os.listdir(os.environ["HOME"]) == [], os.listdir(os.environ["HOME"])
"""

ANSWER = """
import sys
from pathlib import Path
from compress.runtime.predictor import Predictor, Request
print(Predictor.from_folder(Path(sys.argv[1])).logits([Request("red shoe", "shoe red")]).shape)
"""
SESSION = ".ses"
"""What onnxruntime's reporter writes into the temporary folder when it starts."""


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """The same model for onnxruntime and for OpenVINO."""
    return tiny_deployable(tmp_path / "onnx", "pairs"), for_openvino(tmp_path / "openvino", "pairs")


def for_openvino(folder: Path, task: str) -> Path:
    tiny_deployable(folder, task)
    write_float(folder / ONNX, folder)
    (folder / ONNX).unlink()
    write_spec(folder, read_spec(folder).model_copy(update={"runtime": "openvino"}))
    return folder


def test_both_runtimes_give_the_same_logits(both: tuple[Path, Path]) -> None:
    asked = tiny_requests("pairs")
    first, second = (Predictor.from_folder(folder) for folder in both)
    assert (first.runtime, second.runtime) == ("onnxruntime", "openvino")
    np.testing.assert_allclose(second.logits(asked), first.logits(asked), atol=1e-5)
    assert [answer.label for answer in second.answer(asked)] == [answer.label for answer in first.answer(asked)]


def test_an_onnx_model_can_be_run_by_openvino(both: tuple[Path, Path]) -> None:
    asked = tiny_requests("pairs")
    other = Predictor.from_folder(both[0], runtime="openvino")
    assert other.runtime == "openvino"
    np.testing.assert_allclose(other.logits(asked), Predictor.from_folder(both[0]).logits(asked), atol=1e-5)


def test_a_model_in_memory_is_the_one_on_disk(both: tuple[Path, Path]) -> None:
    graph, weights = (both[1] / name for name in read_spec(both[1]).model_files)
    feed = Predictor.from_folder(both[1]).encode(tiny_requests("pairs"))
    held = open_engine(ModelBytes(graph.read_bytes(), weights.read_bytes()), runtime="openvino")
    np.testing.assert_array_equal(held.run(feed)[0], open_engine(graph, runtime="openvino").run(feed)[0])


def test_one_thread_is_one_thread(both: tuple[Path, Path]) -> None:
    engine = open_engine(both[1] / IR, runtime="openvino", threads=1)
    assert engine.threads == 1
    assert isinstance(engine, openvino_engine.OpenVinoEngine)
    told = {name: engine._compiled.get_property(name) for name in ("NUM_STREAMS", "ENABLE_CPU_PINNING")}
    assert told == {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}


def test_many_threads_may_ask_one_predictor(both: tuple[Path, Path]) -> None:
    predictor = Predictor.from_folder(both[1])
    lists = [[Request(f"red shoe {'usb ' * number}", "kettle")] for number in range(1, 9)]
    alone = [predictor.logits(requests) for requests in lists]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(predictor.logits, lists * 20))
    for position, found in enumerate(together):
        np.testing.assert_array_equal(found, alone[position % len(lists)])


def test_the_arithmetic_is_that_of_the_spec_and_not_what_the_processor_likes(both: tuple[Path, Path]) -> None:
    asked = tiny_requests("pairs")
    if not openvino_engine.has_bfloat16():
        pytest.skip("not run: this processor has no bfloat16; run it on one with AVX-512 BF16 or AMX")
    exact = Predictor.from_folder(both[1]).logits(asked)
    write_spec(both[1], read_spec(both[1]).model_copy(update={"arithmetic": "bfloat16"}))
    rough = Predictor.from_folder(both[1]).logits(asked)
    assert 0 < np.abs(rough - exact).max() < 0.1


def test_without_bfloat16_a_model_that_wants_it_is_refused(
    both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_engine, "has_bfloat16", lambda: False)
    write_spec(both[1], read_spec(both[1]).model_copy(update={"arithmetic": "bfloat16"}))
    with pytest.raises(EnvironmentProblem, match="computes in bfloat16, but this processor has no bfloat16"):
        Predictor.from_folder(both[1])


def test_without_the_package_there_is_a_hint_and_no_other_runtime(
    both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (extras, openvino_engine):
        monkeypatch.setattr(module, "available", lambda package: package != "openvino")
    with pytest.raises(EnvironmentProblem, match=r"'openvino', which is not installed: pip install 'kdc\[openvino\]'"):
        Predictor.from_folder(both[1])
    assert why_not_here(read_spec(both[1])) == "openvino is not installed: pip install 'kdc[openvino]'"
    assert why_not_here(read_spec(both[0])) is None
    assert Predictor.from_folder(both[0]).runtime == "onnxruntime"


def test_models_for_onnxruntime_never_import_openvino(both: tuple[Path, Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from compress.runtime.predictor import Predictor\n"
        f"Predictor.from_folder(Path({str(both[0])!r})); assert 'openvino' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_damaged_model_is_refused_by_name(both: tuple[Path, Path]) -> None:
    (both[1] / IR).write_text("<net")
    with pytest.raises(IntegrityError, match=r"model\.xml cannot be loaded by OpenVINO"):
        Predictor.from_folder(both[1])


def test_a_folder_without_its_weights_is_no_model(both: tuple[Path, Path]) -> None:
    (both[1] / "model.bin").unlink()
    with pytest.raises(DataError, match=r"has no model\.bin"):
        Predictor.from_folder(both[1])


def test_specs_for_onnxruntime_are_written_as_before(tmp_path: Path) -> None:
    write_spec(tmp_path, tiny_spec("classification"))
    text = (tmp_path / SPEC).read_text()
    assert "runtime" not in text
    assert "arithmetic" not in text


def test_nothing_is_reported_to_anybody(tmp_path: Path) -> None:
    """In a fresh process, without the variables that tell openvino of a test: no socket, no file in the home."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")}
    subprocess.run([sys.executable, "-c", SPY], check=True, timeout=300, env=kept | {"HOME": str(tmp_path)})


def test_onnxruntime_reports_nothing(tmp_path: Path, both: tuple[Path, Path]) -> None:
    """Its reporter does not even start: from 1.29 on it would, and leave a session file."""
    found = {}
    for name, unset in (("ours", {}), ("theirs", {"ORT_DISABLE_TELEMETRY": "0"})):
        temporary = tmp_path / name
        temporary.mkdir()
        inherited = {key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "CI")}
        environment = inherited | {"TMPDIR": str(temporary)} | unset
        command = [sys.executable, "-c", ANSWER, str(both[0])]
        assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "(1, 2)\n"
        found[name] = (temporary / SESSION).exists()
    assert not found["ours"]
    assert found["theirs"], "onnxruntime leaves another trace now: look for it, or this test proves nothing"

"""Other people's ways from a Hugging Face folder to a small model that a CPU runs; one function for each.

Each does what its documentation shows, with its defaults. All that calibrate get the same 300 training rows, one at a
time and without padding: padded rows would put the mask's -3.4e38 into the ranges and ruin what is made of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peer_environments import environment
from compress.batch import Ints
from compress.errors import EnvironmentProblem
from compress.extras import require

MODEL = "model.onnx"
IR = "model.xml"
TIMEOUT_SECONDS = 600
"""A peer's program that takes longer is stopped."""
OPTIMUM = (sys.executable, "-m", "optimum.commands.optimum_cli")
QUIET = {"OLIVE_DISABLE_TELEMETRY": "1", "NNCF_CI": "1"}
"""Environment in which Olive and NNCF do not report their usage."""


@dataclass(frozen=True)
class Source:
    """What a peer starts from: a Hugging Face folder, calibration rows (a JSON list), a folder for what is shared."""

    hub: Path
    calibration: Path
    work: Path

    @cached_property
    def exported(self) -> Path:
        """Folder of the float ONNX model as `optimum-cli export onnx` writes it."""
        folder = self.work / "optimum-float"
        run([*OPTIMUM, "export", "onnx", "--model", str(self.hub), "--task", "text-classification", str(folder)])
        return folder

    @cached_property
    def calibrated_by_nncf(self) -> Path:
        """An int8 model as OpenVINO's page on post-training quantization shows it for a transformer."""
        openvino, nncf = (require(name, extra="nncf", why="this peer") for name in ("openvino", "nncf"))

        rows = self.rows()
        model = openvino.Core().read_model(self.exported / MODEL)
        made = nncf.quantize(model, nncf.Dataset(rows), subset_size=len(rows), model_type=nncf.ModelType.TRANSFORMER)
        path = self.work / "nncf" / IR
        openvino.save_model(made, path)
        return path

    def rows(self) -> list[dict[str, Ints]]:
        """The calibration rows as a model's inputs, int64 [1, T] each."""
        given = json.loads(self.calibration.read_text(encoding="utf-8"))
        return [{name: np.asarray([ids], np.int64) for name, ids in row.items()} for row in given]


@dataclass(frozen=True)
class Peer:
    """One way.

    packages: distributions whose versions are told, of the project's environment or of one of their own.
    make: writes into an empty folder; returns the model file, .onnx or .xml. own: name of the environment that it
    runs in, where that is not the project's. precision: OpenVINO's hint; None leaves the choice to OpenVINO.
    """

    packages: tuple[str, ...]
    make: Callable[[Source, Path], Path]
    own: str | None = None
    precision: str | None = "f32"


def run(command: Sequence[str], folder: Path | None = None) -> None:
    """Run a peer's program, in a folder where it is given.

    Raises:
        EnvironmentProblem: it failed or took over ten minutes; the message ends with its last line.
    """
    name = " ".join(Path(part).name if "/" in part else part for part in command[:4])
    try:
        done = subprocess.run(
            list(command),
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            cwd=folder,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(f"{name} took more than {TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise EnvironmentProblem(f"{name} ended with {done.returncode}: {lines[-1] if lines else 'no message'}")


def _optimum(*options: str) -> Callable[[Source, Path], Path]:
    def make(source: Source, out: Path) -> Path:
        given = ["--onnx_model", str(source.exported), "--avx512_vnni", *options, "-o", str(out)]
        run([*OPTIMUM, "onnxruntime", "quantize", *given])
        return out / "model_quantized.onnx"

    return make


def _ort_qdq(source: Source, out: Path) -> Path:
    from onnxruntime.quantization import QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from compress.quantize.calibration import Reader

    prepared = source.work / "ort-prepared.onnx"
    # Its symbolic shape inference does not get through the mask that optimum exports; all else is the page's advice.
    quant_pre_process(source.exported / MODEL, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared, out / MODEL, Reader(source.rows()), quant_format=QuantFormat.QDQ, op_types_to_quantize=["MatMul"]
    )
    return out / MODEL


def _nncf(source: Source, out: Path) -> Path:
    return source.calibrated_by_nncf


def _nncf_weights(source: Source, out: Path) -> Path:
    openvino, nncf = (require(name, extra="nncf", why="this peer") for name in ("openvino", "nncf"))

    model = openvino.Core().read_model(source.exported / MODEL)
    openvino.save_model(nncf.compress_weights(model), out / IR)
    return out / IR


def _olive(kind: str, **options: Any) -> Callable[[Source, Path], Path]:
    """One pass of Olive over the exported model, as `olive run` takes it."""

    def make(source: Source, out: Path) -> Path:
        cpu = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
        rows = {
            "name": "calibration",
            "type": "DataContainer",
            "user_script": str(Path(__file__).with_name("peer_olive_rows.py")),
            "load_dataset_config": {"type": "calibration_rows", "data_dir": str(source.calibration)},
            "dataloader_config": {"batch_size": 1},
        }
        config = {
            "input_model": {"type": "OnnxModel", "model_path": str(source.exported / MODEL)},
            "systems": {"here": {"type": "LocalSystem", "accelerators": [cpu]}},
            "data_configs": [rows],
            "passes": {"int8": {"type": kind, **options}},
            "host": "here",
            "target": "here",
            "no_artifacts": True,
            "cache_dir": str(out.with_name(f"{out.name}-cache")),
            "output_dir": str(out),
        }
        path = out.with_name(f"{out.name}.json")
        path.write_text(json.dumps(config), encoding="utf-8")
        run([str(environment("olive")), "-m", "olive", "run", "--config", str(path)])
        return _only_model(out)

    return make


def _modelopt(source: Source, out: Path) -> Path:
    script = Path(__file__).with_name("peer_modelopt_int8.py")
    given = [str(source.exported / MODEL), str(source.calibration), str(out / MODEL)]
    run([str(environment("modelopt")), str(script), *given], out)
    return out / MODEL


def _only_model(folder: Path) -> Path:
    found = sorted(folder.rglob("*.onnx"))
    if len(found) != 1:
        raise EnvironmentProblem(f"one .onnx file was expected of the peer, and it wrote {len(found)}")
    return found[0]


PEERS: dict[str, Peer] = {
    "optimum": Peer(("optimum-onnx", "onnxruntime"), _optimum()),
    "optimum-per-channel": Peer(("optimum-onnx", "onnxruntime"), _optimum("--per_channel")),
    "ort-qdq": Peer(("onnxruntime",), _ort_qdq),
    "openvino-nncf": Peer(("nncf", "openvino"), _nncf),
    "openvino-nncf-auto": Peer(("nncf", "openvino"), _nncf, precision=None),
    "nncf-weights": Peer(("nncf", "openvino"), _nncf_weights),
    "olive-dynamic": Peer(("olive-ai",), _olive("OnnxDynamicQuantization"), own="olive"),
    "olive-static": Peer(("olive-ai",), _olive("OnnxStaticQuantization", data_config="calibration"), own="olive"),
    "modelopt": Peer(("nvidia-modelopt",), _modelopt, own="modelopt"),
}

"""Virtual environments for peers whose requirements do not fit the project's, below `benchmarks/.peers`.

Each is made when it is first asked for. It sees the project's packages behind its own, so that torch is not installed
twice; what it has itself is pinned here and installed without dependencies.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from compress.errors import EnvironmentProblem

PLACE = Path(__file__).with_name(".peers")
PINS: dict[str, tuple[str, ...]] = {
    "olive": (
        "olive-ai==0.13.0",
        "alembic==1.20.1",
        "colorlog==6.12.0",
        "greenlet==3.5.6",
        "hf-xet==1.8.0",
        "lightning-utilities==0.15.3",
        "Mako==1.4.3",
        "opentelemetry-api==1.45.2",
        "opentelemetry-sdk==1.45.2",
        "opentelemetry-semantic-conventions==0.66b2",
        "optuna==5.0.0",
        "prompt_toolkit==3.0.53",
        "questionary==2.1.1",
        "SQLAlchemy==2.1.9",
        "torchmetrics==1.9.0",
        "wcwidth==0.9.4",
    ),
    # It asks for onnx 1.21 and onnxruntime-gpu 1.24 with gigabytes of CUDA; its int8 works with the project's.
    "modelopt": (
        "nvidia-modelopt==0.47.0",
        "antlr4-python3-runtime==4.9.3",
        "colorama==0.4.6",
        "cppimport==26.4.17",
        "lief==1.0.0",
        "Mako==1.4.3",
        "ninja==1.13.2",
        "nvidia-ml-py==13.615.71",
        "omegaconf==2.4.0",
        "onnx_graphsurgeon==0.6.1",
        "onnxconverter-common==1.16.0",
        "onnxslim==0.1.98",
        "polygraphy==0.53.6",
        "PuLP==3.3.2",
        "pybind11==3.1.0",
    ),
    # It asks for transformers 5, which the project's exporter does not work with yet.
    "model2vec": (
        "model2vec==0.10.0",
        "skeletoken==0.6.1",
        "transformers==5.3.0",
        "huggingface_hub==1.33.0",
    ),
}
FINISHED = "pins.json"


def environment(name: str, place: Path = PLACE) -> Path:
    """The Python of a peer's environment, made anew where its pins are not those it was made with.

    Raises:
        EnvironmentProblem: it could not be made.
    """
    folder = place / name
    python = folder / "bin" / "python"
    wanted = [sys.executable, *PINS[name]]
    finished = folder / FINISHED
    if finished.is_file() and json.loads(finished.read_text(encoding="utf-8")) == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run(name, [sys.executable, "-m", "venv", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    _run(name, [*pip, *PINS[name]])
    # Only now: pip would take the project's packages for the environment's own, and replace them.
    (_packages(folder) / "project.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    finished.write_text(json.dumps(wanted), encoding="utf-8")
    return python


def pinned(name: str, distribution: str) -> str | None:
    """The version of a distribution that an environment is made with."""
    found = (pin.partition("==") for pin in PINS[name])
    return next((version for what, _, version in found if what == distribution), None)


def _packages(folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise EnvironmentProblem(f"{name} could not be installed: {lines[-1] if lines else 'no message'}")

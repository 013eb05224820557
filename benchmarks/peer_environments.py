"""Virtual environments for peers, below `benchmarks/.peers`; the project's own has none of them, and is never changed.

Each is made when it is first asked for. It sees the project's packages behind its own, so that torch is not installed
twice; what it has itself is pinned here and installed without dependencies. A benchmark that is to run peers and kdc in
one process starts itself again in the peer's environment by `enter`; Olive, ModelOpt and model2vec, whose requirements
do not fit kdc, are programs of their own there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from benchmarks.common import ROOT
from compress.errors import EnvironmentProblem

PLACE = Path(__file__).with_name(".peers")
PINS: dict[str, tuple[str, ...]] = {
    # It opens a log of tensorboard's, with a writer of torch's.
    "textbrewer": ("textbrewer==0.2.1.post1", "tensorboard==2.21.0", "absl-py==2.5.1"),
    # It asks for torchvision too, which must be of torch's own build and no text model uses; through it for pillow.
    "torchdistill": ("torchdistill==1.1.5", "pillow==13.0.0"),
    "sentence-transformers": ("sentence-transformers==5.7.0",),
    "liger-kernel": ("liger-kernel==0.8.5",),
    # BentoML asks for a certifi that is newer than any; nothing is fetched over HTTPS here, the project's is enough.
    "serving": (
        "fastapi==0.165.0",
        "granian==2.8.7",
        "litserve==0.2.19",
        "bentoml==1.4.40",
        "a2wsgi==1.10.10",
        "aiohttp-asgi-connector==1.2.0",
        "aiosqlite==0.22.1",
        "asgiref==3.13.0",
        "cattrs==23.1.2",
        "click-option-group==0.5.9",
        "httpx-ws==0.9.0",
        "kantoku==0.18.3",
        "nvidia-ml-py==13.615.71",
        "opentelemetry-api==1.45.1",
        "opentelemetry-instrumentation==0.66b1",
        "opentelemetry-instrumentation-aiohttp-client==0.66b1",
        "opentelemetry-instrumentation-asgi==0.66b1",
        "opentelemetry-sdk==1.45.1",
        "opentelemetry-semantic-conventions==0.66b1",
        "opentelemetry-util-http==0.66b1",
        "pip-requirements-parser==32.0.1",
        "python-dotenv==1.2.4",
        "python-json-logger==4.2.0",
        "python-multipart==0.0.34",
        "pyzmq==27.3.0",
        "rich-toolkit==0.20.6",
        "schema==0.7.8",
        "simple-di==0.1.5",
        "tomli_w==1.2.0",
        "tornado==6.6.1",
        "watchfiles==1.3.0",
        "websockets==17.4",
        "wrapt==2.5.2",
        "wsproto==1.3.2",
    ),
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


def enter(name: str, module: str, arguments: Sequence[str] | None = None, place: Path = PLACE) -> str | None:
    """Go on in a peer's environment: there None, elsewhere this process becomes `python -m MODULE` of it.

    arguments: those of the command line when absent. Returns why the environment could not be made, where it could not.
    """
    if Path(sys.prefix).resolve() == (place / name).resolve():
        return None
    try:
        python = environment(name, place)
    except EnvironmentProblem as error:
        return str(error)
    return _become([str(python), "-m", module, *(sys.argv[1:] if arguments is None else arguments)])


def pinned(name: str, distribution: str) -> str | None:
    """The version of a distribution that an environment is made with."""
    found = (pin.partition("==") for pin in PINS[name])
    return next((version for what, _, version in found if what == distribution), None)


def _become(command: list[str]) -> NoReturn:
    """The same process with another program, so that signals and exit code are its own."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    sys.stdout.flush()
    os.execve(command[0], command, os.environ | {"PYTHONPATH": os.pathsep.join(paths)})  # noqa: S606  # our own Python


def _packages(folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise EnvironmentProblem(f"{name} could not be installed: {lines[-1] if lines else 'no message'}")

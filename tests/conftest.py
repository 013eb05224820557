"""Shared fixtures."""

from __future__ import annotations

import os
import platform
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from benchmarks.browser import chromium

if not torch.cuda.is_available():
    # Triton's kernels then run under its interpreter: it must know before anything imports it, as torch.compile does.
    os.environ["TRITON_INTERPRET"] = "1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts `make test &` so; tests of Ctrl-C, and what they start, need the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("kdc", deadline=None)  # how long an example takes says something of the machine alone
settings.load_profile("kdc")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, where this machine has one."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("not run: the real data sets are not on this machine; put them into shared/data beside the project")
    return folder


@pytest.fixture(scope="session")
def browser() -> str:
    """The program of a Chromium."""
    found = chromium()
    if found is None:
        pytest.skip("not run: there is no Chromium on the path; install one (Debian: apt install chromium)")
    return found


@pytest.fixture(scope="session")
def tensorrt_rtx() -> None:
    """Engines can be built here; where `make test` installs the builder, a missing one is no reason to skip."""
    here = (platform.system(), platform.machine())
    if here != ("Linux", "x86_64"):
        pytest.skip(f"not run: tensorrt-rtx is not for {' on '.join(here)}; run it on Linux on x86_64")


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and trained teachers for each task; read only, with runs in runs/."""
    from tests.tiny_project import make_project

    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(tiny_project: Path, tmp_path: Path) -> Path:
    """A project of one's own to change or to damage, without runs."""
    from tests.tiny_project import copy_project

    return copy_project(tiny_project, tmp_path / "project")

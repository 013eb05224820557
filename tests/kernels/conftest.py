"""The kernels are tested on the device that there is; without one, Triton's run under its interpreter."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before they are defined


@pytest.fixture(autouse=True)
def on_the_device() -> Iterator[None]:
    """Tensors that a test makes are there."""
    if not torch.cuda.is_available():
        yield
        return
    torch.set_default_device("cuda")
    yield
    torch.set_default_device("cpu")

"""The kernels are tested on the device that there is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def on_the_device() -> Iterator[None]:
    """Tensors that a test makes are there."""
    if not torch.cuda.is_available():
        yield
        return
    torch.set_default_device("cuda")
    yield
    torch.set_default_device("cpu")

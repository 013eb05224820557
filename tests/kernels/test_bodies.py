"""The body that was asked for runs, or nothing does."""

from __future__ import annotations

import pytest
import torch

from compress.kernels.bodies import accumulator, choose


def test_the_device_chooses_when_nobody_does() -> None:
    assert choose("auto", torch.device("cpu")) == "chunked"
    assert choose("reference", torch.device("cpu")) == "reference"


def test_an_unknown_body_is_named() -> None:
    with pytest.raises(ValueError, match="'cuda' is none of auto, triton, chunked, reference"):
        choose("cuda", torch.device("cpu"))


def test_triton_is_no_body_of_the_cpu_unless_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(RuntimeError, match="on cpu: ask for chunked"):
        choose("triton", torch.device("cpu"))


def test_triton_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install triton"):
        choose("auto", torch.device("cuda"))


def test_sums_are_kept_in_fp32_or_better() -> None:
    assert accumulator(torch.zeros(1, dtype=torch.bfloat16)) == torch.float32
    assert accumulator(torch.zeros(1), torch.zeros(1, dtype=torch.float64)) == torch.float64

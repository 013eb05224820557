"""What a served model is asked, and what is measured on it before it serves."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.errors import IntegrityError
from compress.runtime.predictor import Predictor, Request
from compress.serve.model import Ask, load_model
from compress.serve.settings import Settings
from tests.serve.servers import tiny_bundle


@pytest.mark.parametrize("together", [True, False])
def test_requests_share_a_call_where_that_is_quicker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    logits = Predictor.logits

    def slowed(self: Predictor, requests: Any, batch_size: int = 32) -> Any:
        time.sleep(0.2 if (batch_size == 1) is together else 0)
        return logits(self, requests, batch_size)

    monkeypatch.setattr(Predictor, "logits", slowed)
    path = tiny_bundle(tmp_path / "served.kdc")
    assert load_model(path, path, Settings()).together is together


def test_an_embedding_that_is_no_number_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_bundle(tmp_path / "served.kdc")
    model = load_model(path, path, Settings())
    monkeypatch.setattr(Predictor, "embed", lambda self, texts: np.full((len(texts), 4), np.nan, np.float32))
    with pytest.raises(IntegrityError, match="not finite"):
        model.ask(Ask.EMBED, [Request("shoe")])


def test_bundles_that_replace_each_other_leave_no_objects_behind(tmp_path: Path) -> None:
    """pydantic never frees a model that it made: 479 objects and 0.2 MB a bundle."""
    path = tiny_bundle(tmp_path / "served.kdc")

    def objects_after(loads: int) -> int:
        for _ in range(loads):
            load_model(path, path, Settings())
        gc.collect()
        return len(gc.get_objects())

    before = objects_after(2)
    assert objects_after(5) - before < 50

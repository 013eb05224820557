"""Torch keeps to one thread."""

from __future__ import annotations

import pytest

from tests import tiny_models

one_thread = pytest.fixture(autouse=True)(tiny_models.one_thread)

"""Tiny teachers that students are cut from; torch keeps to one thread."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.recipe import HuggingFaceTeacher
from compress.teachers.huggingface import Teacher, load_teacher
from tests.tiny_models import bert_folder, gpt2_folder, llama_folder
from tests.tiny_models import one_thread as one_thread_for_a_while

LABELS = ("a", "b", "c")
one_thread = pytest.fixture(autouse=True)(one_thread_for_a_while)


@pytest.fixture(scope="session")
def bert_teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """Four BERT layers of width 32, WordPiece."""
    return _load(bert_folder(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="session")
def gpt2_teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """Four GPT-2 layers of width 32, byte-level BPE."""
    return _load(gpt2_folder(tmp_path_factory.mktemp("gpt2")))


@pytest.fixture(scope="session")
def llama_teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """Four Llama layers of width 32, byte-level BPE."""
    return _load(llama_folder(tmp_path_factory.mktemp("llama")))


def _load(folder: Path) -> Teacher:
    section = HuggingFaceTeacher(model=str(folder), max_length=32)
    return load_teacher(section, folder, task="classification", labels=LABELS, positive=None, trained=True)

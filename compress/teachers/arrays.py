"""The teacher's outputs as files of a folder, float16, memory-mapped when they are read; nothing here imports torch.

`logits.npy` [N, C], or with the K largest alone [N, K + 1] (`teachers/largest.py`) beside their class indices in
`classes.npy` int32 [N, K]; `hidden.npy` [N, L, H], token means of the mapped layers, where a loss wants them.
Temperature is never applied here.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.artifacts import link_or_copy
from compress.batch import TeacherOutputs

LOGITS, CLASSES, HIDDEN = "logits.npy", "classes.npy", "hidden.npy"
ROWS_A_PIECE, ROWS_TOGETHER = 4096, 64


def kept_classes(top_k: int | None, classes: int) -> int | None:
    """`distill.top_k` where it keeps less than all of so many classes, else None."""
    return None if top_k is None or top_k >= classes else top_k


def shapes(
    rows: int, classes: int, layers: int, width: int, top_k: int | None
) -> dict[str, tuple[type[Any], tuple[int, ...]]]:
    """Type and shape of each file; top_k: as `kept_classes` gives it."""
    found: dict[str, tuple[type[Any], tuple[int, ...]]] = {
        LOGITS: (np.float16, (rows, classes if top_k is None else top_k + 1))
    }
    if top_k is not None:
        found[CLASSES] = (np.int32, (rows, top_k))
    if layers:
        found[HIDDEN] = (np.float16, (rows, layers, width))
    return found


def estimate_bytes(rows: int, classes: int, layers: int, width: int, top_k: int | None = None) -> int:
    """Bytes that the outputs of `rows` rows take."""
    files = shapes(rows, classes, layers, width, top_k).values()
    return sum(np.dtype(kind).itemsize * int(np.prod(shape, dtype=np.int64)) for kind, shape in files)


def allocate(path: Path, kind: type[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An empty array on disk that has its room already: a mapped file on a full disk would crash."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array


def read_outputs(folder: Path) -> TeacherOutputs:
    """Memory-map the outputs in a folder."""
    arrays = {
        name: np.load(folder / name, mmap_mode="r", allow_pickle=False) if (folder / name).is_file() else None
        for name in (CLASSES, HIDDEN)
    }
    return TeacherOutputs(
        logits=np.load(folder / LOGITS, mmap_mode="r", allow_pickle=False),
        classes=arrays[CLASSES],
        hidden=arrays[HIDDEN],
    )


def rows_of(array: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Some rows in memory, and no page more of the file that they are mapped from.

    A row that is read brings its neighbours in the file along, so that a few are read at a time.
    """
    found: npt.NDArray[Any] = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), ROWS_TOGETHER):
        few = slice(start, start + ROWS_TOGETHER)
        found[few] = array[rows[few]]
        let_go(array)
    return found


def let_go(array: npt.NDArray[Any]) -> None:
    """Keep no page of a mapped array in this process's memory; what was written to it stays."""
    if isinstance(array.base, mmap.mmap):
        with suppress(AttributeError):  # where systems cannot be told so, they do as they like
            array.base.madvise(mmap.MADV_DONTNEED)


def select_layers(source: Path, target: Path, columns: Sequence[int]) -> None:
    """Outputs with some of the hidden states of others: positions among their layers. All else is linked."""
    for name in (LOGITS, CLASSES):
        if (source / name).is_file():
            link_or_copy(source / name, target / name)
    if not columns:
        return
    states = np.load(source / HIDDEN, mmap_mode="r", allow_pickle=False)
    rows, _, width = states.shape
    chosen = allocate(target / HIDDEN, np.float16, (rows, len(columns), width))
    for start in range(0, rows, ROWS_A_PIECE):
        chosen[start : start + ROWS_A_PIECE] = states[start : start + ROWS_A_PIECE, list(columns)]
        let_go(chosen)
        let_go(states)

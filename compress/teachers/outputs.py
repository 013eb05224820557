"""What the teacher says, on disk: computed once, shard by shard, resumable after a kill, memory-mapped later.

A shard holds rows of like length, so that little is padding. When all are there they are put into two arrays
in the order of the rows: `logits.npy` float16 [N, C] and `hidden.npy` float16 [N, L, H] (token means of the
mapped layers). Temperature is never applied here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from compress.artifacts import free_bytes, publishing
from compress.batch import Encoded, Floats, Ints, TeacherOutputs
from compress.errors import DataError, EnvironmentProblem
from compress.predict import forward_batches, model_inputs
from compress.progress import bar
from compress.teachers.huggingface import Teacher

Halves = npt.NDArray[np.float16]
SHARD_ROWS = 1024
LARGEST_HALF = 65504.0
LOGITS, HIDDEN = "logits.npy", "hidden.npy"


def estimate_bytes(rows: int, classes: int, layers: int, width: int) -> int:
    """Bytes that the outputs of `rows` rows take."""
    return rows * 2 * (classes + layers * width)


def compute_outputs(
    teacher: Teacher,
    encoded: Encoded,
    *,
    layers: Sequence[int],
    work: Path,
    out: Path,
    device: torch.device,
    bf16: bool,
) -> None:
    """Ask the teacher about every row and write the arrays into `out`; finished shards in `work` are kept.

    Raises:
        DataError: an answer is not finite.
        EnvironmentProblem: the disk has no room.
    """
    rows, classes = len(encoded), len(teacher.spec.labels)
    # Once in shards and once put together; shards of an earlier run have their room already.
    needed = 2 * estimate_bytes(rows, classes, len(layers), teacher.module.width)
    needed -= sum(shard.stat().st_size for shard in work.glob("shard-*.npz"))
    if needed > free_bytes(work):
        raise EnvironmentProblem(
            f"the teacher's outputs need {needed:,} bytes, but only {free_bytes(work):,} are free at {work}; "
            "free some space or map fewer layers (student.layer_map)"
        )
    order = np.argsort(encoded.lengths, kind="stable")
    shards = [order[i : i + SHARD_ROWS] for i in range(0, rows, SHARD_ROWS)]
    teacher.module.eval().to(device)
    with bar("teacher outputs", rows, "rows") as shown:
        for number, shard in enumerate(shards):
            path = work / f"shard-{number:05d}.npz"
            if path.is_file():
                shown.resume_at(shown.done + len(shard))
                continue
            logits, hidden = _answer(teacher, encoded, shard, layers, device, bf16)
            with publishing(path) as temporary, temporary.open("wb") as stream:
                np.savez(stream, logits=logits, hidden=hidden)
            shown.advance(len(shard))
    _assemble(shards, work, out, classes, len(layers), teacher.module.width)


def _answer(
    teacher: Teacher, encoded: Encoded, shard: Ints, layers: Sequence[int], device: torch.device, bf16: bool
) -> tuple[Halves, Halves]:
    logits = np.empty((len(shard), len(teacher.spec.labels)), np.float16)
    hidden = np.empty((len(shard), len(layers), teacher.module.width), np.float16)
    start = 0
    for batch in forward_batches(encoded, shard):
        inputs = model_inputs(encoded, batch, teacher.module.input_names, device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            result = teacher.module(*inputs, hidden=layers)
        said, states = result if layers else (result, None)
        stop = start + len(batch)
        if not bool(torch.isfinite(said).all()):
            raise DataError(
                "teacher.model: the teacher answers with numbers that are not finite; set distill.precision: "
                "fp32, or give another teacher"
            )
        logits[start:stop] = _halves(said)
        if states is not None:
            hidden[start:stop] = _halves(states)
        start = stop
    return logits, hidden


def _halves(values: torch.Tensor) -> Halves:
    return values.float().clamp(-LARGEST_HALF, LARGEST_HALF).cpu().numpy().astype(np.float16)


def _array(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float16]:
    """An empty array on disk that has its room already: a mapped file on a full disk would crash."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array


def _assemble(shards: list[Ints], work: Path, out: Path, classes: int, layers: int, width: int) -> None:
    rows = sum(len(shard) for shard in shards)
    out.mkdir(parents=True, exist_ok=True)
    logits = _array(out / LOGITS, (rows, classes))
    hidden = _array(out / HIDDEN, (rows, layers, width)) if layers else None
    for number, shard in enumerate(shards):
        with np.load(work / f"shard-{number:05d}.npz", allow_pickle=False) as part:
            logits[shard] = part["logits"]
            if hidden is not None:
                hidden[shard] = part["hidden"]


def write_scores(logits: Floats, out: Path) -> None:
    """The outputs of a teacher that is a file of scores."""
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / LOGITS, _halves(torch.from_numpy(logits)), allow_pickle=False)


def read_outputs(folder: Path) -> TeacherOutputs:
    """Memory-map what `compute_outputs` or `write_scores` wrote."""
    hidden_path = folder / HIDDEN
    hidden = np.load(hidden_path, mmap_mode="r", allow_pickle=False) if hidden_path.is_file() else None
    return TeacherOutputs(logits=np.load(folder / LOGITS, mmap_mode="r", allow_pickle=False), hidden=hidden)

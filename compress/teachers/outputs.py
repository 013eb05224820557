"""Asking the teacher: every row once, shard by shard, resumable after a kill.

A shard holds rows of like length, so that little is padding. When all are there they are put, one after the other,
into the arrays of `teachers/arrays.py` in the order of the rows. Several processes (`compress/parallel.py`) share the
shards through the folder in which they stand; whoever asked, a shard has the same bytes, and so have the arrays.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from compress import parallel
from compress.artifacts import free_bytes, publishing
from compress.batch import Encoded, Floats, Ints
from compress.errors import DataError, EnvironmentProblem, IntegrityError
from compress.predict import forward_batches, model_inputs
from compress.progress import bar
from compress.teachers.arrays import CLASSES, HIDDEN, LOGITS, allocate, estimate_bytes, let_go, shapes
from compress.teachers.huggingface import Teacher
from compress.teachers.largest import largest

Arrays = dict[str, npt.NDArray[Any]]
"""File name -> its rows."""
SHARD_ROWS = 1024
LARGEST_HALF = 65504.0
UNREADABLE = (zipfile.BadZipFile, EOFError, ValueError)
"""What numpy raises for a shard with wrong bytes, without any, or of other shapes."""


def compute_outputs(
    teacher: Teacher,
    encoded: Encoded,
    *,
    layers: Sequence[int],
    work: Path,
    out: Path,
    device: torch.device,
    bf16: bool,
    top_k: int | None = None,
) -> None:
    """Ask the teacher about every row and write the arrays into `out`; finished shards in `work` are kept.

    Of several processes all call this with the same rows and the same `work`: each asks about the shards whose number
    leaves its rank when divided by the processes, and the first puts all together.

    top_k: of each row's logits keep the so many largest, fewer than all; None for all.

    Raises:
        DataError: an answer is not finite.
        EnvironmentProblem: the disk has no room, or `work` is not one folder for all processes.
        IntegrityError: a finished shard is damaged.
    """
    rows = len(encoded)
    sizes = (rows, len(teacher.spec.labels), len(layers), teacher.module.width, top_k)
    if parallel.is_first():
        _check_room(estimate_bytes(*sizes), work)
    order = np.argsort(encoded.lengths, kind="stable")
    shards = [order[i : i + SHARD_ROWS] for i in range(0, rows, SHARD_ROWS)]
    own = range(parallel.rank(), len(shards), parallel.processes())
    teacher.module.eval().to(device)
    with bar("teacher outputs", sum(len(shards[number]) for number in own), "rows") as shown:
        for number in own:
            path, shard = _shard(work, number), shards[number]
            if path.is_file():
                shown.resume_at(shown.done + len(shard))
                continue
            said = _answer(teacher, encoded, shard, layers, device, bf16, top_k)
            with publishing(path) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **said)  # type: ignore[arg-type]  # no array is named allow_pickle
            shown.advance(len(shard))
    parallel.wait()
    if parallel.is_first():
        _check_complete(work, len(shards))
        out.mkdir(parents=True, exist_ok=True)
        _assemble(shards, work, {name: allocate(out / name, *of) for name, of in shapes(*sizes).items()})


def _check_room(arrays: int, work: Path) -> None:
    # Once in shards and once put together; shards of an earlier run have their room already.
    needed = 2 * arrays - sum(shard.stat().st_size for shard in work.glob("shard-*.npz"))
    if needed > free_bytes(work):
        raise EnvironmentProblem(
            f"the teacher's outputs need {needed:,} bytes, but only {free_bytes(work):,} are free at {work}; "
            "free some space (kdc cache ls), map fewer layers (student.layer_map) or keep fewer logits (distill.top_k)"
        )


def _check_complete(work: Path, shards: int) -> None:
    missing = [number for number in range(shards) if not _shard(work, number).is_file()]
    if missing:
        ranks = sorted({number % parallel.processes() for number in missing})
        raise EnvironmentProblem(
            f"{len(missing)} of {shards} shards of the teacher's outputs are not in {work}, those of the processes "
            f"{', '.join(map(str, ranks))}, which wrote them on a disk of their own: name a folder with --runs that is "
            "on a file system all machines share"
        )


def _shard(work: Path, number: int) -> Path:
    return work / f"shard-{number:05d}.npz"


def _answer(
    teacher: Teacher,
    encoded: Encoded,
    shard: Ints,
    layers: Sequence[int],
    device: torch.device,
    bf16: bool,
    top_k: int | None,
) -> Arrays:
    files = shapes(len(shard), len(teacher.spec.labels), len(layers), teacher.module.width, top_k)
    found: Arrays = {name: np.empty(shape, kind) for name, (kind, shape) in files.items()}
    start = 0
    for batch in forward_batches(encoded, shard):
        inputs = model_inputs(encoded, batch, teacher.module.input_names, device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            result = teacher.module(*inputs, hidden=layers)
        said, states = result if layers else (result, None)
        if not bool(torch.isfinite(said).all()):
            raise DataError(
                "teacher.model: the teacher answers with numbers that are not finite; set distill.precision: "
                "fp32, or give another teacher"
            )
        stop = start + len(batch)
        for name, values in _logit_arrays(said, top_k).items():
            found[name][start:stop] = values
        if states is not None:
            found[HIDDEN][start:stop] = _halves(states)
        start = stop
    return found


def _logit_arrays(said: torch.Tensor, top_k: int | None) -> Arrays:
    """What is kept of logits [B, C]."""
    if top_k is None:
        return {LOGITS: _halves(said)}
    kept, classes = largest(said.float(), top_k)
    return {LOGITS: _halves(kept), CLASSES: classes.cpu().numpy().astype(np.int32)}


def _halves(values: torch.Tensor) -> npt.NDArray[np.float16]:
    return values.float().clamp(-LARGEST_HALF, LARGEST_HALF).cpu().numpy().astype(np.float16)


def _assemble(shards: list[Ints], work: Path, arrays: Arrays) -> None:
    for number, rows in enumerate(shards):
        path = _shard(work, number)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as part:
                for name, array in arrays.items():
                    array[rows] = part[name]
                    let_go(array)
        except UNREADABLE as error:
            raise IntegrityError(f"{path} is damaged ({error}); delete it, and its rows are asked again") from error


def write_scores(logits: Floats, out: Path, top_k: int | None = None) -> None:
    """The outputs of a teacher that is a file of scores."""
    write_logits([logits], logits.shape, out, top_k)


def write_logits(pieces: Iterable[Floats], shape: tuple[int, ...], out: Path, top_k: int | None) -> None:
    """Logits [N, C] that come in pieces of rows, one after the other, as the outputs of a teacher without states.

    Raises:
        EnvironmentProblem: the disk has no room.
    """
    rows, classes = shape
    needed = estimate_bytes(rows, classes, 0, 0, top_k)
    if needed > free_bytes(out):
        raise EnvironmentProblem(
            f"the teacher's outputs need {needed:,} bytes, but only {free_bytes(out):,} are free at {out}; "
            "free some space (kdc cache ls) or keep fewer logits (distill.top_k)"
        )
    out.mkdir(parents=True, exist_ok=True)
    arrays = {name: allocate(out / name, *of) for name, of in shapes(rows, classes, 0, 0, top_k).items()}
    start = 0
    for piece in pieces:
        for name, values in _logit_arrays(torch.from_numpy(piece), top_k).items():
            arrays[name][start : start + len(piece)] = values
        start += len(piece)

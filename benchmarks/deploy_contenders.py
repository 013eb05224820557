"""What is measured: models behind one interface, each called as its own documentation calls it, with one thread."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.batch import Floats, Ints
from compress.extras import require
from compress.runtime.predictor import Predictor, Request

BATCH = 32
"""Rows answered at a time when quality is measured; padded to the longest of them, as every pipeline here does."""
THREADS = 1
TURN_SECONDS = 0.1
CALLS = (2, 40)
"""Least and most timed calls of a contender's turn; between them as many as fit into TURN_SECONDS."""
LONG_SECONDS = 0.1
"""A turn begins with two untimed calls, which bring back the caches that others pushed out, or one that is as long."""

Feed = Mapping[str, Ints]
Call = Callable[[Feed], Floats]
Times = dict[str, list[float]]
"""Milliseconds by name of a cell: the median of each round."""


@dataclass(frozen=True)
class Contender:
    """encode: requests to inputs int64 [B, T]. call: inputs to logits float32 [B, C]. files: of the model."""

    encode: Callable[[Sequence[Request]], Feed]
    call: Call
    files: tuple[Path, ...]

    @property
    def size_bytes(self) -> int:
        """Of the model's files: graph and weights, not the tokenizer."""
        return sum(path.stat().st_size for path in self.files)


def open_kdc(folder: Path) -> Contender:
    """A deployable folder through the runtime that ships, with its checks of every answer."""
    predictor = Predictor.from_folder(folder, threads=THREADS)
    files = [folder / name for name in predictor.spec.model_files]
    return Contender(predictor.encode, lambda feed: predictor.logits_from(dict(feed)), tuple(files))


def open_peer(model: Path, tokenizer: Any, precision: str | None) -> Contender:
    """A peer's model file: .onnx on onnxruntime, .xml on OpenVINO with the given hint of its precision."""
    if model.suffix == ".xml":
        names, call = _openvino(model, precision)
        files = [model, model.with_suffix(".bin")]
    else:
        names, call = _onnxruntime(model)
        files = [model, *model.parent.glob(f"{model.name}?data")]

    def encode(requests: Sequence[Request]) -> Feed:
        texts = [request.text for request in requests]
        pairs = None if requests[0].text_pair is None else [request.text_pair for request in requests]
        found = tokenizer(texts, pairs, padding=True, truncation=True, return_tensors="np")
        return {name: np.asarray(found[name], np.int64) for name in names}

    return Contender(encode, lambda feed: call({name: feed[name] for name in names}), tuple(files))


def _onnxruntime(model: Path) -> tuple[list[str], Call]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return [item.name for item in session.get_inputs()], lambda feed: session.run(None, feed)[0]


def _openvino(model: Path, precision: str | None) -> tuple[list[str], Call]:
    openvino = require("openvino", extra="openvino", why="this peer")

    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": THREADS,
        "ENABLE_CPU_PINNING": False,  # it would stay on a core that another process uses, and the others move away
    }
    if precision is not None:
        options["INFERENCE_PRECISION_HINT"] = precision
    compiled = openvino.Core().compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    return [port.get_any_name() for port in compiled.inputs], lambda feed: request.infer(feed)[0]


def answers(contender: Contender, requests: Sequence[Request]) -> Floats:
    """Logits float32 [N, C] in the order of the requests."""
    starts = range(0, len(requests), BATCH)
    pieces = [contender.call(contender.encode(requests[start : start + BATCH])) for start in starts]
    return np.concatenate([np.array(piece, np.float32) for piece in pieces])


def take_turns(
    calls: Mapping[str, Call],
    cells: Mapping[str, Sequence[Feed]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time all contenders in every cell, one after the other in each round; who begins changes from round to round.

    Args:
        calls: by name of the contender. cells: name -> batches, which calls go through in turn. rounds: at least 1.
        clock: seconds.

    Returns:
        Contender -> cell -> the median milliseconds of each round.
    """
    found: dict[str, Times] = {name: {cell: [] for cell in cells} for name in calls}
    names = list(calls)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            first = number % len(names)
            for cell, feeds in cells.items():
                for name in names[first:] + names[:first]:
                    found[name][cell].append(_turn(calls[name], feeds, clock))
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return found


def _turn(call: Call, feeds: Sequence[Feed], clock: Callable[[], float]) -> float:
    """Median milliseconds of a turn's timed calls."""
    once = _seconds(call, feeds[0], clock)
    if once < LONG_SECONDS:
        once = _seconds(call, feeds[0], clock)
    least, most = CALLS
    count = min(max(int(TURN_SECONDS / max(once, 1e-9)), least), most)
    took = [_seconds(call, feeds[number % len(feeds)], clock) for number in range(count)]
    return 1e3 * statistics.median(took)


def _seconds(call: Call, feed: Feed, clock: Callable[[], float]) -> float:
    began = clock()
    call(feed)
    return clock() - began

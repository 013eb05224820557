"""The guard: a limit to what quantization may lose, and the fewest layers in float with which a method keeps it.

A method that loses too much is written again once for each layer that it lowered, with this layer alone lowered, and
asked about a few rows. The layer's error is that of the model's output, ||y - ŷ|| / ||y||: unlike the signal-to-noise
ratio of each quantized tensor (onnxruntime's qdq_loss_debug, which also needs Q/DQ nodes), it counts what the rest of
the model makes of an error, and holds for every method. Of n layers by falling error, bisection finds the least k for
which the first k in float meet the limit; that more layers in float lose less is taken for granted between two counts
that were tried.

Cost: n models on the few rows, and at most 2 + log2(n) on all rows that the loss is measured on.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compress.artifacts import ONNX
from compress.batch import Floats
from compress.progress import bar, reporter
from compress.quantize.layers import Layer, layers_of
from compress.quantize.preprocess import prepared

ROWS = 64
"""Calibration rows, at the most, on which a single layer's error is measured."""


@dataclass(frozen=True)
class Loss:
    """What a model lost against the float one: `value`, with the bounds of its interval where there is one.

    answers: its logits on the rows that this was measured on, float32 [N, C].
    """

    value: float
    low: float | None
    high: float | None
    answers: Floats

    @property
    def figures(self) -> dict[str, float | None]:
        """value, low, high."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        sure = "" if self.low is None or self.high is None else f" (95%: {self.low:+.4f} … {self.high:+.4f})"
        return f"{self.value:.4f}{sure}"


@dataclass(frozen=True)
class Trial:
    """What the guard needs done.

    source: folder of the float model. write: a folder with the quantized model in which the named nodes of the source
    stay in float. answers: a folder's logits on `rows` calibration rows, float32 [rows, C]. loss: what a folder lost.
    measured: what the loss is, as part of a sentence, such as `macro_f1 on 300 validation rows`. limit: largest loss.
    """

    source: Path
    write: Callable[[Path, frozenset[str]], None]
    answers: Callable[[Path], Floats]
    loss: Callable[[Path], Loss]
    measured: str
    rows: int
    limit: float


@dataclass
class Guarded:
    """What came out: the loss of the model that stands, which layers stay in float, and what was tried.

    before: the loss with nothing in float. kept: titles of layers. ranking: every lowered layer by falling error.
    tried: how many layers are in float -> loss.
    """

    trial: Trial
    before: Loss
    after: Loss
    kept: list[str] = field(default_factory=list)
    ranking: list[dict[str, Any]] = field(default_factory=list)
    tried: dict[int, Loss] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the limit is kept."""
        return self.after.value <= self.trial.limit

    @property
    def failure(self) -> str | None:
        """Why it is not, with the best candidate's figures."""
        if self.met:
            return None
        best = f"with {len(self.kept)} of {len(self.ranking)} layers in float" if self.kept else "with none in float"
        return (
            f"quality loss {self.after} in {self.trial.measured} is above the limit {self.trial.limit:g}, which none "
            f"of {len(self.tried)} candidates meets; the best one, {best}, is kept: take another method, or raise "
            "quantize.max_quality_loss"
        )

    @property
    def record(self) -> dict[str, Any]:
        """All of it as plain data; `ranking` has layer, node, operator, parameters, error, snr_db and kept."""
        return {
            "measured": self.trial.measured,
            "limit": self.trial.limit,
            "met": self.met,
            "before": self.before.figures,
            "after": self.after.figures,
            "kept": self.kept,
            "sensitivity_rows": self.trial.rows if self.ranking else 0,
            "ranking": self.ranking,
            "tried": [{"kept": count, **loss.figures} for count, loss in sorted(self.tried.items())],
        }


def as_lowered(trial: Trial, out: Path) -> Guarded:
    """Write the quantized model to the folder `out` with nothing in float, and say what it lost."""
    trial.write(out, frozenset())
    first = trial.loss(out)
    return Guarded(trial, first, first, tried={0: first})


def guarded(trial: Trial, out: Path, work: Path) -> Guarded:
    """Write the quantized model to the folder `out`, with as few layers in float as the limit wants.

    Where no choice of layers meets it, the candidate that lost least stands there.

    Args:
        out: the folder to fill.
        work: an empty folder for candidates; its content is removed.
    """
    found = as_lowered(trial, out)
    if found.met:
        return found
    first = found.before
    lowered = _lowered(trial.source / ONNX, out / ONNX)
    if len(lowered) < 2:
        return found
    most = 1 + math.ceil(math.log2(len(lowered)))
    reporter.say(
        f"  quality loss {first} in {trial.measured} is above the limit {trial.limit:g}: looking for the layers to "
        f"blame, each of {len(lowered)} by itself on {trial.rows} rows, then at most {most} models on all rows"
    )
    ranked = _ranked(trial, lowered, work)
    count = _fewest(trial, [layer for layer, _ in ranked], found, work)
    found.after = found.tried[count]
    found.kept = [layer.title for layer, _ in ranked[:count]]
    found.ranking = [_told(layer, error, place < count) for place, (layer, error) in enumerate(ranked)]
    if count:
        shutil.rmtree(out)
        (work / str(count)).rename(out)
    for folder in work.iterdir():
        shutil.rmtree(folder)
    _say(found, ranked[:count])
    return found


def _lowered(source: Path, made: Path) -> list[Layer]:
    """The layers that a method lowered; all of them where what it wrote is no .onnx."""
    import onnx

    layers = layers_of(prepared(source), source)
    if not made.is_file():
        return layers
    graph = onnx.load(made, load_external_data=False).graph
    as_it_was = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    return [layer for layer in layers if layer.weight not in as_it_was]


def _ranked(trial: Trial, layers: list[Layer], work: Path) -> list[tuple[Layer, float]]:
    """Each layer with the output's error when it alone is lowered, the largest first."""
    float_answers, every = trial.answers(trial.source), frozenset(layer.node for layer in layers)
    size = max(float(np.linalg.norm(float_answers)), float(np.finfo(np.float32).tiny))
    found = []
    with bar("sensitivity", len(layers), "layers") as shown:
        for layer in layers:
            folder = work / "alone"
            trial.write(folder, every - {layer.node})
            found.append((layer, float(np.linalg.norm(trial.answers(folder) - float_answers)) / size))
            shutil.rmtree(folder)
            shown.advance(1)
    return sorted(found, key=lambda item: -item[1])


def _fewest(trial: Trial, ranked: list[Layer], found: Guarded, work: Path) -> int:
    """The least number of layers, from the first on, that meets the limit; else the one that lost least.

    At least one layer stays lowered: a model in which none is would be the float one.
    """

    def meets(count: int) -> bool:
        folder = work / str(count)
        trial.write(folder, frozenset(layer.node for layer in ranked[:count]))
        found.tried[count] = trial.loss(folder)
        return found.tried[count].value <= trial.limit

    fails, enough = 0, len(ranked) - 1
    if not meets(enough):
        return min(found.tried, key=lambda count: (found.tried[count].value, count))
    while enough - fails > 1:
        middle = (fails + enough) // 2
        if meets(middle):
            enough = middle
        else:
            fails = middle
    return enough


def _told(layer: Layer, error: float, kept: bool) -> dict[str, Any]:
    """A row of the ranking."""
    shown = {key: value for key, value in asdict(layer).items() if key not in ("title", "weight")}
    ratio = None if error == 0 else -20 * math.log10(error)
    return {"layer": layer.title, **shown, "error": error, "snr_db": ratio, "kept": kept}


def _say(found: Guarded, kept: list[tuple[Layer, float]]) -> None:
    if found.met:
        names = ", ".join(f"{layer.title} (alone changes the output by {error:.1%})" for layer, error in kept)
        reporter.warn(
            f"{len(kept)} of {len(found.ranking)} layers stay in float, so that the quality loss is {found.after} "
            f"instead of {found.before}, limit {found.trial.limit:g}: {names}"
        )

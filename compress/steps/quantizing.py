"""The stage `quantized`: one method under the guard, or every candidate measured and the fastest good one taken."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from compress.artifacts import ONNX, PORTABLE, TOKENIZER, model_bytes, read_spec, remove, write_spec
from compress.batch import Floats, Ints
from compress.bench.lanes import Contender
from compress.bench.machine import describe as describe_machine
from compress.bench.measure import run_bench
from compress.bench.results import BenchResult, Scenario
from compress.bench.targets import own_target
from compress.export.parity import agreement
from compress.progress import bar, reporter
from compress.quantize.calibration import feeds
from compress.quantize.choice import FLOAT as FLOAT_METHOD
from compress.quantize.choice import Built, Row, choose
from compress.quantize.guard import ROWS as GUARD_ROWS
from compress.quantize.guard import Guarded, Loss, Trial, as_lowered, guarded
from compress.quantize.methods import METHODS, Work, candidates
from compress.recipe import AUTO, Bench, Quantize
from compress.runtime.predictor import Predictor, Request
from compress.steps.certifying import certificate
from compress.steps.context import FLOAT, Metrics, Run, requests_of, with_threshold
from compress.steps.guarding import metric_loss

BATCH_DEPENDENT = "dynamic-tensor"
"""The method with one range of activations for the whole batch."""


def quantize_folder(
    source: Path,
    out: Path,
    method: str,
    calibration: Sequence[Request],
    section: Quantize,
    keep_float: frozenset[str] = frozenset(),
) -> None:
    """Quantize a deployable folder into another, which is for the method's runtime.

    keep_float: names of nodes of the float graph that stay in float.
    """
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / TOKENIZER, out / TOKENIZER)
    way = METHODS[method]
    write_spec(out, read_spec(source).model_copy(update={"runtime": way.runtime, "arithmetic": way.arithmetic}))

    def rows() -> Iterator[dict[str, Ints]]:
        return feeds(Predictor.from_folder(source), calibration)

    way.write(Work(source / ONNX, out, rows, section, keep_float))


def guarded_folder(  # what to make, and how to judge it
    source: Path,
    out: Path,
    method: str,
    calibration: Sequence[Request],
    section: Quantize,
    loss: Callable[[Path], Loss],
    measured: str,
    work: Path | None,
) -> Guarded:
    """`quantize_folder` with as few layers in float as `max_quality_loss` wants; measured: what the loss is.

    work: where candidates stand meanwhile; None leaves no layer in float, whatever is lost.
    """
    few = calibration[:: max(1, -(-len(calibration) // GUARD_ROWS))]
    trial = Trial(
        source=source,
        write=lambda folder, kept: quantize_folder(source, folder, method, calibration, section, kept),
        answers=lambda folder: Predictor.from_folder(folder).logits(few),
        loss=loss,
        measured=measured,
        rows=len(few),
        limit=section.max_quality_loss,
    )
    if work is None or not METHODS[method].by_layer:
        return as_lowered(trial, out)
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work, prefix="guard-") as temporary:
        return guarded(trial, out, Path(temporary))


def quantized(run: Run, out: Path, work: Path) -> Metrics:
    """Quantize the student; its own threshold is chosen on validation, its loss of quality measured there.

    What it does on test beside its parents and the teacher stands in its `certificate`. Beside a model for another
    runtime than onnxruntime stands a portable one.
    """
    floor = _Floor(run, work)
    if run.recipe.quantize.method == AUTO:
        found, failures = _automatic(floor, out)
    elif run.recipe.quantize.learning is not None:
        found, failures = _learned(floor, out)
    else:
        method = run.recipe.quantize.method or run.recipe.student.quantization
        made = floor.guarded(method, out)
        found, failures = floor.told(method, out, made.after) | {"guard": made.record}, [made.failure]
        if METHODS[method].runtime != "onnxruntime":
            found["portable"], failure = _portable(floor, out / PORTABLE)
            failures.append(failure)
    said = [failure for failure in failures if failure is not None]
    shipped = read_logits(out, run, "test", "quantized")
    exported = read_logits(floor.source, run, "test", "student")
    found["certificate"] = certificate(run, exported, shipped, found["threshold"], work)
    return found | ({"failure": "; ".join(said)} if said else {})


@dataclass(frozen=True)
class _Floor:
    """What all candidates of a run share: the float model, and what a quantized one may lose against it."""

    run: Run
    work: Path

    @property
    def source(self) -> Path:
        """Folder of the float model."""
        return self.run.at("onnx") / FLOAT

    @cached_property
    def before(self) -> Floats:
        """The float model's logits on validation."""
        return read_logits(self.source, self.run, "validation", "student")

    @cached_property
    def loss(self) -> Callable[[Path], Loss]:
        """What a folder lost on validation."""
        return metric_loss(self.run, self.before, lambda at: read_logits(at, self.run, "validation", "quantized"))

    @property
    def measured(self) -> str:
        """What the loss is, as part of a sentence."""
        return f"{self.run.judge.metric} on {len(self.before):,} validation rows"

    def guarded(self, method: str, out: Path, mend: bool = True) -> Guarded:
        """Write a method's model; mend: with layers in float where it loses too much."""
        rows, section = calibration_rows(self.run, method), self.run.recipe.quantize
        work = self.work if mend else None
        return guarded_folder(self.source, out, method, rows, section, self.loss, self.measured, work)

    def told(self, method: str, out: Path, loss: Loss) -> Metrics:
        """Choose the threshold of a model, and measure it on validation and test."""
        verdict = self.run.judge.verdict(loss.answers, read_logits(out, self.run, "test", "quantized"))
        write_spec(out, with_threshold(read_spec(out), verdict.threshold))
        return {
            "method": method,
            "size_bytes": model_bytes(out),
            "validation": verdict.validation,
            "quality": verdict.test,
            "threshold": verdict.threshold,
            "quality_loss": loss.value,
            "parity": agreement(self.before, loss.answers),
        }


def _learned(floor: _Floor, out: Path) -> tuple[Metrics, list[str | None]]:
    """What the stage `aware` taught, exported; nothing of it is put back to float."""
    from compress.steps.aware import write_aware

    exported = write_aware(floor.run, out)
    loss, limit = floor.loss(out), floor.run.recipe.quantize.max_quality_loss
    failures = [exported.pop("failure", None)]
    if loss.value > limit:
        failures.append(f"quality loss {loss} in {floor.measured} is above the limit {limit:g}")
    return floor.told("aware", out, loss) | exported, failures


def _portable(floor: _Floor, out: Path) -> tuple[Metrics, str | None]:
    """The student for onnxruntime, by its family's own method, for devices without what the shipped model needs."""
    method = floor.run.recipe.student.quantization
    made = floor.guarded(method, out)
    failure = None if made.failure is None else f"portable model: {made.failure}"
    return floor.told(method, out, made.after) | {"guard": made.record}, failure


# ---------------------------------------------------------------- the automatic choice


@dataclass(frozen=True)
class Automatic:
    """Every candidate in a folder of its own below `folder`, what the guard found of each, and which is taken.

    portable: the candidate for devices without what the choice needs; None where onnxruntime runs the choice.
    """

    folder: Path
    made: Mapping[str, Guarded]
    rows: list[Row]
    choice: str
    portable: str | None


def automatic(
    folder: Path,
    methods: Sequence[str],
    make: Callable[[str, Path, bool], Guarded],
    requests: Sequence[Request],
    bench: Bench,
    scenario: Scenario,
) -> Automatic:
    """Build every method's model, time them beside the float one, and choose; float is among the methods.

    Args:
        make: writes a method's model into a folder, and if asked with layers in float where it loses too much.
        requests: what they are timed on, in turns. bench: threads (the first), rounds and requests.
        scenario: what is compared.
    """
    made: dict[str, Guarded] = {}

    def build(method: str, *, mend: bool = False) -> Built:
        reporter.say(f"  candidate {method}")
        remove(folder / method)
        made[method] = make(method, folder / method, mend)
        float_answers = made[FLOAT_METHOD].after.answers
        return Built(folder / method, made[method].met, _facts(folder / method, made[method], float_answers))

    def timed(built: Mapping[str, Path]) -> dict[str, BenchResult]:
        return _timed(built, requests, bench, scenario)

    choice, rows = choose(methods, build, partial(build, mend=True), timed, scenario)
    reporter.say(f"  automatic choice: {choice}")
    if choice == BATCH_DEPENDENT:
        reporter.warn(f"with {choice} an answer depends a little on the requests beside it in a batch; others do not")
    portable = None if METHODS[choice].runtime == "onnxruntime" else _fastest_portable(rows)
    return Automatic(folder, made, rows, choice, portable)


def _automatic(floor: _Floor, out: Path) -> tuple[Metrics, list[str | None]]:
    """`automatic` on validation rows, with the fastest good candidate left in `out`."""
    run = floor.run
    section, bench = run.recipe.quantize, run.recipe.bench
    rng = np.random.default_rng(run.recipe.seed)
    picked = np.sort(rng.permutation(len(run.splits.validation))[: bench.requests])
    asked = requests_of(run.splits.validation.take(picked))
    names = candidates(convolutional=run.recipe.student.quantization == "static")
    floor.work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=floor.work, prefix="candidates-") as temporary:
        done = automatic(Path(temporary), names, floor.guarded, asked, bench, section.fastest)
        take(done, out)
    chosen = done.made[done.choice]
    found = floor.told(done.choice, out, chosen.after) | {"guard": chosen.record}
    if done.portable is not None:
        found["portable"] = floor.told(done.portable, out / PORTABLE, done.made[done.portable].after)
    return found | {"candidates": done.rows, "chosen_on": describe_machine()}, []


def take(done: Automatic, out: Path) -> None:
    """Copy the choice to a folder, with the portable model below it where there is one."""
    shutil.copytree(done.folder / done.choice, out, dirs_exist_ok=True)
    if done.portable is not None:
        shutil.copytree(done.folder / done.portable, out / PORTABLE)


def _facts(folder: Path, made: Guarded, float_answers: Floats) -> Row:
    """What a candidate's row says beside its times."""
    return {
        "runtime": read_spec(folder).runtime,
        "size_bytes": model_bytes(folder),
        "quality_loss": made.after.value,
        "loss_low": made.after.low,
        "loss_high": made.after.high,
        "kept_in_float": made.kept,
        **agreement(float_answers, made.after.answers),
    }


def _timed(
    built: Mapping[str, Path], requests: Sequence[Request], bench: Bench, scenario: Scenario
) -> dict[str, BenchResult]:
    """All that were built, taking turns, each on the runtime that it is for."""
    contenders = [Contender(name, folder, targets=(own_target(folder),)) for name, folder in built.items()]
    targets = tuple(dict.fromkeys(own_target(folder) for folder in built.values()))
    asked = bench.model_copy(update={"targets": targets, "threads": bench.threads[:1], "scenarios": (scenario,)})
    return {result.artifact: result for result in run_bench(contenders, requests, asked)}


def _fastest_portable(rows: Sequence[Row]) -> str:
    """The fastest candidate for onnxruntime that keeps the floor; the float model always does."""
    good = [row for row in rows if row["outcome"] == "slower than the choice" and row["runtime"] == "onnxruntime"]
    return str(max(good, key=lambda row: row["speedup"])["method"])


# ---------------------------------------------------------------- rows


def calibration_rows(run: Run, method: str) -> list[Request]:
    """Training rows, drawn by the recipe's seed: the first ones of a sorted file may all be of one label."""
    train, asked = run.splits.train, run.recipe.quantize.calibration
    count = min(asked, len(train))
    if count < asked and (method not in METHODS or METHODS[method].calibrates):
        reporter.warn(f"quantize.calibration asks for {asked:,} training rows, and there are {count:,}: all are taken")
    picked = np.random.default_rng(run.recipe.seed).choice(len(train), count, replace=False)
    return requests_of(train.take(np.sort(picked)))


def read_logits(folder: Path, run: Run, split: str, name: str) -> Floats:
    """A deployable folder's logits on a split, through the runtime that ships."""
    requests = requests_of(run.splits.validation if split == "validation" else run.splits.test)
    predictor = Predictor.from_folder(folder, threads=2)
    pieces = []
    with bar(f"{name} on {split}", len(requests), "rows") as shown:
        for start in range(0, len(requests), 256):
            pieces.append(predictor.logits(requests[start : start + 256]))
            shown.advance(len(pieces[-1]))
    return np.concatenate(pieces)


def processor_and_runtimes() -> dict[str, Any]:
    """What the automatic choice depends on beside the recipe: it is made by timing."""
    from compress.bench.machine import processor
    from compress.extras import version

    return {"machine": processor(), "versions": {name: version(name) for name in ("onnxruntime", "openvino", "nncf")}}

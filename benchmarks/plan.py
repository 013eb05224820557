"""Which benchmarks the figures come from, with the arguments that they were recorded with, in an order that works."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.common import ROOT, read_rows
from benchmarks.frontier import data_set
from benchmarks.peer_table import PEER_ROWS
from benchmarks.record import RUNS, newest
from compress.errors import EnvironmentProblem

KDC = (sys.executable, "-m", "compress")
RECIPE = re.compile(r"recipes/[\w-]+\.yaml")
OF_COMMIT = re.compile(r"\(of commit (\w+)\)")
SPLITS = ("train", "validation", "test", "unlabeled")
README = "readme"
"""What --only takes for the benchmarks that the README's own figures come from."""
LATENCY, SERVED, SMALL = ("mwpd-category", 7), ("amazon-google-mobile", 7), ("mwpd-category-mobile", 7)
"""Recipe and seed of the runs whose models are timed, served, and opened in a browser."""
README_RUNS = (("quickstart", 7), LATENCY, SMALL)
DEPLOYED = ("student.layers=4", "student.hidden=320", "distill.control=false", "quantize.method=auto")
"""What the student of the deploy paths has otherwise than the recipe of `LATENCY`."""
CHOSEN = {"latency": (), "throughput": ("quantize.fastest=offline", "gates.speedup=null")}
"""What kdc's artifacts of the deploy paths are chosen for; the gate is for one request at a time."""
TWO_TOWER = "amazon-google-two-tower"
FOUR_BITS = ("gates.speedup=null", "quantize.method=weights", "quantize.bits=4", "quantize.embedding_bits=4")
"""What makes a two-tower site small (docs/web.md)."""
ASKED: dict[str, tuple[tuple[tuple[str, int], ...], tuple[str, ...]]] = {
    "start_up": ((SERVED, ("amazon-google", 7)), ()),
    "serving": ((LATENCY,), ("--rounds", "3", "--seconds", "5")),
    "serving_p99": ((LATENCY,), ("--p99-ms", "10", "--workers", "2")),
    "soak": ((SERVED,), ("--minutes", "60")),
}
"""What asks bundles: the runs that these are of, and the other arguments."""

Row = dict[str, Any]
Command = list[str]


@dataclass(frozen=True)
class Place:
    """data: folder of the data sets. runs: folder of the runs."""

    data: Path
    runs: Path

    @property
    def moved(self) -> Command:
        """Options that name the folder of the data."""
        return settings(f"data.root={self.data}")

    def run(self, recipe: str, seed: int) -> Path:
        """Folder of a finished run, the newest one.

        Raises:
            EnvironmentProblem: there is none.
        """
        found = [path for path in self.runs.glob(f"{recipe}-*/summary.json") if _is(path, recipe, seed)]
        if not found:
            raise EnvironmentProblem(f"{self.runs} has no finished run of {recipe} with seed {seed}")
        return max(found, key=lambda path: path.stat().st_mtime).parent

    def bundle(self, recipe: str, seed: int) -> str:
        """The bundle of a finished run."""
        return str(self.run(recipe, seed) / "bundle" / f"{recipe}.kdc")

    def derived(self, recipe: str, name: str, taught: tuple[str, int], *changes: str) -> Command:
        """A run of a recipe under another name, with the teacher of a finished run.

        Raises:
            EnvironmentProblem: that run is not there.
        """
        teacher = (f"teacher.model={self.run(*taught)}/teacher", "teacher.train=null")
        changed = settings(f"name={name}", f"data.root={self.data}", *teacher, *changes)
        return [*KDC, "run", f"recipes/{recipe}.yaml", *changed, "--runs", str(self.runs)]


def settings(*changes: str) -> Command:
    """Options that change keys of a recipe."""
    return [word for change in changes for word in ("--set", change)]


def _is(summary: Path, recipe: str, seed: int) -> bool:
    told = json.loads(summary.read_bytes())
    return bool(told["name"] == recipe and told["recipe"]["seed"] == seed)


@dataclass(frozen=True)
class Task:
    """One benchmark.

    group: its module, or `runs`. recipe: whose data it reads, None where it makes its own. commands: what is started,
    each asked for when the one before is done; an EnvironmentProblem says why it cannot be run here. readme: whether a
    figure of the README comes from it.
    """

    name: str
    group: str
    recipe: Path | None
    commands: Callable[[Place], Iterator[Command]]
    readme: bool = False

    @property
    def known_as(self) -> set[str]:
        """What --only may call it."""
        return {self.name, self.group, *([README] if self.readme else [])}

    def data_sets(self) -> set[str]:
        """Folders below that of the data."""
        if self.recipe is None:
            return set()
        data = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))["data"]
        paths = [data[split]["path"] for split in SPLITS if "path" in (data.get(split) or {})]
        return {path.split("::")[-1].split("/")[0] for path in paths}


def module(name: str, *arguments: str) -> Command:
    """A benchmark's command."""
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


def plan() -> list[Task]:
    """All benchmarks: first the runs, whose folders others need."""
    runs = newest(read_rows(RUNS))
    return [*map(_run, runs), *_students(runs), _DEPLOY, *_of_runs(), *_alone()]


def _run(row: Row) -> Task:
    """A recorded run: DIR stands for the data, RUN for that of the data set's transformer recipe and first seed."""
    given = str(row["command"]).replace("make quickstart", "kdc run recipes/quickstart.yaml")
    found = RECIPE.search(given)
    if found is None:
        raise ValueError(f"the command of {row['recipe']} names no recipe: {given}")

    def commands(place: Place) -> Iterator[Command]:
        older = OF_COMMIT.search(given)
        if older:
            raise EnvironmentProblem(f"its recipe is that of commit {older[1]}; check that out, and give its command")
        words = [word.replace("data.root=DIR", f"data.root={place.data}") for word in shlex.split(given)[1:]]
        if any("RUN/" in word for word in words):
            taught = str(place.run(data_set(row), 7))
            words = [word.replace("RUN/", f"{taught}/") for word in words]
        yield [*KDC, *words, "--runs", str(place.runs)]
        yield module("record", str(place.run(row["recipe"], row["seed"])), "--command", row["command"])

    read = ROOT / found[0]
    readme = (row["recipe"], row["seed"]) in README_RUNS
    return Task(f"{row['recipe']}-{row['seed']}", "runs", read if "data.root" in given else None, commands, readme)


def _students(runs: list[Row]) -> Iterator[Task]:
    recipes = {(row["recipe"], row["seed"]): row["command"] for row in runs}
    recorded = {(row["peer"], row["recipe"], row["seed"]): row for row in read_rows(PEER_ROWS)}
    for (peer, recipe, seed), row in recorded.items():

        def commands(place: Place, row: Row = row) -> Iterator[Command]:
            folder = place.run(row["recipe"], row["seed"])
            yield module("students", str(folder), "--peer", row["peer"], "--threads", str(row["threads"]), *place.moved)

        found = RECIPE.search(recipes.get((recipe, seed), ""))
        yield Task(f"{peer}-{recipe}-{seed}", "students", ROOT / found[0] if found else None, commands)


def _deploy(place: Place) -> Iterator[Command]:
    """Of one student two artifacts, for one request at a time and for batches, beside those of peers."""
    recipe, seed = LATENCY
    folders = {}
    for purpose, more in CHOSEN.items():
        name = f"{recipe}-for-{purpose}"
        yield place.derived(recipe, name, LATENCY, *DEPLOYED, *more)
        folders[purpose] = place.run(name, seed)
    given = [word for purpose, run in folders.items() for word in ("--artifact", f"kdc ({purpose})={run}/quantized")]
    yield module("deploy", str(folders["latency"]), *given, "--rounds", "5", "--rows", "1500", *place.moved)


_DEPLOY = Task("deploy", "deploy", ROOT / "recipes" / f"{LATENCY[0]}.yaml", _deploy, readme=True)


def _of_runs() -> Iterator[Task]:
    """What asks the models and bundles of finished runs."""
    for name in ("repeatability", "compliance"):

        def timed(place: Place, name: str = name) -> Iterator[Command]:
            yield module(name, str(place.run(*LATENCY)), *place.moved)

        yield Task(name, name, ROOT / "recipes" / f"{LATENCY[0]}.yaml", timed)
    yield from map(_asked, ASKED)
    for run in (SMALL, SERVED):
        yield Task(f"web-{run[0]}", "web", None, partial(_web, recipe=run[0], seed=run[1]), readme=run == SMALL)
    yield Task("web-4-bits", "web", ROOT / "recipes" / f"{TWO_TOWER}.yaml", _web_in_four_bits)


def _asked(name: str) -> Task:
    runs, more = ASKED[name]
    return Task(name, name, None, lambda place: iter([module(name, *(place.bundle(*run) for run in runs), *more)]))


def _web(place: Place, recipe: str, seed: int) -> Iterator[Command]:
    with TemporaryDirectory(prefix="kdc-web-") as work:
        site = str(Path(work) / recipe)
        yield [*KDC, "package", place.bundle(recipe, seed), "--target", "web", "-o", site]
        yield module("web", site)


def _web_in_four_bits(place: Place) -> Iterator[Command]:
    name = f"{TWO_TOWER}-4-bits"
    yield place.derived(TWO_TOWER, name, ("amazon-google", 7), *FOUR_BITS)
    yield from _web(place, name, 7)


def _alone() -> Iterator[Task]:
    """What makes its own data."""
    for name, given in {
        "training": ("--rounds", "3", "--seconds", "4", "--rows", "1200"),
        "kernels": ("--device", "cpu", "--rounds", "3"),
        "kernels-cuda": ("--device", "cuda"),
        "memory": ("--rows", "10000", "100000", "1000000", "--corpus", "unlabeled"),
        "harness": (),
        "fuzz_bundle": ("--inputs", "1000000", "--seed", "20261123"),
    }.items():
        group = name.partition("-")[0]

        def commands(place: Place, group: str = group, given: tuple[str, ...] = given) -> Iterator[Command]:
            if "cuda" in given:
                _needs_cuda()
            yield module(group, *given)

        yield Task(name, group, None, commands)


def _needs_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise EnvironmentProblem("there is no CUDA device")

"""Which benchmarks the figures come from, with the arguments that they were recorded with, in an order that works."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.common import ROOT, read_rows
from benchmarks.deploy_table import DEPLOY_ROWS
from benchmarks.frontier import data_set
from benchmarks.peer_table import PEER_ROWS
from benchmarks.record import RUNS, newest
from compress.errors import EnvironmentProblem

KDC = (sys.executable, "-m", "compress")
RECIPE = re.compile(r"recipes/[\w-]+\.yaml")
OF_COMMIT = re.compile(r"\(of commit (\w+)\)")
ARTIFACT = re.compile(r"--artifact (.+?)(?= --|$)")
SPLITS = ("train", "validation", "test", "unlabeled")
LATENCY, SERVED = ("mwpd-category", 7), ("amazon-google-mobile", 7)
"""Recipe and seed of the runs whose models are timed and served."""
ASKED: dict[str, tuple[tuple[tuple[str, int], ...], tuple[str, ...]]] = {
    "start_up": ((SERVED, ("amazon-google", 7)), ()),
    "serving": ((LATENCY,), ("--rounds", "3", "--seconds", "5")),
    "serving_p99": ((LATENCY,), ("--p99-ms", "10")),
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
        return ["--set", f"data.root={self.data}"]

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


def _is(summary: Path, recipe: str, seed: int) -> bool:
    told = json.loads(summary.read_bytes())
    return bool(told["name"] == recipe and told["recipe"]["seed"] == seed)


@dataclass(frozen=True)
class Task:
    """One benchmark.

    group: its module, or `runs`. recipe: whose data it reads, None where it makes its own. commands: what is started,
    each asked for when the one before is done; an EnvironmentProblem says why it cannot be run here.
    """

    name: str
    group: str
    recipe: Path | None
    commands: Callable[[Place], Iterator[Command]]

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
    return [*map(_run, runs), *_students(runs), *_deploy(), *_of_runs(), *_alone()]


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
    return Task(f"{row['recipe']}-{row['seed']}", "runs", read if "data.root" in given else None, commands)


def _students(runs: list[Row]) -> Iterator[Task]:
    recipes = {(row["recipe"], row["seed"]): row["command"] for row in runs}
    recorded = {(row["peer"], row["recipe"], row["seed"]): row for row in read_rows(PEER_ROWS)}
    for (peer, recipe, seed), row in recorded.items():

        def commands(place: Place, row: Row = row) -> Iterator[Command]:
            folder = place.run(row["recipe"], row["seed"])
            yield module("students", str(folder), "--peer", row["peer"], "--threads", str(row["threads"]), *place.moved)

        found = RECIPE.search(recipes.get((recipe, seed), ""))
        yield Task(f"{peer}-{recipe}-{seed}", "students", ROOT / found[0] if found else None, commands)


def _deploy() -> Iterator[Task]:
    """Of each data set the newest session; its runs are of recipes that were made for it."""
    for row in {row["recipe"]: row for row in read_rows(DEPLOY_ROWS)}.values():

        def commands(place: Place, row: Row = row) -> Iterator[Command]:
            folders = [item.partition("=")[::2] for item in ARTIFACT.findall(row["command"])]
            needed = [place.runs / row["run"], *(place.runs / folder for _, folder in folders)]
            missing = [str(folder) for folder in needed if not folder.is_dir()]
            if missing:
                raise EnvironmentProblem(f"there is no {', '.join(missing)}; its recipe is not among recipes/")
            given = [word for name, folder in folders for word in ("--artifact", f"{name}={place.runs / folder}")]
            sizes = ["--rounds", str(row["rounds"]), "--rows", str(row["rows"])]
            yield module("deploy", str(place.runs / row["run"]), *given, *sizes, *place.moved)

        yield Task(row["recipe"], "deploy", ROOT / "recipes" / "mwpd-category.yaml", commands)


def _of_runs() -> Iterator[Task]:
    """What asks the models and bundles of finished runs."""
    for name in ("repeatability", "compliance"):

        def timed(place: Place, name: str = name) -> Iterator[Command]:
            yield module(name, str(place.run(*LATENCY)), *place.moved)

        yield Task(name, name, ROOT / "recipes" / f"{LATENCY[0]}.yaml", timed)
    yield from map(_asked, ASKED)
    yield Task("web", "web", None, _web)


def _asked(name: str) -> Task:
    runs, more = ASKED[name]
    return Task(name, name, None, lambda place: iter([module(name, *(place.bundle(*run) for run in runs), *more)]))


def _web(place: Place) -> Iterator[Command]:
    with TemporaryDirectory(prefix="kdc-web-") as work:
        site = str(Path(work) / "site")
        yield [*KDC, "package", place.bundle(*SERVED), "--target", "web", "-o", site]
        yield module("web", site)


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

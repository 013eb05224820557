"""`python -m benchmarks all`: which commands it starts, in which order, and what it says of each."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as dispatcher
from benchmarks import plan as planned
from benchmarks.common import ROOT
from benchmarks.plan import KDC, Command, Place, Task, module, plan
from compress.errors import EnvironmentProblem

TRANSFORMERS = ("mwpd-category", "amazon-google")
OFFLINE = ("quantize.fastest=offline", "gates.speedup=null")
NAMED = re.compile(r"python -m benchmarks\.(\w+)")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "data").mkdir()
    return Place(tmp_path / "data", tmp_path / "runs")


def finish(place: Place, recipe: str, seed: int, digest: str = "0123456789") -> Path:
    """A run that went to its end."""
    folder = place.runs / f"{recipe}-{digest}"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"name": recipe, "recipe": {"seed": seed}}))
    return folder


def named(name: str) -> Task:
    return next(task for task in plan() if task.name == name)


def started(task: Task, place: Place) -> list[Command]:
    return list(task.commands(place))


def test_every_recorded_run_and_every_file_of_results_has_a_benchmark() -> None:
    groups = {task.group for task in plan()}
    files = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.jsonl")} - {"fuzz"}
    assert files | {"fuzz_bundle"} <= groups
    assert len({task.name for task in plan()}) == len(plan())


def test_every_benchmark_that_a_page_names_is_among_them() -> None:
    """But for what draws pages and pictures, and the name that `students` had when its first rows were recorded."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*_table.py")]
    named = {name for page in pages for name in NAMED.findall(page.read_text(encoding="utf-8"))}
    assert {"serving_p99", "fuzz_bundle"} <= named
    assert named - {"record", "picture", "peers"} <= {task.group for task in plan()}


def test_a_recorded_run_is_started_with_its_arguments(place: Place) -> None:
    """Its teacher is that of the first run on the same data, wherever that came out; then it is recorded."""
    taught = finish(place, "mwpd-category", 7)
    commands = named("mwpd-category-mobile-8").commands(place)
    assert next(commands) == [
        *(*KDC, "run", "recipes/mwpd-category-mobile.yaml", "--set", f"data.root={place.data}", "--set", "seed=8"),
        *("--set", f"teacher.model={taught}/teacher", "--set", "teacher.train=null", "--runs", str(place.runs)),
    ]
    made = finish(place, "mwpd-category-mobile", 8)
    (recording,) = commands
    assert recording[: len(module("record")) + 1] == [*module("record"), str(made)]
    assert "RUN/teacher" in recording[-1]


def test_a_run_whose_teacher_is_missing_is_not_started(place: Place) -> None:
    finish(place, "mwpd-category", 8)
    with pytest.raises(EnvironmentProblem, match="has no finished run of mwpd-category with seed 7"):
        started(named("mwpd-category-mobile-7"), place)


def test_a_run_of_another_commits_recipe_is_not_started(place: Place) -> None:
    with pytest.raises(EnvironmentProblem, match="its recipe is that of commit e26139e"):
        started(named("amazon-google-residual-7"), place)


def test_peers_train_on_the_run_with_the_recorded_threads(place: Place) -> None:
    folder = finish(place, "amazon-google", 7)
    expected = ["--peer", "sentence-transformers", "--threads", "2", "--set", f"data.root={place.data}"]
    assert started(named("sentence-transformers-amazon-google-7"), place) == [
        module("students", str(folder), *expected)
    ]


def test_deploy_paths_start_from_two_runs_of_one_student(place: Place) -> None:
    """They differ in what kdc's artifact is chosen for; the teacher is taught once."""
    with pytest.raises(EnvironmentProblem, match="no finished run of mwpd-category with seed 7"):
        started(named("deploy"), place)
    taught = finish(place, "mwpd-category", 7)
    commands = named("deploy").commands(place)
    first = next(commands)
    latency = finish(place, "mwpd-category-for-latency", 7)
    second = next(commands)
    throughput = finish(place, "mwpd-category-for-throughput", 7)
    assert [word for word in second if word not in first] == ["name=mwpd-category-for-throughput", *OFFLINE]
    assert f"teacher.model={taught}/teacher" in first
    (measuring,) = commands
    assert measuring[: len(module("deploy")) + 1] == module("deploy", str(latency))
    assert f"kdc (throughput)={throughput}/quantized" in measuring


def test_models_that_are_timed_are_those_of_finished_runs(place: Place) -> None:
    for name in ("compliance", "repeatability"):
        with pytest.raises(EnvironmentProblem, match="no finished run of mwpd-category"):
            started(named(name), place)
    folder = finish(place, "amazon-google-mobile", 7)
    bundle = str(folder / "bundle" / "amazon-google-mobile.kdc")
    assert started(named("soak"), place) == [module("soak", bundle, "--minutes", "60")]
    transformers = {name: str(finish(place, name, 7) / "bundle" / f"{name}.kdc") for name in TRANSFORMERS}
    assert started(named("serving_p99"), place) == [
        module("serving_p99", transformers["mwpd-category"], "--p99-ms", "10", "--workers", "2")
    ]
    assert started(named("start_up"), place) == [module("start_up", bundle, transformers["amazon-google"])]
    packing, asking = started(named("web-amazon-google-mobile"), place)
    assert packing[: len(KDC) + 4] == [*KDC, "package", bundle, "--target", "web"]
    assert asking == module("web", packing[-1])
    assert Path(packing[-1]).name == "amazon-google-mobile"  # the name that its row is shown with


def test_a_two_tower_site_is_made_of_a_run_in_four_bits(place: Place) -> None:
    finish(place, "amazon-google", 7)
    commands = named("web-4-bits").commands(place)
    assert "quantize.bits=4" in next(commands)
    finish(place, "amazon-google-two-tower-4-bits", 7)
    packing, _ = commands
    assert Path(packing[-1]).name == "amazon-google-two-tower-4-bits"


def test_readme_is_what_its_figures_come_from() -> None:
    chosen = {task.name for task in dispatcher.selected(plan(), ["readme"])}
    runs = {"quickstart-7", "mwpd-category-7", "mwpd-category-mobile-7"}
    assert chosen == runs | {"deploy", "web-mwpd-category-mobile"}


def test_the_data_sets_are_those_of_the_recipe() -> None:
    assert named("mwpd-category-7").data_sets() == {"mwpd2020_classification"}
    assert named("compliance").data_sets() == {"mwpd2020_classification"}
    assert named("training").data_sets() == set()


def python(code: str) -> Callable[[Place], Iterator[Command]]:
    return lambda place: iter([[sys.executable, "-c", code]])


def never(place: Place) -> Iterator[Command]:
    raise EnvironmentProblem("there is no CUDA device")


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Four that end in each way; drawing the page is left out."""
    found = [
        Task("lacks", "peers", None, python("import sys; print('students: no textbrewer', file=sys.stderr); exit(4)")),
        Task("breaks", "one", None, python("import sys; print('the data are broken', file=sys.stderr); exit(3)")),
        Task("gpu", "one", None, never),
        Task("works", "two", None, python("print('{}')")),
    ]
    monkeypatch.setattr(dispatcher, "plan", lambda: found)
    monkeypatch.setattr(dispatcher, "module", lambda name: [sys.executable, "-c", "open('drawn', 'w')"])
    return found


def test_each_is_a_line_and_the_rest_goes_on(
    tasks: list[Task], place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dispatcher, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as ended:
        dispatcher.main(["all", "--data", str(place.data)])
    assert ended.value.code == 3
    output = capsys.readouterr()
    lines = [line.split(maxsplit=2)[1:] for line in output.out.splitlines()]
    assert lines[0] == ["lacks", "not run: students: no textbrewer"]
    assert lines[1] == ["breaks", "failed with exit code 3: the data are broken"]
    assert lines[2] == ["gpu", "not run: there is no CUDA device"]
    assert lines[3][0] == "works"
    assert lines[3][1].startswith("done in ")
    assert "the data are broken" in output.err
    assert (tmp_path / "drawn").exists()


def test_some_alone_by_name_or_group(
    tasks: list[Task], place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dispatcher, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as ended:
        dispatcher.main(["all", "--data", str(place.data), "--only", "peers", "works"])
    assert ended.value.code == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["lacks", "works"]
    with pytest.raises(SystemExit):
        dispatcher.main(["all", "--list", "--only", "one"])
    assert capsys.readouterr().out.split() == ["one", "breaks", "one", "gpu"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "--data is missing"),
        (["--data", "nowhere"], 3, "nowhere, which is no folder"),
        (["--data", "."], 3, "has no abt_buy, amazon_google"),
        (["--data", ".", "--only", "peers"], 2, "--only names peers, which is no benchmark"),
    ],
)
def test_one_sentence_for_what_is_missing(
    arguments: list[str],
    code: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dispatcher, "carry_out", lambda *_: pytest.fail("a benchmark was started"))
    with pytest.raises(SystemExit) as ended:
        dispatcher.main(["all", *arguments])
    assert ended.value.code == code
    error = capsys.readouterr().err
    assert error.startswith("benchmarks: ")
    assert sentence in error


def test_a_gpu_is_asked_for_only_where_there_is_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentProblem, match="no CUDA device"):
        started(named("kernels-cuda"), place)
    assert started(named("kernels"), place) == [planned.module("kernels", "--device", "cpu", "--rounds", "3")]

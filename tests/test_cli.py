"""The command line: start-up, exit codes, what goes to stderr and what a signal ends."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import compress.cli
from compress.errors import DataError, EnvironmentProblem, GateError, IntegrityError, KdcError
from compress.recipe import LoadedRecipe
from tests import fake_pipeline
from tests.fake_pipeline import RECIPE, FakePipeline
from tests.tiny_project import kdc

COMMANDS = (
    *("init", "check", "run", "teach", "distill", "quantize", "export", "bench", "package", "verify"),
    *("inspect", "predict", "doctor", "schema", "cache", "keygen"),
    *("push", "pull", "promote", "rollback", "versions"),
)

recipe = pytest.fixture(fake_pipeline.recipe)
pipeline = pytest.fixture(fake_pipeline.pipeline)


def fresh(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compress", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ---------------------------------------------------------------- start-up


def test_help_lists_every_command() -> None:
    shown = kdc("--help").output
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert kdc(command, "--help").exit_code == 0


@pytest.mark.parametrize("arguments", [["--help"], ["check", "bad.yaml"]])
def test_start_up_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text(RECIPE + "gatess: 1\n")
    program = (
        "import sys\nfrom compress.cli import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn', 'onnxruntime', 'numpy', 'pandas'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("train.csv:3 has no label"), 3),
        (EnvironmentProblem("torch is missing"), 4),
        (GateError("size is 30 MB, the limit is 12"), 5),
        (IntegrityError("a byte changed"), 6),
    ],
)
def test_errors_are_one_sentence_and_a_code(recipe: Path, pipeline: FakePipeline, error: KdcError, code: int) -> None:
    pipeline.error = error
    result = kdc("run", recipe)
    assert result.exit_code == code
    assert result.stdout == ""
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [
        (errno.EACCES, 4, "no permission for out.kdc"),
        (errno.EROFS, 4, "out.kdc lies on a file system that cannot be written to"),
        (errno.ENAMETOOLONG, 2, "the name out.kdc is longer than its file system allows"),
        (errno.ENOTDIR, 2, "out.kdc is a file, or lies below one"),
    ],
)
def test_what_a_person_can_mend_of_the_file_system_is_no_bug(
    recipe: Path, pipeline: FakePipeline, number: int, code: int, sentence: str
) -> None:
    """A container whose root cannot be written to is what `--target docker` advises."""
    pipeline.error = OSError(number, os.strerror(number), "out.kdc")
    result = kdc("run", recipe)
    assert (result.exit_code, sentence in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.output


def test_the_sentence_is_on_stderr(recipe: Path) -> None:
    done = fresh("check", recipe.with_name("none.yaml"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("kdc: ")
    assert "no such recipe file" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["chek"], ["run"], ["run", "x.yaml", "--sett", "a=1"], ["bench", "a", "--threads", "0"]]
)
def test_usage_errors_exit_2(arguments: list[str]) -> None:
    assert kdc(*arguments).exit_code == 2


def test_interrupt_exits_130(recipe: Path, pipeline: FakePipeline) -> None:
    pipeline.error = KeyboardInterrupt()
    assert kdc("run", recipe).exit_code == 130


def test_an_interrupt_while_the_commands_are_imported_is_one_sentence() -> None:
    """Half a second in which a traceback would say nothing to anybody."""
    program = (
        "import runpy, sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "sys.argv = ['kdc', 'doctor', '--json']\n"
        "runpy.run_module('compress', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "kdc: interrupted before anything was begun\n")
    assert json.loads(done.stdout) == {"error": "interrupted before anything was begun", "exit_code": 130}


def test_sigterm_is_told_and_exits_143(
    recipe: Path, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As shells and schedulers have it: 128 + 15. A second one would end it at once."""

    def run(loaded: LoadedRecipe, *, runs: Path, until: str | None = None, sign: Path | None = None) -> dict[str, Any]:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setattr(sys, "argv", ["kdc", "run", str(recipe), "--json"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            compress.cli.main()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr()
    assert caught.value.code == 143
    assert "ended by SIGTERM; state is safe: the same command goes on from here" in said.err
    assert json.loads(said.out)["exit_code"] == 143


def test_a_bug_has_a_traceback_and_exits_1(
    recipe: Path, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.error = ZeroDivisionError("oops")
    monkeypatch.setattr(sys, "argv", ["kdc", "run", str(recipe)])
    with pytest.raises(SystemExit) as caught:
        compress.cli.main()
    shown = capsys.readouterr().err
    assert caught.value.code == 1
    assert "Traceback" in shown
    assert "this is a bug of kdc" in shown

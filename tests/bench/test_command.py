"""`kdc bench` from the command line: exit codes, files, forms of output, Ctrl-C."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from compress.bench import measure
from compress.bench.files import read_results
from compress.bench.memory import Memory
from compress.bundle.write import write_bundle
from compress.cli import app
from compress.errors import EnvironmentProblem
from compress.paths import session
from tests.bench.test_report import Page
from tests.tiny import tiny_deployable, tiny_requests


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_SECONDS", 0.05)
    monkeypatch.setattr(session.memory, "taken", lambda *_, **__: Memory(1.0))
    monkeypatch.setattr(session.start_up, "startup_ms", lambda *_, **__: 1.0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "model", "classification")


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(argument) for argument in arguments), "--quiet"])


def test_a_server_row_in_a_file_and_as_json(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    done = bench(
        model, "--scenario", "server", "--qps", 2000, "--queries", 50, "-o", out, "--json", "--fail-if", "p99_ms>1e6"
    )
    assert done.exit_code == 0, done.output
    (printed,) = json.loads(done.stdout)["latency"]
    (kept,) = read_results(out)
    assert (kept["scenario"], kept["offered_qps"], kept["requests"]) == ("server", 2000, 50)
    assert printed.items() <= kept.items()
    assert kept["device"]["cores"] >= 1
    assert len(kept["sha256"]) == 64


def test_a_limit_that_is_broken_ends_with_5_after_the_rows(model: Path) -> None:
    done = bench(model, "--scenario", "single-stream", "--queries", 20, "--fail-if", "p50_ms>0", "--format", "csv")
    assert done.exit_code == 5
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert float(row["p50_ms"]) > 0
    assert "p50_ms>0: model (onnxruntime-cpu, single-stream, 1 thread(s)): p50_ms is" in done.stderr


def test_two_files_compared(model: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for out in (one, other):
        assert bench(model, "--scenario", "single-stream", "--queries", 20, "-o", out).exit_code == 0
    done = bench("--compare", one, other, "--format", "markdown")
    assert done.exit_code == 0
    assert "p50_ms_ratio" in done.stdout.splitlines()[0]
    assert bench("--compare", one, other, "--fail-if", "p50_ms_ratio>0").exit_code == 5
    assert bench("--compare", one, other, "--json").exit_code == 0
    assert "×" in bench("--compare", one, other).stdout


def test_no_rate_holds_the_bound(model: Path) -> None:
    done = bench(model, "--find-qps", "--p99-ms", 0.0001, "--json")
    assert done.exit_code == 5
    (row,) = json.loads(done.stdout)["latency"]
    assert row["offered_qps"] is None
    assert (row["model_bytes"], row["peak_mb"]) == ((model / "model.onnx").stat().st_size, 1.0)
    assert "the lowest p99 seen is" in done.stderr


def test_ctrl_c_keeps_the_finished_rounds(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario before is complete; of the one that was interrupted what was finished is marked partial."""
    turn, offline_turns = measure._Scenario._turn, 0

    def interrupted(self: Any, *arguments: Any) -> Any:
        nonlocal offline_turns
        offline_turns += self.scenario == "offline"
        if offline_turns == 2:
            raise KeyboardInterrupt
        return turn(self, *arguments)

    monkeypatch.setattr(measure._Scenario, "_turn", interrupted)
    out = tmp_path / "results.jsonl"
    done = bench(model, "--queries", 20, "-o", out)
    assert done.exit_code == 130
    single, offline = read_results(out)
    assert (single["scenario"], single["partial"]) == ("single-stream", None)
    assert (offline["scenario"], offline["partial"], offline["rounds"]) == ("offline", True, 1)
    assert offline["p50_ms"] > 0
    assert f"2 rows were measured and are in {out}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--scenario", "server"], 2, "--scenario server and --qps belong together"),
        (["--qps", "100"], 2, "--scenario server and --qps belong together"),
        (["--scenario", "server", "--qps", "-1"], 2, "--qps is -1"),
        (["--scenario", "burst"], 2, "--scenario is"),
        (["--find-qps"], 2, "--find-qps and --p99-ms belong together"),
        (["--find-qps", "--p99-ms", "5", "--qps", "3"], 2, "--qps has no effect together with --find-qps"),
        (["--find-qps", "--p99-ms", "5", "--queries", "30", "--loadgen"], 2, "have no effect together with --find-qps"),
        (["--fail-if", "speed>3"], 2, "--fail-if names 'speed'"),
        (["--fail-if", "artifact>3"], 2, "--fail-if names 'artifact', which is no figure of a row"),
        (["--fail-if", "p99_ms_ratio>3"], 2, "'p99_ms_ratio', which only compared rows have: give it with --compare"),
        (["-o", "results.txt"], 2, "-o results.txt does not end in .jsonl"),
        (["--json", "--format", "csv"], 2, "two forms of one output"),
        (["--compare"], 2, "--compare takes two files"),
        (["--scenario", "server", "--qps", "100", "--qps", "0"], 2, "--qps is 0"),
        (["--report", "results.jsonl"], 2, "--report results.jsonl does not end in .html"),
        (["--compare", "--report", "out.html"], 2, "--report has no effect together with --compare"),
        (["rows.jsonl", "--report", "out.html"], 2, "rows.jsonl is a file of results, which is drawn, and"),
        (["rows.jsonl"], 2, "--report OUT.html draws it"),
        (["rows.jsonl", "--report", "out.html", "--length", "9"], 2, "--length has no effect together with files"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(model: Path, arguments: list[str], code: int, sentence: str) -> None:
    done = bench(model, *arguments)
    assert done.exit_code == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_starting_up_keeps_the_latencies(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.start_up, "startup_ms", interrupted)
    out = tmp_path / "results.jsonl"
    asked = ["--scenario", "single-stream", "--queries", 10, "--length", 6, "--price-per-core-hour", 0.04]
    assert bench(model, *asked, "-o", out).exit_code == 130
    (row,) = read_results(out)
    assert row["partial"] is True
    assert row["p50_ms"] > 0
    assert (row["length"], len(row["sha256"]), row["startup_ms"]) == (6, 64, None)
    assert row["cost_per_million"] > 0


def test_a_foreign_results_file_is_refused_before_the_work(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes.jsonl"
    out.write_text('{"schema": 7}\n')
    done = bench(model, "-o", out)
    assert done.exit_code == 3
    assert "schema 7" in done.stderr
    assert out.read_text() == '{"schema": 7}\n'
    assert bench("--compare", out, tmp_path / "none.jsonl").exit_code == 3


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ('{"text": "red shoe", "label": "cat"}\n', "the data are of another task than the model"),
        ('{"text": "red shoe"}\n', "has no 'label'"),
        ('{"title": "red shoe", "label": "shoes"}\n', "has no 'text'"),
        ('{"text": "red shoe", "label": null}\n', "data.txt:1 has no label (it is None)"),
        ('{"text": "a", "label": "shoes"}\n{"text": "b", "label": NaN}\n', "data.txt:2 has no label (it is nan)"),
        ("text,label\nred shoe,shoes\nblue shoe,\n", "data.txt:3 has no label (it is '')"),
        ('{"text": "red shoe", "label": ["shoes"]}\n', "data.txt:1 has ['shoes'] under 'label'"),
        ('{"text": "red shoe", "label": "shoes", "group": {}}\n', "data.txt:1 has {} under 'group'"),
        ("", "is empty"),
        ("text,label\n", "has a header and no request below it"),
    ],
)
def test_data_that_do_not_fit_end_with_3(model: Path, tmp_path: Path, rows: str, sentence: str) -> None:
    data = tmp_path / "data.txt"
    data.write_text(rows)
    done = bench(model, "--data", data, "-o", tmp_path / "out.jsonl")
    assert done.exit_code == 3
    assert not (tmp_path / "out.jsonl").exists()
    assert sentence in done.stderr


@pytest.mark.parametrize("option", ["--data", "--requests"])
def test_texts_that_no_model_reads_are_refused(model: Path, tmp_path: Path, option: str) -> None:
    bare = tmp_path / "bare.onnx"
    shutil.copy(model / "model.onnx", bare)
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "red shoe", "label": "shoes"}\n')
    done = bench(bare, option, texts)
    assert done.exit_code == 2
    assert f"{option} needs texts, but bare.onnx has no tokenizer.json" in done.stderr


def test_what_was_measured_is_printed_where_the_disk_is_full(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: Any) -> None:
        raise EnvironmentProblem(f"the disk is full: {path}")

    monkeypatch.setattr(session, "append_results", full)
    done = bench(model, "--scenario", "single-stream", "--queries", 10, "-o", tmp_path / "r.jsonl", "--format", "csv")
    assert done.exit_code == 4
    assert "the disk is full" in done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["scenario"] == "single-stream"


@pytest.mark.parametrize(("option", "name"), [("-o", "rows.jsonl"), ("--report", "page.html")])
def test_a_file_that_cannot_be_written_is_told_before_the_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str
) -> None:
    def measured(*_: object, **__: object) -> None:
        raise AssertionError("something was measured")

    monkeypatch.setattr("compress.paths.session.Session.run", measured)
    done = bench(model, option, f"/proc/{name}")
    assert done.exit_code == 4
    assert f"{option} /proc/{name} cannot be written (No such file or directory)" in done.stderr
    (tmp_path / "file").touch()
    done = bench(model, option, tmp_path / "file" / name)
    assert done.exit_code == 2
    assert f"lies below {tmp_path / 'file'}, which is no folder" in done.stderr


def test_rows_are_printed_where_their_file_went_away_meanwhile(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that turns read-only: everything but a full disk used to end as a bug, without the rows."""
    append, out = session.append_results, tmp_path / "r.jsonl"

    def gone(path: Path, *arguments: Any) -> None:
        path.mkdir()
        append(path, *arguments)

    monkeypatch.setattr(session, "append_results", gone)
    done = bench(model, "--scenario", "single-stream", "--queries", 10, "-o", out, "--format", "csv")
    assert done.exit_code == 4
    assert f"the system refuses (Is a directory): {out} could not be written" in done.stderr
    assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 1


def test_a_partial_row_is_printed_as_partial(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.start_up, "startup_ms", interrupted)
    for form in ("table", "markdown"):
        done = bench(model, "--scenario", "single-stream", "--queries", 10, "--format", form)
        assert done.exit_code == 130
        assert (
            done.stdout.replace("│", "|").splitlines()[-2 if form == "table" else -1].rstrip(" |").endswith("partial")
        )
        assert "1 row was measured and is printed" in done.stderr


def test_ctrl_c_before_anything_was_measured(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(measure._Scenario, "_warm_up", interrupted)
    done = bench(model)
    assert (done.exit_code, done.stdout) == (130, "")
    assert "interrupted; nothing was measured yet" in done.stderr


def test_more_threads_than_cores_are_warned_of(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.bench.machine.usable_cores", lambda: 2)
    done = bench(model, "--scenario", "single-stream", "--queries", 10, "--threads", 3)
    assert done.exit_code == 0
    assert "3 threads were asked for, but this process may use 2 cores" in done.stderr


def drawn(page: Path) -> list[dict[str, Any]]:
    """The rows that a report holds."""
    rows: list[dict[str, Any]] = json.loads(Page(page.read_text(encoding="utf-8")).scripts[0])
    return rows


def test_several_rates_are_one_command_and_one_curve(model: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "results.jsonl", tmp_path / "new" / "report.html"
    asked = ["--scenario", "single-stream", "--scenario", "server", "--qps", 2000, "--qps", 4000, "--queries", 20]
    assert bench(model, *asked, "-o", out, "--report", page).exit_code == 0
    rows = read_results(out)
    assert [(row["scenario"], row["offered_qps"]) for row in rows] == [
        ("single-stream", None),
        ("server", 2000),
        ("server", 4000),
    ]
    assert drawn(page) == rows
    again = tmp_path / "again.html"
    assert bench(out, "--report", again).exit_code == 0
    assert again.read_bytes() == page.read_bytes()


def test_files_are_drawn_together_and_held_to_conditions(model: Path, tmp_path: Path) -> None:
    one, other, page = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "report.html"
    for out in (one, other):
        assert bench(model, "--scenario", "single-stream", "--queries", 10, "-o", out).exit_code == 0
    done = bench(one, other, "--report", page, "--fail-if", "p50_ms>0", "--json")
    assert done.exit_code == 5
    assert len(json.loads(done.stdout)["latency"]) == 2
    assert drawn(page) == [*read_results(one), *read_results(other)]


def test_a_report_is_no_folder_and_of_no_foreign_or_empty_file(tmp_path: Path) -> None:
    rows, folder = tmp_path / "rows.jsonl", tmp_path / "site.html"
    folder.mkdir()
    rows.write_text('{"schema": 7}\n')
    done = bench(rows, "--report", tmp_path / "out.html")
    assert done.exit_code == 3
    assert "rows.jsonl:1 is a bench result of schema 7" in done.stderr
    rows.write_text("")
    assert bench(rows, "--report", tmp_path / "out.html").exit_code == 3
    assert bench(tmp_path / "none.jsonl", "--report", tmp_path / "out.html").exit_code == 3
    assert bench(rows, "--report", folder).exit_code == 2
    assert folder.is_dir()
    assert not (tmp_path / "out.html").exists()


def test_the_report_of_what_was_measured_before_ctrl_c(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.start_up, "startup_ms", interrupted)
    page = tmp_path / "report.html"
    assert bench(model, "--scenario", "single-stream", "--queries", 10, "--report", page).exit_code == 130
    assert [row["partial"] for row in drawn(page)] == [True]
    assert "was interrupted: its row is partial" in page.read_text(encoding="utf-8")


def test_a_certificate_stands_in_the_first_row_of_its_model(tmp_path: Path, model: Path) -> None:
    certified = {"rows": 3, "comparisons": []}
    bundle = write_bundle(
        model,
        tmp_path / "shop.kdc",
        name="shop",
        golden=tiny_requests(),
        metrics={},
        provenance={},
        certificate=certified,
    )
    out = tmp_path / "results.jsonl"
    done = bench(model, bundle, "--queries", 10, "-o", out, "--json")
    assert done.exit_code == 0, done.output
    found = {(row["artifact"], row["scenario"]): row.get("certificate") for row in read_results(out)}
    assert found.pop(("shop.kdc", "single-stream")) == certified
    assert set(found.values()) == {None}
    assert "certificate" not in json.loads(done.stdout)["latency"][0]

"""The report of bench rows: what it shows, what it says where there is nothing, and what it never mixes."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.browser import browsing
from compress.bench.charts import HEIGHT
from compress.bench.files import SCHEMA, append_results, origin, read_results
from compress.bench.results import BenchResult, TriedRate
from compress.bench.results_report import check_report, render_results, write_results_report
from compress.bench.statistics import figures
from compress.errors import DataError, RecipeError
from tests.bench.test_report import HOSTILE, Page, hostile_everywhere

DEVICE: dict[str, Any] = {"processor": "Abacus 9", "cores": 4, "governor": "performance", "warnings": []}
Row = dict[str, Any]


def row(artifact: str = "shop.kdc", milliseconds: float = 2.0, device: Any = DEVICE, **changes: Any) -> Row:
    """A row as a file of results has it, with a thousand calls of 1 to 1.999 times as many milliseconds."""
    calls = [round((1 + number / 1000) * milliseconds * 1e6) for number in range(1000)]
    fields = {"scenario": "single-stream", "threads": 1, "requests": 1000, "qps": 1000 / milliseconds}
    result = BenchResult(**(fields | {"artifact": artifact} | figures(calls) | changes))
    return {**origin(device), "date": "2026-11-23T10:00:00+00:00", **result.model_dump(), "notes": []}


def part(page: str, title: str) -> str:
    """The section of a title."""
    found = re.search(rf"<section><h2>{re.escape(title)}</h2>(.*?)</section>", page, re.DOTALL)
    assert found, title
    return found[1]


@pytest.fixture
def rows() -> list[Row]:
    judged: Row = {
        "metric": "macro_f1",
        "quality_rows": 500,
        "startup_ms": 120.0,
        "peak_mb": 88.0,
        "size_bytes": 8_200_000,
    }
    tried = [
        TriedRate(
            offered_qps=100.0 * n, qps=min(100.0 * n, 250), requests=500, p50_ms=2.0 * n, p99_ms=4.0 * n, verdict="held"
        )
        for n in (3, 1, 2)
    ]
    server: Row = {"scenario": "server", "load": "loadgen 6"}
    return [
        row("shop.kdc", 2.0, quality=0.91, quality_low=0.9, quality_high=0.92, **judged),
        row("teacher", 8.0, quality=0.93, quality_low=0.92, quality_high=0.94, **judged),
        row("shop.kdc", 30.0, scenario="offline", batch=32),
        row("shop.kdc", 8.0, offered_qps=200.0, p99_bound_ms=10.0, tried_rates=tuple(tried), **server),
        row("teacher", 9.0, offered_qps=50.0, **server),
        row("teacher", 12.0, offered_qps=80.0, **server),
    ]


def test_every_picture_is_drawn_of_the_rows_alone(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_results(path, rows, {})
    write_results_report(read_results(path), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads(Page(page).scripts[0]) == read_results(path)
    assert Page(page).visible.strip().startswith("Bench results · kdc report")
    assert "macro_f1 against p50 latency: shop.kdc 0.910 at 3.00 ms; teacher 0.930 at 12.0 ms" in page
    assert "shop.kdc has the lowest median latency: 3.00 ms (95% interval" in page
    assert "shop.kdc 88.0 MB" in part(page, "Size and memory")
    assert "shop.kdc 8.20 MB" in part(page, "Size and memory")
    assert "shop.kdc 120 ms" in part(page, "Start-up")
    assert "offline" in part(page, "Throughput")
    assert "server" not in part(page, "Throughput")
    for attributes in (attributes for _, attributes in Page(page).elements):
        assert not {"src", "href", "srcset"} & set(attributes)


def test_the_curve_under_load_has_the_tried_and_the_measured_rates(rows: list[Row]) -> None:
    drawn = part(render_results(rows), "Latency under rising load")
    assert "shop.kdc 4.00 at 100, 8.00 at 200, 12.0 at 300" in drawn
    assert re.search(r"teacher \d+\.\d at 50, \d+\.\d at 80", drawn)
    assert drawn.count('class="dot hollow') == 2, "300 a second were offered, 250 answered: in p50 and in p99"
    assert "10.0 ms" in drawn, "the bound"


def test_few_random_arrivals_below_their_mean_rate_are_no_queue_that_grew() -> None:
    """The rate of 100 Poisson arrivals has a standard deviation of a tenth of its mean, of 10,000 a hundredth."""
    server: Row = {"scenario": "server", "load": "loadgen 6", "offered_qps": 100.0, "qps": 93.0}
    for requests, hollow in ((100, 0), (10_000, 2)):
        drawn = part(render_results([row("shop.kdc", requests=requests, **server)]), "Latency under rising load")
        assert drawn.count('class="dot hollow') == hollow


def test_a_distribution_is_drawn_on_both_tails(rows: list[Row]) -> None:
    """1% and 99% are as far from the median; latencies are on a logarithmic axis."""
    drawn = part(render_results(rows[:1]), "Latency distributions")
    dots = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>shop.kdc, ([-\d.]+): ([\d.]+)', drawn)
    assert len(dots) == 11
    at = {float(logit): (float(x), float(y), float(ms)) for x, y, logit, ms in dots}
    (low, _, _), (middle, _, median), (high, _, _) = (at[logit] for logit in (-4.59512, 0, 4.59512))
    assert middle - low == pytest.approx(high - middle, abs=0.2)
    assert median == 3.0
    assert all(0 < y < HEIGHT for _, y, _ in at.values())


def test_what_rows_lack_is_not_run_and_why() -> None:
    bare = row(latency_quantiles_ms=None)
    old = {key: value for key, value in bare.items() if key not in {"latency_quantiles_ms", "tried_rates", "notes"}}
    page = render_results([old])
    for title, why in (
        ("Quality against latency", "no single-stream row has a quality"),
        ("Latency distributions", "no row has quantiles"),
        ("Latency under rising load", "no row has a rate"),
        ("Size and memory", "no row has a size"),
        ("Start-up", "no start-up was measured"),
        ("Certificate", "no artifact has a certificate"),
    ):
        assert f"not run: {why}" in part(page, title)
    assert "Not measured in any row: p50 low, p50 high, CPU ms, tokenizer ms, start-up ms" in part(page, "Every row")


def test_a_row_that_was_not_run_is_there_with_its_reason(rows: list[Row]) -> None:
    gone = BenchResult.not_run("shop.kdc", "offline", threads=1, batch=32, reason="openvino is not installed")
    page = render_results([*rows, {**origin(DEVICE), **gone.model_dump(), "notes": []}])
    assert "openvino is not installed" in part(page, "Not run")
    assert "not run: openvino is not installed" in part(page, "Every row")
    assert "Not run</h2>" not in render_results(rows)


def test_a_note_of_many_rows_stands_above_them_once() -> None:
    said = {"notes": ["in 5 of 5 rounds the processor was slow: unsafe to quote"]}
    page = render_results([row(name, 2.0, scenario=how) | said for name in ("a", "b") for how in ("offline", "server")])
    shown = page.split("<section>")[0]
    assert shown.count("the processor was slow") == 1
    told = "a (onnxruntime-cpu, offline), a (onnxruntime-cpu, server), b (onnxruntime-cpu, offline), "
    assert f"{told}b (onnxruntime-cpu, server): in 5 of 5 rounds" in shown


def test_latencies_of_a_search_without_a_rate_are_not_told_as_a_rates() -> None:
    server: Row = {"scenario": "server", "load": "loadgen 6", "p99_bound_ms": 1.0}
    none = row("slow", 9.0, status="no rate: p99 is within 1 ms at none; the lowest p99 seen is 18 ms", **server)
    drawn = part(render_results([row("fast", 0.1, offered_qps=50.0, **server), none]), "Latency distributions")
    assert re.findall(r"<h3>(.*?)</h3>", drawn) == [
        "server, highest rate within 1 ms",
        "no rate within 1 ms: the lowest p99 seen",
    ]


def test_devices_never_share_a_picture(rows: list[Row]) -> None:
    """What a machine was doing makes no other machine of it; another number of cores does."""
    busy = DEVICE | {"load_average": 3.0, "warnings": ["other work kept 3.0 of 4 cores busy"]}
    other = DEVICE | {"cores": 8}
    page = render_results([rows[0], row("teacher", 4.0, busy), row("teacher", 1.0, other)])
    assert re.findall(r'<h2 class="device">(.*?)</h2>', page) == ["Abacus 9, 4 cores", "Abacus 9, 8 cores"]
    first, second = page.split("Abacus 9, 8 cores</h2>")[:2]
    assert "teacher 1,000 /s" not in first
    assert "throughput single-stream: shop.kdc 500 /s, teacher 250 /s" in first
    assert "throughput single-stream: teacher 1,000 /s" in second
    assert "Abacus 9, 4 cores: other work kept 3.0 of 4 cores busy" in page
    assert '<th scope="col"><button type="button">device</button></th>' in page


def test_partial_rows_and_repeats_are_told(rows: list[Row]) -> None:
    page = render_results([row("shop.kdc", ms) for ms in (1.0, 9.0, 2.0)] + [row("teacher", 0.1, partial=True)])
    assert 'throughput single-stream: shop.kdc 500 /s"' in page
    assert "Some were measured several times" in page
    assert "teacher (onnxruntime-cpu, single-stream) was interrupted: its row is partial, and in no picture" in page
    table = part(page, "Every row")
    assert table.count("<tr>") == 5
    assert '<span class="chip bad">partial</span>' in table


def test_conditions_that_make_figures_unsafe(rows: list[Row]) -> None:
    noted = row(device=DEVICE | {"governor": "powersave"}, threads=8)
    noted["notes"] = ["heat slowed the processor down 3 times while this was measured: unsafe to quote"]
    page = render_results([noted, row(device=DEVICE | {"governor": "powersave", "versions": {"onnxruntime": "9"}})])
    for said in (
        "the frequency policy is powersave",
        "8 threads were asked for, but this process may use 4 cores",
        "shop.kdc (onnxruntime-cpu, single-stream): heat slowed the processor down 3 times",
        "the rows differ in versions of libraries",
        "shop.kdc, 8 threads",
    ):
        assert said in page, said


def test_two_models_of_one_name_are_told_apart_by_their_hashes() -> None:
    page = render_results([row(sha256="a" * 64), row(milliseconds=1.0, sha256="b" * 64)])
    assert "throughput single-stream: shop.kdc, aaaaaaaa 500 /s, shop.kdc, bbbbbbbb 1,000 /s" in page


def test_the_certificate_of_a_row_is_drawn(rows: list[Row]) -> None:
    summary = json.loads(Path(__file__).with_name("summary.json").read_text(encoding="utf-8"))
    drawn = part(render_results([rows[0] | {"certificate": summary["certificate"]}]), "Certificate of shop.kdc")
    assert "label: shoes" in drawn
    assert '<span class="chip bad">flagged</span>' in drawn


def test_hostile_rows_stay_text(rows: list[Row]) -> None:
    bad = [hostile_everywhere(each) for each in rows]
    for each, scenario in zip(bad, ("single-stream", "single-stream", "offline", "server", "server", "x"), strict=True):
        each.update(scenario=scenario, status="ok")
    page = Page(render_results(bad))
    assert not [tag for tag, _ in page.elements if tag in {"img", "iframe"}]
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert len(page.scripts) == 2
    assert json.loads(page.scripts[0]) == json.loads(json.dumps(bad))
    assert HOSTILE in page.visible


FIELDS = sorted(row())


@pytest.mark.parametrize("key", FIELDS)
@pytest.mark.parametrize("value", [None, [], {}, -1, "gone", [[2, 0], [0.5, -1], "x"]])
def test_any_field_may_be_missing_or_something_else(rows: list[Row], key: str, value: Any) -> None:
    bad = copy.deepcopy(rows)
    for each in bad[::2]:
        each[key] = value
    for given in (bad, [{k: v for k, v in each.items() if k != key} for each in rows]):
        assert json.loads(Page(render_results(given)).scripts[0]) == json.loads(json.dumps(given))


def test_in_a_browser_it_fits_a_phone_and_sorts_by_keyboard(rows: list[Row], browser: str, tmp_path: Path) -> None:
    long = [row("a-model-with-a-very-long-name-" * 4 + ".kdc", target="a-target-" * 6)]
    write_results_report([*rows, *long], tmp_path / "report.html")
    with browsing(browser) as page:
        page.open((tmp_path / "report.html").as_uri())
        for width in (1280, 390, 320):
            page.resize(width, 800)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(
            "head = [...document.querySelectorAll('th')].find((each) => each.textContent === 'p50 ms');"
            "head.firstElementChild.focus()"
        )
        shown = (
            "[...head.closest('table').tBodies[0].rows].map((each) => Number(each.cells[head.cellIndex].dataset.value))"
        )
        for order, descending in (("ascending", False), ("descending", True)):
            page.press("Enter", "\r")
            assert page.evaluate("head.getAttribute('aria-sort')") == order
            found = page.evaluate(shown)
            assert found == sorted(found, reverse=descending)
        assert page.problems == []


def test_a_row_of_another_schema_is_refused(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_results(path, [rows[0] | {"schema": SCHEMA + 1}], {})
    with pytest.raises(DataError, match=f"rows.jsonl:1 is a bench result of schema {SCHEMA + 1}"):
        read_results(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "report", "model.onnx"])
def test_a_report_is_never_written_over_something_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"does not end in \.html"):
        check_report(tmp_path / name)
    check_report(tmp_path / "report.HTML")


def test_a_single_rate_is_drawn(rows: list[Row]) -> None:
    assert "teacher" in part(render_results(rows[4:5]), "Latency under rising load")

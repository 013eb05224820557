"""The report holds what the summary says, opens offline, and survives hostile or missing parts."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.bench.charts import WIDTH, Point, Scale, frontier, place_labels
from compress.bench.report import render, write_report
from compress.bench.verdict import headline, warnings

HOSTILE = "</script><img src=x onerror=alert(1)><!-- \"' $body ]]>"
VOID = {"meta", "line", "polyline", "img", "link", "br"}


@pytest.fixture
def summary() -> dict[str, Any]:
    """Made-up values: no model was trained for them."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("summary.json").read_text(encoding="utf-8"))
    return found


class Page(HTMLParser):
    """Elements, their balance, the visible text and the embedded JSON of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.visible, self.scripts = "", []
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.visible += data

    @property
    def summary(self) -> Any:
        return json.loads(self.scripts[0])


def test_the_file_is_written_and_carries_the_whole_summary(summary: dict[str, Any], tmp_path: Path) -> None:
    write_report(summary, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.summary == summary
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_nothing_outside_the_file_is_referred_to(summary: dict[str, Any]) -> None:
    page = render(summary)
    for tag, attributes in Page(page).elements:
        assert not {"src", "href", "xlink:href", "srcset", "action"} & set(attributes), (tag, attributes)
        assert tag not in {"link", "iframe", "img", "object", "embed"}
    assert "url(" not in page
    assert "@import" not in page


def test_the_headline_and_figures_are_there(summary: dict[str, Any]) -> None:
    visible = Page(render(summary)).visible
    assert headline(summary) == (
        "The shipped model keeps 98.5% of the teacher's macro_f1, answers 31× faster, is 35× smaller; "
        "distillation gained +2.1 points over the same student on hard labels."
    )
    for expected in (headline(summary), "0.913", "8.43 ms", "22.7 M", "91.6 MB", "imitate", "align", "not met"):
        assert expected in visible


def test_a_worse_model_is_called_worse(summary: dict[str, Any]) -> None:
    summary.update(speedup=0.5, distillation_gain=-0.013)
    assert "answers 2.0× slower" in headline(summary)
    assert "distillation lost 1.3 points against the same student" in headline(summary)
    assert any(alarm and "gained nothing" in sentence for alarm, sentence in warnings(summary))


def test_weights_and_temperature_are_drawn_where_they_moved(summary: dict[str, Any]) -> None:
    """Not where they are constant, up to the rounding of means; their lines are not among the losses."""
    student = summary["history"]["student"]
    for number, row in enumerate(student):
        row |= {"temperature": 4.0 - number / 2, "weight.soft": 1.0 + 1e-9 * number, "weight.hard": 0.2}
    page = render(summary)
    assert "Temperature of the student" in page
    assert "Weights of the losses of the student" not in page
    assert "weight.soft" not in Page(page).visible
    student[-1] |= {"weight.hard": 0.4, "weight.gone": "much"}
    visible = Page(render(summary)).visible
    assert "Weights of the losses of the student" in visible
    assert "weights of the losses of the student by epoch, last hard 0.4, soft 1" in render(summary)


def test_a_measure_where_less_is_better_reads_the_right_way(summary: dict[str, Any]) -> None:
    """Errors have a unit: no points, and the teacher's share is turned round."""
    summary |= {"metric": "rmse", "retention_metric": "rmse", "retention": 0.8, "distillation_gain": 1.25}
    for model in summary["models"].values():
        if model:
            model["quality"] = {"rmse": 1234.5}
    for rows in summary["history"].values():
        for number, row in enumerate(rows):
            row["metric"] = 10.0 - number
    said = headline(summary)
    assert "has 1.25 times the teacher's rmse" in said
    assert "distillation lowered rmse by 1.25 against the same student" in said
    page = render(summary)
    assert "Down and to the left is better" in page
    assert "teacher's rmse ÷ shipped" in page.replace("&#x27;", "'")
    assert "1,234" in page
    last = 10.0 - (len(summary["history"]["student"]) - 1)
    assert f"student best {last:.3f}" in page
    summary["distillation_gain"] = -0.5
    assert "distillation raised rmse by 0.500 against" in headline(summary)


def test_warnings_are_loud_where_they_must_be(summary: dict[str, Any]) -> None:
    summary["notes"].append("a cheap model beats the teacher, which is not worth distilling")
    summary["device"]["warnings"] = ["the load average was 3.0"]
    summary["stages"][3].update(status="failed", reason="out of ink")
    found = {sentence: alarm for alarm, sentence in warnings(summary)}
    assert found["Gate not met: size_mb is 2.71, the limit is 2.50."]
    assert found["Stage outputs failed: out of ink."]
    assert not found["the load average was 3.0"]
    assert found["a cheap model beats the teacher, which is not worth distilling"]
    assert any(alarm and "simulated" in s for s, alarm in found.items())
    page = render(summary)
    assert "a cheap model beats the teacher" in page


def hostile_everywhere(value: Any) -> Any:
    """The same structure with the hostile text in every string and beside every key."""
    if isinstance(value, dict):
        return {key: hostile_everywhere(inner) for key, inner in value.items()} | {HOSTILE: HOSTILE}
    if isinstance(value, list):
        return [hostile_everywhere(inner) for inner in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_text_stays_text(summary: dict[str, Any]) -> None:
    bad = hostile_everywhere(summary)
    bad["models"][HOSTILE] = copy.deepcopy(bad["models"]["student"])
    for row, name in zip(bad["latency"], itertools.cycle(["student", HOSTILE]), strict=False):
        row.update(artifact=name, scenario="single-stream")
    page = Page(render(bad))
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert len(page.scripts) == 2
    assert page.summary == bad
    assert HOSTILE in page.visible


@pytest.mark.parametrize("key", sorted(json.loads(Path(__file__).with_name("summary.json").read_text())))
@pytest.mark.parametrize("value", [None, [], {}, "gone"])
def test_any_part_may_be_missing_or_empty(summary: dict[str, Any], key: str, value: Any) -> None:
    summary.pop(key) if value == "gone" else summary.update({key: value})
    assert Page(render(summary)).summary == summary


def test_every_candidate_of_the_automatic_choice_is_told(summary: dict[str, Any]) -> None:
    page = render(summary)
    drawn = page[page.index("<h2>What was tried</h2>") : page.index("<h2>Certificate</h2>")]
    for shown in (
        "dynamic-tensor",
        "below the floor",
        "4.6×",
        "8.20 MB",
        "0.031",
        "99.5%",
        "openvino is not installed",
    ):
        assert shown in drawn, shown
    assert '<span class="chip good">shipped</span>' in drawn
    assert "What was tried" not in render(summary | {"candidates": []})


def test_the_certificate_marks_flagged_slices_and_folds_the_others(summary: dict[str, Any]) -> None:
    page = render(summary)
    drawn = page[page.index("<h2>Certificate</h2>") :]
    short, every = drawn.split("<summary>Every slice</summary>")[:2]
    for shown in (
        "95% interval",
        "1,000 resamples",
        "in logits",
        "more than 2 times",
        "label: shoes",
        "−0.050",
        "0.981",
    ):
        assert shown in short, shown
    assert '<span class="chip bad">flagged</span>' in short
    assert "column brand: Alpha" not in short
    for shown in ("column brand: Alpha", "too small", "length: 3 to 6 tokens", '<span class="chip good">ok</span>'):
        assert shown in every, shown


def test_an_empty_summary_says_not_run() -> None:
    visible = Page(render({})).visible
    for reason in (
        "the summary has no models",
        "no training history",
        "nothing was timed",
        "no stages",
        "no certificate",
    ):
        assert re.search(f"not run: .*{reason}", visible)


def test_models_may_lack_anything(summary: dict[str, Any]) -> None:
    summary["models"]["control"] = {}
    summary["models"]["shipped"] = {"quality": {"macro_f1": math.nan}}
    summary["latency"][0].update(p50_ms=None, p90_ms=None, p99_ms=None, qps=None, status="not run: no teacher model")
    summary["history"]["student"] = [{"stage": "imitate", "epoch": 1}]
    visible = Page(render(summary)).visible
    assert "teacher: not run: no teacher model" in visible
    assert "no epoch has a loss" in visible


@given(
    st.lists(st.tuples(st.floats(110, 420), st.floats(60, 250)), min_size=1, max_size=5),
    st.lists(st.sampled_from(["teacher", "student", "control*", "shipped", "baseline"]), min_size=5, max_size=5),
)
def test_labels_do_not_overlap_and_stay_inside(anchors: list[tuple[float, float]], names: list[str]) -> None:
    boxes = place_labels(anchors, names[: len(anchors)])
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(box.x >= 0 and box.x + box.width <= WIDTH for box in boxes)


def test_the_frontier_holds_what_nothing_beats() -> None:
    points = [Point("a", 1, 0.5), Point("b", 2, 0.4), Point("c", 3, 0.9), Point("d", 3, 0.8), Point("e", 9, 0.9)]
    assert [p.name for p in frontier(points)] == ["a", "c"]
    lower = [Point(p.name, p.x, 1 - p.y) for p in points]
    assert [p.name for p in frontier(lower, higher_is_better=False)] == ["a", "c"]


@given(st.floats(1e-4, 1e4), st.floats(1.05, 1e5), st.booleans())
def test_axes_have_round_ticks_inside(low: float, factor: float, log: bool) -> None:
    scale = Scale(low, low * factor, 0, 100, log)
    ticks = scale.ticks()
    assert 0 < len(ticks) <= 28
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in ticks)
    assert all(-0.1 <= scale(tick) <= 100.1 for tick in ticks)

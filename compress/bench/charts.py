"""Small charts as inline SVG, drawn without a browser so the report also shows where scripts are blocked."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from compress.bench.markup import colour, significant, text

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 26, 42
LETTER, LINE = 8.4, 14.0
"""Width of a letter, for the widest of the usual fonts, and height of a line, in the chart's units (12 px bold)."""


@dataclass(frozen=True)
class Point:
    """One model in the quality-latency picture.

    hollow: its latency is another model's. css: colour class, where it is not that of the name. mark: what stands at
    the point in place of the name. low, high: interval of y.
    """

    name: str
    x: float
    y: float
    hollow: bool = False
    css: str | None = None
    mark: str | None = None
    low: float | None = None
    high: float | None = None

    @property
    def colour(self) -> str:
        """CSS class of its colour."""
        return self.css or colour(self.name)


@dataclass(frozen=True)
class Series:
    """One line: (x, y) points, a colour class, a dash pattern, and the x of points that are drawn hollow."""

    name: str
    points: Sequence[tuple[float, float]]
    css: str
    dash: str = ""
    hollow: Collection[float] = ()


@dataclass(frozen=True)
class Box:
    """A rectangle in the chart's units."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        """True when the two share some area."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


@dataclass(frozen=True)
class Scale:
    """Values low..high onto start..end in the chart's units, linear or by decades."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Place of a value."""
        low, high, at = (
            (math.log10(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values inside the range: decades and their parts where the range is wide enough, else even steps."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
                found = [m * 10.0**d for d in decades for m in steps if self.low <= m * 10.0**d <= self.high]
                if len(found) >= 3:
                    return found
        raw = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 12) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale(values: Sequence[float], start: float, end: float, *, log: bool = False, floor: float | None = None) -> Scale:
    """A scale with some air around the values; never below `floor`."""
    low, high = min(values), max(values)
    if log:
        margin = max((high / low) ** 0.12, 1.25)
        return Scale(low / margin, high * margin, start, end, log=True)
    air = (high - low) * 0.12 or max(abs(high) * 0.1, 0.01)
    low -= air
    return Scale(low if floor is None else max(low, floor), high + air, start, end)


def frontier(points: Sequence[Point], *, higher_is_better: bool = True) -> list[Point]:
    """Points that no other beats in both latency and quality, fastest first."""
    up = 1 if higher_is_better else -1
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -up * p.y)):
        if not best or up * point.y > up * best[-1].y:
            best.append(point)
    return best


def place_labels(anchors: Sequence[tuple[float, float]], labels: Sequence[str], avoid: Sequence[Box] = ()) -> list[Box]:
    """A box beside each anchor that overlaps no label, no point and nothing of `avoid`, if there is room."""
    taken = [*avoid, *(_around_dot(x, y) for x, y in anchors)]
    placed: list[Box] = []
    for (x, y), label in zip(anchors, labels, strict=True):
        width = len(label) * LETTER
        options = [
            Box(left, top, width, LINE)
            for distance in (8, 20, 34, 50, 68)
            for left, top in _around(x, y, width, distance)
        ]
        box = _first_free([b for b in options if _inside(b)] or options, taken)
        placed.append(box)
        taken.append(box)
    return placed


def _inside(box: Box) -> bool:
    return box.x >= LEFT and box.x + box.width <= WIDTH and TOP <= box.y <= HEIGHT - BOTTOM - LINE


def _first_free(options: Sequence[Box], taken: Sequence[Box]) -> Box:
    """The first box that overlaps nothing, or the first of all where every place is taken."""
    return next((box for box in options if not any(box.overlaps(other) for other in taken)), options[0])


def _around_dot(x: float, y: float) -> Box:
    return Box(x - 6, y - 6, 12, 12)


def _around(x: float, y: float, width: float, distance: float) -> list[tuple[float, float]]:
    middle = y - LINE / 2
    return [
        (x + distance, middle),
        (x - distance - width, middle),
        (x - width / 2, y - distance - LINE),
        (x - width / 2, y + distance),
        (x + distance, y - distance - LINE / 2),
        (x + distance, y + distance - LINE / 2),
        (x - distance - width, y - distance - LINE / 2),
        (x - distance - width, y + distance - LINE / 2),
    ]


def pareto(
    points: Sequence[Point], levels: Sequence[tuple[str, float]], metric: str, *, higher_is_better: bool = True
) -> str:
    """Quality against latency (log); `levels` are models without a latency, drawn as dashed lines."""
    xs = scale([p.x for p in points], LEFT, WIDTH - RIGHT, log=True)
    ends = [end for p in points for end in (p.low, p.high) if end is not None]
    ys = scale([p.y for p in points] + [y for _, y in levels] + ends, HEIGHT - BOTTOM, TOP)
    parts = [_axes(xs, ys, "p50 latency of a request, ms (log scale)", metric)]
    anchors = [(xs(p.x), ys(p.y)) for p in points]
    dots = [_around_dot(x, y) for x, y in anchors]
    names: list[Box] = []
    for name, level in levels:
        y, width = ys(level), len(name) * LETTER
        parts.append(f'<line class="level {colour(name)}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        sides = [Box(x, top, width, LINE) for x in (LEFT + 4, WIDTH - RIGHT - width) for top in (y - LINE - 2, y + 2)]
        names.append(_first_free([box for box in sides if _inside(box)] or sides, [*dots, *names]))
        parts.append(_label(name, colour(name), names[-1]))
    edge = [(xs(p.x), ys(p.y)) for p in frontier(points, higher_is_better=higher_is_better)]
    parts.append(f'<polyline class="frontier" points="{_path(edge)}"/>')
    for point, (x, y) in zip(points, anchors, strict=True):
        style = "dot hollow" if point.hollow else "dot"
        title = f"{point.name}: {metric} {point.y:.3f}, p50 {significant(point.x)} ms"
        if point.low is not None and point.high is not None:
            upright = f'y1="{ys(point.low):.1f}" y2="{ys(point.high):.1f}"'
            parts.append(f'<line class="line {point.colour}" x1="{x:.1f}" x2="{x:.1f}" {upright}/>')
        parts.append(
            f'<circle class="{style} {point.colour}" cx="{x:.1f}" cy="{y:.1f}" r="5.5">'
            f"<title>{text(title)}</title></circle>"
        )
    labels = [(p.mark or p.name) + ("*" if p.hollow else "") for p in points]
    boxes = place_labels(anchors, labels, names)
    parts += [_label(label, p.colour, box) for label, p, box in zip(labels, points, boxes, strict=True)]
    spoken = "; ".join(f"{p.name} {p.y:.3f} at {significant(p.x)} ms" for p in points)
    return _svg("".join(parts), f"{metric} against p50 latency: {spoken}")


def _label(shown: str, css: str, box: Box) -> str:
    place = f'x="{box.x:.1f}" y="{box.y + LINE - 3:.1f}"'
    return f'<text class="label {css}" {place}>{text(shown)}</text>'


def lines(
    series: Sequence[Series],
    stages: Sequence[tuple[str, float]],
    label: str,
    y_title: str,
    *,
    log: bool = False,
) -> str:
    """Lines over epochs; `stages` are (name, epoch at which the stage begins), drawn as separators."""
    xs_all = [x for s in series for x, _ in s.points]
    ys_all = [y for s in series for _, y in s.points]
    xs = Scale(0, max([*xs_all, 1.0]), LEFT, WIDTH - RIGHT)
    ys = scale(ys_all, HEIGHT - BOTTOM, TOP, log=log, floor=0 if min(ys_all) >= 0 else None)
    parts = [_axes(xs, ys, "epoch", y_title, whole=True)]
    parts.append(_separators(stages, xs))
    for line in series:
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        placed = [(xs(x), ys(y)) for x, y in line.points]
        parts.append(f'<polyline class="line {line.css}"{dash} points="{_path(placed)}"/>')
        for (px, py), (x, y) in zip(placed, line.points, strict=True):
            parts.append(
                f'<circle class="dot {line.css}" cx="{px:.1f}" cy="{py:.1f}" r="3">'
                f"<title>{text(line.name)}, epoch {x:g}: {significant(y)}</title></circle>"
            )
    return _svg("".join(parts), label) + legend(series)


def curve(series: Sequence[Series], x_title: str, y_title: str) -> str:
    """Lines over a logarithmic x, from y = 0 up, each named at its last point."""
    points = [point for line in series for point in line.points]
    xs = scale([x for x, _ in points], LEFT, WIDTH - RIGHT, log=True)
    ys = Scale(0, 1.2 * max(y for _, y in points), HEIGHT - BOTTOM, TOP)
    parts = [_axes(xs, ys, x_title, y_title)]
    names: list[Box] = []
    for line in series:
        parts.append(_drawn(line, xs, ys))
        placed = [(xs(x), ys(y)) for x, y in line.points]
        names += place_labels([placed[-1]], [line.name], [*names, *(_around_dot(x, y) for x, y in placed)])
        parts.append(_label(line.name, colour(line.name), names[-1]))
    return _svg("".join(parts), f"{y_title} against {x_title}: {_spoken(series)}")


def latencies(
    series: Sequence[Series], x_title: str, y_title: str, *, ticks: Sequence[tuple[float, str]] = (), level: float = 0
) -> str:
    """Lines of latencies, on a logarithmic axis; `legend` tells which is which.

    Args:
        ticks: places on an even x axis with what stands there; without them x is logarithmic, too. level: a latency
            that a dashed line is drawn at; 0 for none.
    """
    places = [x for line in series for x, _ in line.points]
    if ticks:
        xs = Scale(min(*places, -1), max(*places, 1), LEFT, WIDTH - RIGHT - 10)
    else:
        xs = scale(places, LEFT, WIDTH - RIGHT, log=True)
    ys = scale(
        [*(y for line in series for _, y in line.points), *([level] if level else [])], HEIGHT - BOTTOM, TOP, log=True
    )
    parts = [_axes(xs, ys, x_title, y_title, x_ticks=[each for each in ticks if xs.low <= each[0] <= xs.high])]
    if level:
        y = ys(level)
        parts.append(f'<line class="stage" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="stage" x="{LEFT + 4}" y="{y - 5:.1f}">{significant(level)} ms</text>')
    parts += [_drawn(line, xs, ys) for line in series]
    return _svg("".join(parts), f"{y_title} against {x_title}: {_spoken(series)}")


def _drawn(line: Series, xs: Scale, ys: Scale) -> str:
    """A line with a dot at each of its points."""
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    placed = [(xs(x), ys(y)) for x, y in line.points]
    dots = "".join(
        f'<circle class="dot{" hollow" if x in line.hollow else ""} {line.css}" cx="{px:.1f}" cy="{py:.1f}" r="3.5">'
        f"<title>{text(line.name)}, {x:g}: {significant(y)}</title></circle>"
        for (px, py), (x, y) in zip(placed, line.points, strict=True)
    )
    return f'<polyline class="line {line.css}"{dash} points="{_path(placed)}"/>{dots}'


def _spoken(series: Sequence[Series]) -> str:
    return "; ".join(f"{s.name} {', '.join(f'{significant(y)} at {x:g}' for x, y in s.points)}" for s in series)


def key(entries: Sequence[tuple[str, str]]) -> str:
    """What marks in a picture stand for: (colour class, what)."""
    items = "".join(f'<li><span class="swatch {css}"></span>{text(what)}</li>' for css, what in entries)
    return f'<ul class="legend listed">{items}</ul>'


def _separators(stages: Sequence[tuple[str, float]], xs: Scale) -> str:
    """A line where each stage but the first begins, and its name, cut to the room that it has."""
    ends = [*(xs(begins) for _, begins in stages[1:]), WIDTH]
    parts = []
    for (name, begins), end in zip(stages, ends, strict=True):
        x = xs(begins)
        room = int((end - x - 6) / LETTER)
        if begins > 0:
            parts.append(f'<line class="stage" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        shown = name if len(name) <= room else f"{name[: max(room - 1, 0)]}…"
        parts.append(f'<text class="stage" x="{x + 4:.1f}" y="{TOP - 8}">{text(shown)}</text>')
    return "".join(parts)


def bars(rows: Sequence[tuple[str, str, float, str]], label: str) -> str:
    """Horizontal bars from zero: (colour class, what, value, value as text); as HTML, so that it fits any width."""
    longest = max((value for _, _, value, _ in rows), default=0) or 1.0
    drawn = "".join(
        f'<div class="bar"><span class="bar-name">{text(what)}</span><span class="bar-track">'
        f'<span class="bar-fill {css}" style="width:{max(value, 0) / longest:.2%}"></span></span>'
        f'<span class="bar-value">{text(shown)}</span></div>'
        for css, what, value, shown in rows
    )
    spoken = ", ".join(f"{what} {shown}" for _, what, _, shown in rows)
    return f'<div class="bars" role="img" aria-label="{text(f"{label}: {spoken}")}">{drawn}</div>'


def _axes(
    xs: Scale,
    ys: Scale,
    x_title: str,
    y_title: str,
    *,
    whole: bool = False,
    x_ticks: Sequence[tuple[float, str]] = (),
) -> str:
    parts = []
    y_ticks = ys.ticks()
    places = max(len(f"{tick:g}".partition(".")[2]) for tick in y_ticks)
    for tick in y_ticks:
        y = ys(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{y + 4:.1f}">{_tick(tick, places, ys.log)}</text>'
        )
    plain = [(tick, f"{tick:g}") for tick in xs.ticks() if not whole or tick == int(tick)]
    for tick, shown in x_ticks or plain:
        x = xs(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}">{text(shown)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" text-anchor="middle" x="{middle}" y="{HEIGHT - 6}">{text(x_title)}</text>')
    turned = f'transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
    parts.append(f'<text class="axis" text-anchor="middle" {turned}>{text(y_title)}</text>')
    return "".join(parts)


def _tick(value: float, places: int, log: bool) -> str:
    return f"{value:g}" if log else f"{value:.{places}f}"


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _svg(content: str, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">{content}</svg>'


def legend(series: Sequence[Series]) -> str:
    """Which line is which."""
    items = "".join(
        '<li><svg class="key" viewBox="0 0 24 8" aria-hidden="true">'
        f'<line class="line {s.css}" x1="0" x2="24" y1="4" y2="4"'
        + (f' stroke-dasharray="{s.dash}"' if s.dash else "")
        + f"/></svg>{text(s.name)}</li>"
        for s in series
    )
    return f'<ul class="legend">{items}</ul>'

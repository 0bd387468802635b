"""Charts as inline SVG: readable without script and without style sheet, described for a screen reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from loadtest.report.document import Chart, LineChart, Part, Point, Series, StackedBars
from loadtest.report.formats import quantity
from loadtest.report.frame import BASE, HEIGHT, LEFT, RIGHT, WIDTH, Frame, axes, frame_of, limits, shades
from loadtest.report.markup import EMPTY, Markup, element, join, leaf
from loadtest.report.scales import finite, thin

Attributes: TypeAlias = dict[str, str | float]
COLOURS = ("#0b62b8", "#b3500a", "#0d7f5f", "#8a3aa8", "#6b6b12", "#b0305c")
"""Contrast of 4.5 and more on white; the style sheet has their like for dark pages."""
TONES = {"good": "#2f8f5b", "fair": "#d99a17", "bad": "#c8352f", "none": "#4a4f57"}
MAX_POINTS = 240
"""Points of a line: more than that are not seen at this size."""
MAX_MARKED = 30
"""Categories beyond which a line has no markers."""
MAX_BAR = 46.0
MIN_PART = 2.0
"""Height at which the rarest part of a bar is still seen."""


def draw(chart: Chart, key: str) -> Markup:
    """Draw a chart; `key` makes the ids of its title and description unique on the page."""
    frame = frame_of(chart)
    content = _lines(chart, frame) if isinstance(chart, LineChart) else _bars(chart, frame)
    size = {"viewBox": f"0 0 {WIDTH:g} {HEIGHT:g}", "role": "img", "aria-labelledby": f"{key}-t {key}-d"}
    title = leaf("title", {"id": f"{key}-t"}, chart.title)
    words = leaf("desc", {"id": f"{key}-d"}, describe(chart))
    floor = {"x1": LEFT, "x2": RIGHT, "y1": BASE, "y2": BASE, "class": "axis", "stroke": "#8a94a0"}
    return element("svg", size, title, words, content, element("line", floor))


def legend(chart: Chart) -> list[tuple[str, Markup]]:
    """List the names of a chart's lines or parts, each with a small drawing of its look."""
    if isinstance(chart, StackedBars):
        paints = _paints(chart.parts)
        return [
            (part.name, _swatch(_box(0, 1, 14, 10, paint))) for part, paint in zip(chart.parts, paints, strict=True)
        ]
    names: list[tuple[str, Markup]] = []
    for index, series in enumerate(chart.series):
        line = element("path", {"d": "M0 6H26", **_stroke(index, dashed=series.dashed)})
        names.append((series.name, _swatch(line, _marker(13, 6, index) if chart.categories else EMPTY, width=26)))
    if chart.low:
        names.append((chart.range_name, _swatch(element("rect", {"width": 14, "height": 12, **_range_paint()}))))
    return names


def describe(chart: Chart) -> str:
    """Say what a chart shows: the range and the last value of each line, the parts of each bar, the bounds."""
    if isinstance(chart, StackedBars):
        return " ".join(_bar_words(chart, index) for index in range(len(chart.categories)))
    words = [_line_words(series, chart) for series in chart.series]
    words += [f"Bound: {bound.label}." for bound in chart.bounds]
    return " ".join(words)


def _lines(chart: LineChart, frame: Frame) -> Markup:
    """Draw bands, axes, the area between two lines, the lines and the bounds, from back to front."""
    drawn = [_line(chart, frame, index, series) for index, series in reversed(list(enumerate(chart.series)))]
    return join((shades(chart.bands, frame.x), axes(frame), _range(chart, frame), *drawn, limits(chart.bounds, frame)))


def _line(chart: LineChart, frame: Frame, index: int, series: Series) -> Markup:
    """Draw one line with its gaps; over categories with a marker at each point."""
    points = thin([(x, y) for x, y in series.points if y is None or finite([y])], MAX_POINTS)
    path = " ".join(_run(run, frame, step=chart.step) for run in _runs(points))
    parts = [element("path", {"d": path, **_stroke(index, dashed=series.dashed)})] if path else []
    for x, y in points if 0 < len(chart.categories) <= MAX_MARKED else ():
        if y is not None:
            place = chart.categories[int(x)]
            tip = leaf("title", {}, f"{series.name}, {place}: {quantity(y, chart.y_unit)}")
            parts.append(element("g", {}, _marker(frame.x.place(x), frame.y.place(y), index), tip))
    return join(parts)


def _runs(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """Split points at the gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _run(run: Sequence[tuple[float, float]], frame: Frame, *, step: bool) -> str:
    """Write the path of points without a gap; a single point is a short stroke."""
    placed = [(frame.x.place(x), frame.y.place(y)) for x, y in run]
    x, y = placed[0]
    path = [f"M{x:.1f} {y:.1f}"] + ([] if len(placed) > 1 else ["h1"])
    for (_, before), (x, y) in pairwise(placed):
        path.append(f"H{x:.1f}V{y:.1f}" if step and before != y else f"L{x:.1f} {y:.1f}")
    return "".join(path)


def _range(chart: LineChart, frame: Frame) -> Markup:
    """Shade the area between two lines."""
    pairs = [(x, low, high) for (x, low), (_, high) in zip(chart.low, chart.high, strict=True)]
    whole = [(x, low, high) for x, low, high in pairs if low is not None and high is not None]
    if not whole:
        return EMPTY
    corners = [(x, high) for x, _, high in whole] + [(x, low) for x, low, _ in reversed(whole)]
    outline = " ".join(f"{frame.x.place(x):.1f},{frame.y.place(y):.1f}" for x, y in corners)
    return element("polygon", {"points": outline, **_range_paint()})


def _bars(chart: StackedBars, frame: Frame) -> Markup:
    """Draw the bars, each part above the one before."""
    room = (RIGHT - LEFT) / max(1, len(chart.categories))
    width = min(MAX_BAR, room * 0.7)
    parts: list[Markup] = []
    paints = _paints(chart.parts)
    for place, category in enumerate(chart.categories):
        left, top = frame.x.place(place) - width / 2, BASE
        for part, paint in zip(chart.parts, paints, strict=True):
            value = part.values[place]
            if value <= 0:
                continue
            height = max(MIN_PART, BASE - frame.y.place(value))
            top -= height
            tip = leaf("title", {}, f"{part.name}, {category}: {quantity(value, chart.y_unit)}")
            parts.append(element("g", {}, _box(left, top, width, height, paint), tip))
    return join((axes(frame), *parts))


def _box(left: float, top: float, width: float, height: float, paint: Attributes) -> Markup:
    """Draw one part of a bar."""
    return element("rect", {"x": left, "y": top, "width": width, "height": height, **paint})


def _paints(parts: Sequence[Part]) -> list[Attributes]:
    """Choose the look of each part: the colour of its tone, paler for each further part of the same tone."""
    seen: Counter[str] = Counter()
    paints: list[Attributes] = []
    for index, part in enumerate(parts):
        colour = index % len(COLOURS)
        name, fill = (part.tone, TONES[part.tone]) if part.tone else (f"f{colour}", COLOURS[colour])
        paint: Attributes = {"class": f"part {name}", "fill": fill}
        if part.tone and seen[name]:
            paint["fill-opacity"] = max(0.35, 1 - 0.3 * seen[name])
        seen[name] += 1
        paints.append(paint)
    return paints


def _stroke(index: int, *, dashed: bool) -> Attributes:
    """Choose the look of a line: its colour, and dashes when asked for."""
    colour = index % len(COLOURS)
    look: Attributes = {"class": f"line s{colour}", "fill": "none", "stroke": COLOURS[colour]}
    return look | {"stroke-width": 2, "stroke-linejoin": "round"} | ({"stroke-dasharray": "5 4"} if dashed else {})


def _range_paint() -> Attributes:
    """Choose the look of the area between two lines."""
    return {"class": "range", "fill": COLOURS[0], "fill-opacity": 0.15}


def _marker(x: float, y: float, index: int) -> Markup:
    """Draw a point: a circle, a square, a triangle or a diamond, so that lines differ without colours."""
    colour = index % len(COLOURS)
    paint = {"class": f"dot f{colour}", "fill": COLOURS[colour]}
    shapes = (
        f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        f"M{x - 3.6:.1f} {y - 3.6:.1f}h7.2v7.2h-7.2z",
        f"M{x:.1f} {y - 4.8:.1f}l4.8 8.4h-9.6z",
        f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z",
    )
    return element("path", {"d": shapes[index % len(shapes)], **paint})


def _swatch(*content: Markup, width: int = 14) -> Markup:
    """Draw the look of a line for the legend; hidden from screen readers, which read the name."""
    size = {"viewBox": f"0 0 {width} 12", "width": width, "height": 12, "class": "swatch", "aria-hidden": "true"}
    return element("svg", size, *content)


def _line_words(series: Series, chart: LineChart) -> str:
    """Say where one line runs."""
    values = finite(y for _, y in series.points)
    if not values:
        return f"{series.name}: no values."
    low, high, last = (quantity(value, chart.y_unit) for value in (min(values), max(values), values[-1]))
    return f"{series.name}: from {low} to {high}, at the end {last}."


def _bar_words(chart: StackedBars, index: int) -> str:
    """Say what one bar is made of."""
    parts = (f"{part.name} {quantity(part.values[index], chart.y_unit)}" for part in chart.parts if part.values[index])
    return f"{chart.categories[index]}: {', '.join(parts) or 'nothing'}."

"""The frame of a chart: its area, axes with marks, the shaded bands behind it and the bounds across it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.report.document import CLOCK, Band, Bound, Chart, LineChart, StackedBars
from loadtest.report.formats import one_line, quantity
from loadtest.report.markup import Markup, element, join, leaf
from loadtest.report.scales import Scale, clock_ticks, finite, linear_ticks, log_ticks

WIDTH, HEIGHT = 480.0, 252.0
LEFT, RIGHT, TOP, BASE = 62.0, 470.0, 22.0, 222.0
"""Edges of the area in which values are drawn."""
LETTER = 6.4
"""Average width of a character of the marks."""
MIN_LABEL = 4
"""Characters below which a label says nothing."""
INK, GRID, SHADE, BOUND_INK = "#52606d", "#d9dee4", "#eef2f6", "#c22f2f"


@dataclass(frozen=True, slots=True)
class Frame:
    """Both axes of a chart, and the values that have a mark on them."""

    x: Scale
    y: Scale
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def frame_of(chart: Chart) -> Frame:
    """Choose axes that hold every value of a chart."""
    y, y_ticks = _y_axis(chart)
    marks = tuple((tick, _y_label(tick, chart.y_unit)) for tick in y_ticks)
    if chart.categories or isinstance(chart, StackedBars):
        x, x_ticks = _categories(chart.categories)
    else:
        x, x_ticks = _continuous(chart)
    return Frame(x, y, x_ticks, marks)


def axes(frame: Frame) -> Markup:
    """Draw grid lines, marks and their labels."""
    return join((*_y_marks(frame), *_x_marks(frame)))


def shades(bands: Sequence[Band], scale: Scale) -> Markup:
    """Draw stretches of the x axis, every second one shaded, with their names where there is room."""
    parts: list[Markup] = []
    for index, band in enumerate(bands):
        begin, end = scale.place(band.begin), scale.place(band.end)
        box = {"x": begin, "y": TOP, "width": max(0.0, end - begin), "height": BASE - TOP}
        paint = {"class": f"band band{index % 2}", "fill": SHADE if index % 2 == 0 else "none"}
        parts.append(element("rect", {**box, **paint}, leaf("title", {}, band.label)))
        if words := fit(band.label, end - begin - 4):
            parts.append(_label((begin + end) / 2, TOP - 5, words, "middle"))
    return join(parts)


def limits(bounds: Sequence[Bound], frame: Frame) -> Markup:
    """Draw the levels that the lines are compared with, each with its name."""
    parts: list[Markup] = []
    for bound in bounds:
        level = frame.y.place(bound.value)
        line = {"x1": LEFT, "x2": RIGHT, "y1": level, "y2": level, "class": "bound", "stroke": BOUND_INK}
        parts.append(element("line", {**line, "stroke-width": 1.6, "stroke-dasharray": "7 4"}))
        below = level < TOP + 14  # the height of the label
        place = {"x": LEFT + 6, "y": level + 14 if below else level - 5, "class": "bound-label"}
        parts.append(leaf("text", {**place, "fill": BOUND_INK, "font-size": 12}, one_line(bound.label)))
    return join(parts)


def scale_words(chart: Chart) -> str:
    """Say what the y axis measures; empty when its marks say it."""
    words = ["log scale"] if isinstance(chart, LineChart) and chart.log else []
    return ", ".join(([] if chart.y_unit in {"", "ms", "%"} else [chart.y_unit]) + words)


def fit(words: str, room: float) -> str:
    """Shorten a label to the room it has; empty when nothing readable is left."""
    words, letters = one_line(words), int(room / LETTER)
    if len(words) <= letters:
        return words
    return f"{words[: letters - 1]}…" if letters > MIN_LABEL else ""


def _y_axis(chart: Chart) -> tuple[Scale, list[float]]:
    """Choose the y axis and the values with a mark."""
    if isinstance(chart, StackedBars):
        totals = [sum(finite(part.values[i] for part in chart.parts)) for i in range(len(chart.categories))]
        ticks = linear_ticks(max(totals, default=0.0), whole=_whole(totals))
        return Scale(0.0, ticks[-1], BASE, TOP), ticks
    values = finite(y for series in chart.series for _, y in series.points)
    values += finite(y for _, y in (*chart.low, *chart.high)) + finite(bound.value for bound in chart.bounds)
    positive = [value for value in values if value > 0]
    if chart.log and positive:
        ticks = log_ticks(min(positive), max(positive))
        return Scale(ticks[0], ticks[-1], BASE, TOP, log=True), ticks
    ticks = linear_ticks(max(values, default=0.0), whole=_whole(values))
    return Scale(0.0, ticks[-1], BASE, TOP), ticks


def _whole(values: Sequence[float]) -> bool:
    """Tell whether values are counted, not measured."""
    return all(value == round(value) for value in values)


def _categories(names: Sequence[str]) -> tuple[Scale, tuple[tuple[float, str], ...]]:
    """Choose an x axis with a place for each category; labels that would touch are left out by turns."""
    count = max(1, len(names))
    room = (RIGHT - LEFT) / count
    every = 1 + int(LETTER * (MIN_LABEL + 2) / room)
    labels = ((index, fit(name, room * every - 6)) for index, name in enumerate(names) if index % every == 0)
    return Scale(-0.5, count - 0.5, LEFT, RIGHT), tuple((float(index), label) for index, label in labels)


def _continuous(chart: LineChart) -> tuple[Scale, tuple[tuple[float, str], ...]]:
    """Choose an x axis that holds every point and band."""
    values = [x for series in chart.series for x, _ in series.points] + [x for x, _ in chart.low]
    values += [edge for band in chart.bands for edge in (band.begin, band.end)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    scale = Scale(low, high if high > low else low + 1, LEFT, RIGHT)
    if chart.x_unit == CLOCK:
        return scale, tuple((tick, quantity(tick, CLOCK)) for tick in clock_ticks(scale.low, scale.high))
    ticks = (tick for tick in linear_ticks(scale.high, 6) if scale.low <= tick <= scale.high)
    return scale, tuple((tick, quantity(tick, chart.x_unit)) for tick in ticks)


def _y_label(value: float, unit: str) -> str:
    """Write a mark of the y axis: with its unit for durations, whose unit changes along the axis."""
    return quantity(value, unit if unit in {"ms", "%"} else "")


def _y_marks(frame: Frame) -> list[Markup]:
    """Draw the grid lines with their labels."""
    parts: list[Markup] = []
    for value, words in frame.y_ticks:
        level = frame.y.place(value)
        line = {"x1": LEFT, "x2": RIGHT, "y1": level, "y2": level, "class": "grid", "stroke": GRID}
        parts.append(element("line", line))
        parts.append(_label(LEFT - 6, level + 4, words, "end"))
    return parts


def _x_marks(frame: Frame) -> list[Markup]:
    """Write the labels below the area; one at its right edge ends there."""
    parts: list[Markup] = []
    for value, words in frame.x_ticks:
        place = frame.x.place(value)
        over = place + len(words) * LETTER / 2 > WIDTH
        parts.append(_label(WIDTH - 2 if over else place, BASE + 18, words, "end" if over else "middle"))
    return parts


def _label(x: float, y: float, words: str, anchor: str) -> Markup:
    """Write a label of an axis."""
    place = {"x": x, "y": y, "text-anchor": anchor, "class": "mark", "fill": INK, "font-size": 12}
    return leaf("text", place, words) if words else Markup("")

"""The story on a screen: six short parts, in which the request's id and its trace's id have one colour each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.bar import END_BLOCK_ELEMENTS
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tools.demo.client import Feature, Rejected
from tools.demo.metrics import Exemplar
from tools.demo.process import LogLine
from tools.demo.report import Story
from tools.demo.trace_tree import draw_forest

REQUEST_STYLE = "bold black on bright_cyan"
TRACE_STYLE = "bold black on bright_yellow"
SHORT_ID = 8
_FEATURE_COLUMNS = ("feature", "type", "quality", "", "median", "range", "missing")
_BAR_COLUMN = 2
_NUMBER_COLUMNS = frozenset({3, 4, 6})
_BAR_CELLS = 8
_GAP = "  "
_MEANING = 45
"""Cells from which a feature's meaning fits beside its numbers."""
_GOOD, _FAIR = 0.8, 0.6
"""Quality from which a bar is green, and from which it is yellow."""
_LEVELS = {"warning": "yellow", "error": "red", "critical": "bold red"}
_LINE_FRAME = frozenset({
    "timestamp", "level", "message", "logger", "service", "version", "environment", "request_id", "user_id",
    "extraction_id", "trace_id", "span_id",
})  # fmt: skip
"""Keys of a log line that have a column, or say the same on every line."""
_WHOLE, _NOTHING = 1_000, 0.005
_CELL = 24


def show_story(console: Console, story: Story) -> None:
    """Print everything."""
    console.print(_head(story))
    request, trace = (f" {story.request_id} ", REQUEST_STYLE), (f" {story.trace_id} ", TRACE_STYLE)
    parts = (
        ("Features", _features(story, width=console.width), request),
        ("Trace", draw_forest(story.trace), trace),
        ("Log", _log(story), request),
        ("Metrics", _metrics(story), trace),
        (f"Table of {story.result.row_count:,} rows", _table(story.table, console.width), ""),
    )
    for number, (title, body, mark) in enumerate(parts, start=1):
        console.print(_heading(number, title, mark))
        console.print(body)
    # Commands are printed as they are, without frame or indentation, so that they can be copied.
    console.print(_heading(len(parts) + 1, "By hand"))
    for command in story.commands:
        console.print(Text(command), soft_wrap=True)


def show_failure(console: Console, message: str, tail: Iterable[str]) -> None:
    """Print why there is no story, after the end of the service's log."""
    for line in tail:
        console.print(Text(f"  {line}", style="dim"), soft_wrap=True)
    console.print(Text(f"feature-agent demo: {' '.join(message.split())}", style="bold red"), soft_wrap=True)


def _heading(number: int, title: str, mark: str | tuple[str, str] = "") -> RenderableType:
    """A part's number and title, marked with the id that leads through it."""
    text = Text.assemble((f"{number} {title} ", "bold"), mark)
    return Padding(Rule(text, align="left", style="dim"), (1, 0, 0, 0))


def _head(story: Story) -> RenderableType:
    result = story.result
    each = "row" if result.grain == "row" else story.table[0][0]
    summary = Text.assemble(
        f"{story.rows:,} events → ",
        (f"{len(result.features)} features", "bold"),
        f" for each {each} ({result.row_count:,}) in ",
        (f"{story.processing_time:.2f} s", "bold"),
        f", quality {result.quality.score:.2f}, planned by {result.model.name}",
    )
    ids = Text.assemble(
        "request ", (f" {story.request_id} ", REQUEST_STYLE), "   trace ", (f" {story.trace_id} ", TRACE_STYLE)
    )
    steps = Text(" · ".join(f"{step.name} {step.seconds:.1f} s" for step in story.steps), style="dim")
    sentence = Text(f"“{story.sentence}”", style="italic")
    return Panel(Group(sentence, summary, ids, steps), title="feature-agent", title_align="left", border_style="dim")


# ----------------------------------------------------------------------------------------------------------- features


def _features(story: Story, *, width: int) -> RenderableType:
    """A line a feature, its meaning at the end; on a narrow screen the meaning has a line of its own."""
    features = story.result.features
    rows = [_FEATURE_COLUMNS, *map(_feature_cells, features)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_FEATURE_COLUMNS))]
    left = width - sum(widths) - len(_GAP) * len(widths)
    lines: list[RenderableType] = [_in_columns(_FEATURE_COLUMNS, widths, dict.fromkeys(range(len(widths)), "dim"))]
    for feature, row in zip(features, rows[1:], strict=True):
        line = _in_columns(row, widths, {0: "bold", _BAR_COLUMN: _quality_colour(feature.quality_score)})
        meaning = (feature.description, "dim")
        lines += [_one_line(line, _GAP, meaning)] if left >= _MEANING else [_one_line(line), _one_line(_GAP, meaning)]
    rejected = [_rejected(feature) for feature in story.result.rejected_features]
    return Group(*lines, *([Text("Rejected", style="bold")] if rejected else []), *rejected)


def _feature_cells(feature: Feature) -> tuple[str, ...]:
    statistics = feature.statistics
    return (
        feature.name,
        feature.dtype,
        _quality_bar(feature.quality_score),
        f"{feature.quality_score:.2f}",
        _number(statistics.median, nothing=_NOTHING),
        _range(statistics.minimum, statistics.maximum) or f"{statistics.distinct_count:,} values",
        f"{statistics.null_ratio:.0%}",
    )


def _in_columns(cells: Sequence[str], widths: Sequence[int], styles: Mapping[int, str]) -> Text:
    """The cells on one line, numbers to the right; a style for a column."""
    placed = (
        (cell.rjust(width) if column in _NUMBER_COLUMNS else cell.ljust(width), styles.get(column, ""))
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return Text(_GAP).join(Text.assemble(part) for part in placed)


def _one_line(*parts: str | Text | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _quality_bar(score: float) -> str:
    """A bar of `_BAR_CELLS` for a score of 1, to the eighth of a cell."""
    full, rest = divmod(round(score * _BAR_CELLS * 8), 8)
    return "█" * full + END_BLOCK_ELEMENTS[rest].strip()


def _rejected(feature: Rejected) -> RenderableType:
    reason = feature.reason.replace("_", " ")
    return Text.assemble(("✗ ", "red"), (feature.name, "bold"), (f" {reason}", "red"), f": {feature.detail}")


def _quality_colour(score: float) -> str:
    return "green" if score >= _GOOD else "yellow" if score >= _FAIR else "red"


def _number(value: float | None, *, nothing: float = 0.0) -> str:
    """Three significant digits; whole from a thousand on, and "~0" for what is less than `nothing`."""
    if value is None:
        return ""
    if 0 < abs(value) < nothing:
        return "~0"
    return f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.3g}"


def _range(minimum: float | None, maximum: float | None) -> str:
    if minimum is None or maximum is None:
        return ""
    return " … ".join(_number(bound, nothing=_NOTHING) for bound in (minimum, maximum))


# ---------------------------------------------------------------------------------------------------------------- log


def _log(story: Story) -> RenderableType:
    table = _plain_table("time", "level", "request", "trace", "message")
    for line in story.log:
        level = str(line.get("level", ""))
        table.add_row(
            _clock(line),
            Text(level, style=_LEVELS.get(level.lower(), "")),
            _id(str(line.get("request_id", "")), story.request_id, REQUEST_STYLE),
            _id(str(line.get("trace_id", "")), story.trace_id, TRACE_STYLE),
            Text.assemble(str(line.get("message", "")), (_details(line), "dim")),
        )
    return table


def _details(line: LogLine) -> str:
    """What a line says beside its message; the path only where it is not the route itself."""
    same = "path" if line.get("path") == line.get("endpoint") else ""
    return "".join(f"  {key}={_short(value)}" for key, value in line.items() if key not in _LINE_FRAME and key != same)


def _clock(line: LogLine) -> str:
    """The time of day, to the millisecond, of an RFC 3339 timestamp."""
    return str(line.get("timestamp", ""))[11:23]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _CELL * 2 else f"{text[: _CELL * 2]}…"


def _id(found: str, wanted: str, style: str) -> Text:
    """An id in its colour when it is the story's own; a long one by its beginning, as it is told on the head."""
    shown = found if len(found) <= 2 * SHORT_ID else f"{found[:SHORT_ID]}…"
    return Text(shown, style=style if found == wanted else "dim")


# ------------------------------------------------------------------------------------------------------------ metrics


def _metrics(story: Story) -> RenderableType:
    table = _plain_table("before", "", "after", "metric")
    table.columns[0].justify = "right"
    for change in story.metrics:
        labels = _labels(change.labels)
        table.add_row(
            Text(_number(change.before), style="dim"),
            Text("→", style="dim"),
            Text(_number(change.after), style="bold green"),
            Text.assemble(change.name, (f"{_GAP}{labels}" if labels else "", "dim")),
        )
    return Group(table, *[_exemplar(found) for found in story.exemplars])


def _exemplar(found: Exemplar) -> RenderableType:
    """The trace that an exemplar leads to; all labels but the bucket's bound are those of a series above."""
    unit = " s" if "_seconds" in found.name else ""
    bound = f"{_GAP}le={found.labels['le']}" if "le" in found.labels else ""
    name = found.name.removesuffix("_bucket")
    value = f"{_GAP}{_number(found.value)}{unit}{_GAP}{name}"
    return Text.assemble("exemplar ", (f" {found.trace_id} ", TRACE_STYLE), value, (bound, "dim"))


def _labels(labels: Mapping[str, str]) -> str:
    return _GAP.join(f"{name}={value}" for name, value in labels.items())


# -------------------------------------------------------------------------------------------------------------- table


def _table(rows: tuple[tuple[str, ...], ...], width: int) -> RenderableType:
    """As many whole columns as fit, and how many do not."""
    columns = [[_cell(row[index]) for row in rows] for index in range(len(rows[0]))]
    shown: list[list[str]] = []
    used = 0
    for column in columns:
        used += max(map(len, column)) + 2
        if used > width - len("+ 99 more"):
            break
        shown.append(column)
    table = _plain_table(*(column[0] for column in shown))
    for column in table.columns[1:]:
        column.justify = "right"
    for cells in zip(*(column[1:] for column in shown), strict=True):
        table.add_row(*map(Text, cells))
    left = len(columns) - len(shown)
    return Group(table, Text(f"and {left} more columns", style="dim")) if left else table


def _cell(text: str) -> str:
    try:
        short = _number(float(text)) if "." in text else text
    except ValueError:
        short = text
    return short if len(short) <= _CELL else f"{short[: _CELL - 1]}…"


def _plain_table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for header in headers:
        table.add_column(Text(header))
    return table

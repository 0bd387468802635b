"""Print the report of a demo in six parts; the request's id and its trace's id have one colour each."""

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
from tools.demo.report import DemoReport
from tools.demo.trace_tree import draw_forest

REQUEST_STYLE = "bold black on bright_cyan"
TRACE_STYLE = "bold black on bright_yellow"
SHORT_ID = 8
_FEATURE_COLUMNS = ("feature", "type", "quality", "", "median", "range", "missing")
_BAR_COLUMN = 2
_NUMBER_COLUMNS = frozenset({3, 4, 6})
_BAR_CELLS = 8
_GAP = "  "
_MIN_DESCRIPTION_CELLS = 45
"""Minimum width in cells of a description beside the numbers."""
_MIN_GREEN, _MIN_YELLOW = 0.8, 0.6
"""Lowest quality of a green bar, and of a yellow one."""
_LEVELS = {"warning": "yellow", "error": "red", "critical": "bold red"}
_LINE_FRAME = frozenset({
    "timestamp", "level", "message", "logger", "service", "version", "environment", "request_id", "user_id",
    "extraction_id", "trace_id", "span_id",
})  # fmt: skip
"""Keys of a log line that have a column, or are the same on every line."""
_WHOLE, _NOTHING = 1_000, 0.005
_CELL = 24


def print_report(console: Console, report: DemoReport) -> None:
    """Print the report."""
    console.print(_head(report))
    request, trace = (f" {report.request_id} ", REQUEST_STYLE), (f" {report.trace_id} ", TRACE_STYLE)
    parts = (
        ("Features", _features(report, width=console.width), request),
        ("Trace", draw_forest(report.trace), trace),
        ("Log", _log(report), request),
        ("Metrics", _metrics(report), trace),
        (f"Table of {report.result.row_count:,} rows", _table(report.table, console.width), ""),
    )
    for number, (title, body, mark) in enumerate(parts, start=1):
        console.print(_heading(number, title, mark))
        console.print(body)
    # Commands are printed as they are, without frame or indentation, so that they can be copied.
    console.print(_heading(len(parts) + 1, "By hand"))
    for command in report.commands:
        console.print(Text(command), soft_wrap=True)


def print_failure(console: Console, message: str, tail: Iterable[str]) -> None:
    """Print the end of the service's log, and why the demo failed."""
    for line in tail:
        console.print(Text(f"  {line}", style="dim"), soft_wrap=True)
    console.print(Text(f"feature-agent demo: {' '.join(message.split())}", style="bold red"), soft_wrap=True)


def _heading(number: int, title: str, mark: str | tuple[str, str] = "") -> RenderableType:
    """Render a part's number and title, with the id that its lines share."""
    text = Text.assemble((f"{number} {title} ", "bold"), mark)
    return Padding(Rule(text, align="left", style="dim"), (1, 0, 0, 0))


def _head(report: DemoReport) -> RenderableType:
    result = report.result
    each = "row" if result.grain == "row" else report.table[0][0]
    summary = Text.assemble(
        f"{report.rows:,} events → ",
        (f"{len(result.features)} features", "bold"),
        f" for each {each} ({result.row_count:,}) in ",
        (f"{report.processing_time:.2f} s", "bold"),
        f", quality {result.quality.score:.2f}, planned by {result.model.name}",
    )
    ids = Text.assemble(
        "request ", (f" {report.request_id} ", REQUEST_STYLE), "   trace ", (f" {report.trace_id} ", TRACE_STYLE)
    )
    steps = Text(" · ".join(f"{step.name} {step.seconds:.1f} s" for step in report.steps), style="dim")
    sentence = Text(f"“{report.sentence}”", style="italic")
    return Panel(Group(sentence, summary, ids, steps), title="feature-agent", title_align="left", border_style="dim")


# ----------------------------------------------------------------------------------------------------------- features


def _features(report: DemoReport, *, width: int) -> RenderableType:
    """Render a line for each feature; on a narrow screen the description has a line of its own."""
    features = report.result.features
    rows = [_FEATURE_COLUMNS, *map(_feature_cells, features)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_FEATURE_COLUMNS))]
    left = width - sum(widths) - len(_GAP) * len(widths)
    lines: list[RenderableType] = [_in_columns(_FEATURE_COLUMNS, widths, dict.fromkeys(range(len(widths)), "dim"))]
    for feature, row in zip(features, rows[1:], strict=True):
        line = _in_columns(row, widths, {0: "bold", _BAR_COLUMN: _quality_colour(feature.quality_score)})
        description = (feature.description, "dim")
        lines += (
            [_one_line(line, _GAP, description)]
            if left >= _MIN_DESCRIPTION_CELLS
            else [_one_line(line), _one_line(_GAP, description)]
        )
    rejected = [_rejected(feature) for feature in report.result.rejected_features]
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
    """Render cells on one line, numbers aligned right, with a style for each column."""
    placed = (
        (cell.rjust(width) if column in _NUMBER_COLUMNS else cell.ljust(width), styles.get(column, ""))
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return Text(_GAP).join(Text.assemble(part) for part in placed)


def _one_line(*parts: str | Text | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _quality_bar(score: float) -> str:
    """Draw a bar of `_BAR_CELLS` for a score of 1, to the eighth of a cell."""
    full, rest = divmod(round(score * _BAR_CELLS * 8), 8)
    return "█" * full + END_BLOCK_ELEMENTS[rest].strip()


def _rejected(feature: Rejected) -> RenderableType:
    reason = feature.reason.replace("_", " ")
    return Text.assemble(("✗ ", "red"), (feature.name, "bold"), (f" {reason}", "red"), f": {feature.detail}")


def _quality_colour(score: float) -> str:
    return "green" if score >= _MIN_GREEN else "yellow" if score >= _MIN_YELLOW else "red"


def _number(value: float | None, *, nothing: float = 0.0) -> str:
    """Format with three significant digits; without decimals from a thousand on, and as "~0" below `nothing`."""
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


def _log(report: DemoReport) -> RenderableType:
    table = _plain_table("time", "level", "request", "trace", "message")
    for line in report.log:
        level = str(line.get("level", ""))
        table.add_row(
            _clock(line),
            Text(level, style=_LEVELS.get(level.lower(), "")),
            _id(str(line.get("request_id", "")), report.request_id, REQUEST_STYLE),
            _id(str(line.get("trace_id", "")), report.trace_id, TRACE_STYLE),
            Text.assemble(str(line.get("message", "")), (_details(line), "dim")),
        )
    return table


def _details(line: LogLine) -> str:
    """Format the other keys of a line; the path only where it differs from the route."""
    same = "path" if line.get("path") == line.get("endpoint") else ""
    return "".join(f"  {key}={_short(value)}" for key, value in line.items() if key not in _LINE_FRAME and key != same)


def _clock(line: LogLine) -> str:
    """Return the time of day, to the millisecond, of an RFC 3339 timestamp."""
    return str(line.get("timestamp", ""))[11:23]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _CELL * 2 else f"{text[: _CELL * 2]}…"


def _id(found: str, wanted: str, style: str) -> Text:
    """Render an id, in its colour when it is the request's own; a long one is cut to its beginning."""
    shown = found if len(found) <= 2 * SHORT_ID else f"{found[:SHORT_ID]}…"
    return Text(shown, style=style if found == wanted else "dim")


# ------------------------------------------------------------------------------------------------------------ metrics


def _metrics(report: DemoReport) -> RenderableType:
    table = _plain_table("before", "", "after", "metric")
    table.columns[0].justify = "right"
    for change in report.metrics:
        labels = _labels(change.labels)
        table.add_row(
            Text(_number(change.before), style="dim"),
            Text("→", style="dim"),
            Text(_number(change.after), style="bold green"),
            Text.assemble(change.name, (f"{_GAP}{labels}" if labels else "", "dim")),
        )
    return Group(table, *[_exemplar(found) for found in report.exemplars])


def _exemplar(found: Exemplar) -> RenderableType:
    """Render an exemplar with its trace; its labels, but the bucket's bound, are those of a series above."""
    unit = " s" if "_seconds" in found.name else ""
    bound = f"{_GAP}le={found.labels['le']}" if "le" in found.labels else ""
    name = found.name.removesuffix("_bucket")
    value = f"{_GAP}{_number(found.value)}{unit}{_GAP}{name}"
    return Text.assemble("exemplar ", (f" {found.trace_id} ", TRACE_STYLE), value, (bound, "dim"))


def _labels(labels: Mapping[str, str]) -> str:
    return _GAP.join(f"{name}={value}" for name, value in labels.items())


# -------------------------------------------------------------------------------------------------------------- table


def _table(rows: tuple[tuple[str, ...], ...], width: int) -> RenderableType:
    """Render as many whole columns as fit, and say how many do not."""
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

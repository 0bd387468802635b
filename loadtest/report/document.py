"""A report as data: sections of texts, tables and charts. Written by `html_page.to_html` or `markdown.to_markdown`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from loadtest.verdict import Outcome

Tone: TypeAlias = Literal["", "good", "fair", "bad", "none"]
"""What a part of a bar means: answered, refused, failed, without an answer. Empty: the next colour of the palette."""
ClockUnit: TypeAlias = Literal["clock"]
CLOCK: ClockUnit = "clock"
"""Unit of an axis that counts seconds since the beginning."""
Point: TypeAlias = tuple[float, float | None]
"""x and y; a y of None leaves a gap in a line."""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values, read pair by pair."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell with a meaning: an outcome, or a name out of the code."""

    text: str
    outcome: Outcome | None = None
    code: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column."""

    heading: str
    numeric: bool = False
    wide: bool = False
    """Holds sentences."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column names the row."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    empty: str = "Nothing to show."
    """Said instead of a table without rows."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart."""

    name: str
    points: tuple[Point, ...]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of the x axis, shaded by turns."""

    begin: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Bound:
    """A level that the lines are compared with."""

    value: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """Lines over time, or over categories at the positions 0, 1, 2 and so on."""

    title: str
    series: tuple[Series, ...]
    y_unit: str = ""
    """`ms`, `MiB`, `cores`, …; empty for plain numbers."""
    x_unit: str = CLOCK
    categories: tuple[str, ...] = ()
    """Labels of the x positions; the axis is continuous without them."""
    bands: tuple[Band, ...] = ()
    bounds: tuple[Bound, ...] = ()
    range_name: str = ""
    """Legend of the shaded area between `low` and `high`."""
    low: tuple[Point, ...] = ()
    high: tuple[Point, ...] = ()
    """As many as `low`, at the same x."""
    step: bool = False
    """A value holds until the next one, such as a number of replicas."""
    log: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of stacked bars."""

    name: str
    values: tuple[float, ...]
    tone: Tone = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedBars:
    """A bar for each category, made of parts."""

    title: str
    categories: tuple[str, ...]
    parts: tuple[Part, ...]
    y_unit: str = ""
    note: str = ""


Chart: TypeAlias = LineChart | StackedBars
Block: TypeAlias = Text | Bullets | Facts | Table | LineChart | StackedBars


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what belongs to it."""

    heading: str
    blocks: tuple[Block, ...]
    level: Literal[2, 3] = 2


@dataclass(frozen=True, slots=True)
class Document:
    """A report."""

    title: str
    outcome: Outcome | None
    """None for a report that judges nothing."""
    sections: tuple[Section, ...]
    headline: str = ""
    """The outcome in one sentence."""
    facts: tuple[tuple[str, str], ...] = ()

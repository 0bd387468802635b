"""A report as one HTML page that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from itertools import groupby

from loadtest.report.document import (
    Block,
    Bullets,
    Cell,
    Chart,
    Column,
    Document,
    Facts,
    LineChart,
    Section,
    StackedBars,
    Table,
    Text,
)
from loadtest.report.frame import scale_words
from loadtest.report.gates import WORDS
from loadtest.report.markup import EMPTY, Markup, element, join, leaf, text
from loadtest.report.styles import STYLE
from loadtest.report.svg import draw, legend
from loadtest.verdict import Outcome

ICONS: dict[Outcome, tuple[str, str]] = {
    "pass": ("M12 1a11 11 0 1 0 0 22a11 11 0 1 0 0-22z", "M6.5 12.5l3.8 3.8l7.2-8"),
    "fail": ("M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4z", "M8 8l8 8M16 8l-8 8"),
    "not_measured": ("M12 1.6L23.2 22.2H.8z", "M12 9v6M12 18.6v.1"),
}
"""Shape and sign: a circle with a tick, an octagon with a cross, a triangle with an exclamation mark."""
INKS: dict[Outcome, str] = {"pass": "#17723f", "fail": "#b3261e", "not_measured": "#8a5a00"}
MAX_ROWS = 100
"""Rows of a table; what does not fit is counted below it."""


def to_html(document: Document) -> str:
    """Write a report as an HTML page."""
    heads = [(f"s{index}", section.heading) for index, section in enumerate(document.sections) if section.level == 2]  # noqa: PLR2004 - h2
    main = [_section(f"s{index}", section) for index, section in enumerate(document.sections)]
    body = element("body", {}, _header(document, heads), element("main", {}, *main))
    return "<!DOCTYPE html>\n" + element("html", {"lang": "en"}, _head(document), body) + "\n"


def icon(outcome: Outcome) -> Markup:
    """Draw an outcome's shape; the word stands beside it."""
    shape, sign = ICONS[outcome]
    look = {
        "fill": "none",
        "stroke": "#fff",
        "stroke-width": 2.6,
        "stroke-linecap": "round",
        "stroke-linejoin": "round",
    }
    size = {"viewBox": "0 0 24 24", "width": 18, "height": 18, "class": f"icon {outcome}", "aria-hidden": "true"}
    paths = (element("path", {"d": shape}), element("path", {"d": sign, **look}))
    return element("svg", {**size, "fill": INKS[outcome]}, *paths)


def _head(document: Document) -> Markup:
    """Write what a browser needs to know. The policy lets in nothing but this page's own style sheet."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        {},
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        leaf("title", {}, _page_title(document)),
        element("style", {}, Markup(STYLE)),
    )


def _page_title(document: Document) -> str:
    """Write what a browser's tab says."""
    return f"{WORDS[document.outcome]}: {document.title}" if document.outcome else document.title


def _header(document: Document, heads: list[tuple[str, str]]) -> Markup:
    """Write the outcome, the facts of the run and the list of sections."""
    parts = [leaf("h1", {}, document.title)]
    if document.outcome:
        words = element(
            "div", {}, leaf("p", {"class": "word"}, WORDS[document.outcome]), leaf("p", {}, document.headline)
        )
        parts.append(element("div", {"class": f"verdict {document.outcome}"}, icon(document.outcome), words))
    elif document.headline:
        parts.append(leaf("p", {}, document.headline))
    if document.facts:
        parts.append(_facts(Facts(document.facts)))
    links = [element("li", {}, leaf("a", {"href": f"#{key}"}, heading)) for key, heading in heads]
    if len(links) > 1:
        parts.append(element("nav", {"aria-label": "Sections"}, element("ul", {}, *links)))
    return element("header", {}, *parts)


def _section(key: str, section: Section) -> Markup:
    """Write a section; charts that follow each other share a grid."""
    parts = [leaf(f"h{section.level}", {"id": key}, section.heading)]
    numbered = [(f"{key}-{index}", block) for index, block in enumerate(section.blocks)]
    for charts, group in groupby(numbered, key=lambda pair: isinstance(pair[1], LineChart | StackedBars)):
        written = [_block(block, name) for name, block in group]
        parts += [element("div", {"class": "charts"}, *written)] if charts else written
    return element("section", {"aria-labelledby": key}, *parts)


def _block(block: Block, key: str) -> Markup:
    """Write one block."""
    match block:
        case Text():
            return leaf("p", {}, block.text)
        case Bullets():
            return _bullets(block)
        case Facts():
            return _facts(block)
        case Table():
            return _table(block, key)
        case _:
            return _figure(block, key)


def _bullets(bullets: Bullets) -> Markup:
    """Write a list of sentences."""
    left = len(bullets.items) - MAX_ROWS
    more = [leaf("li", {}, f"… and {left:,} more")] if left > 0 else []
    return element("ul", {"class": "said"}, *(leaf("li", {}, item) for item in bullets.items[:MAX_ROWS]), *more)


def _facts(facts: Facts) -> Markup:
    """Write names and values."""
    pairs = (element("div", {}, leaf("dt", {}, name), leaf("dd", {}, value)) for name, value in facts.pairs)
    return element("dl", {}, *pairs)


def _figure(chart: Chart, key: str) -> Markup:
    """Write a chart with its title and legend."""
    words = scale_words(chart)
    names = [element("li", {}, swatch, leaf("span", {}, name)) for name, swatch in legend(chart)]
    return element(
        "figure",
        {},
        element("figcaption", {}, text(chart.title), leaf("span", {"class": "unit"}, f" {words}") if words else EMPTY),
        element("ul", {"class": "legend"}, *names) if names else EMPTY,
        draw(chart, key),
        leaf("p", {"class": "note"}, chart.note) if chart.note else EMPTY,
    )


def _table(table: Table, key: str) -> Markup:
    """Write a table in a box that scrolls sideways, also by keyboard."""
    if not table.rows:
        return join((leaf("p", {"class": "note"}, f"{table.caption}: {table.empty}"),))
    caption = leaf("caption", {"id": key}, table.caption)
    heads = [
        leaf("th", {"scope": "col", "role": "columnheader", **_kind(column)}, column.heading)
        for column in table.columns
    ]
    body = [element("tr", {"role": "row"}, *_cells(table.columns, row)) for row in table.rows[:MAX_ROWS]]
    # A narrow screen shows a table with sentences as blocks; the roles keep it a table for a screen reader.
    kind = {"class": "stack", "role": "table"} if any(column.wide for column in table.columns) else {}
    head = element("thead", {"role": "rowgroup"}, element("tr", {"role": "row"}, *heads))
    whole = element("table", kind, caption, head, element("tbody", {"role": "rowgroup"}, *body))
    box = {"class": "scroll", "tabindex": 0, "role": "region", "aria-labelledby": key}
    return join((element("div", box, whole), *_notes(table)))


def _notes(table: Table) -> Iterator[Markup]:
    """Write what stands below a table."""
    if len(table.rows) > MAX_ROWS:
        yield leaf("p", {"class": "note"}, f"{len(table.rows) - MAX_ROWS:,} more rows are left out here.")
    if table.note:
        yield leaf("p", {"class": "note"}, table.note)


def _cells(columns: tuple[Column, ...], row: tuple[str | Cell, ...]) -> Iterator[Markup]:
    """Write a row; its first cell is the row's heading."""
    for index, (column, cell) in enumerate(zip(columns, row, strict=True)):
        look = _kind(column)
        words = _cell(cell)
        if isinstance(cell, Cell) and cell.outcome:
            look = {"class": f"o {cell.outcome}"}
        if index:
            yield element("td", {"role": "cell", "data-label": column.heading, **look}, words)
        else:
            yield element("th", {"scope": "row", "role": "rowheader", **look}, words)


def _cell(cell: str | Cell) -> Markup:
    """Write what a cell holds."""
    if isinstance(cell, str):
        return text(cell)
    if cell.outcome:
        return join((icon(cell.outcome), text(cell.text)))
    return leaf("code", {}, cell.text) if cell.code else text(cell.text)


def _kind(column: Column) -> dict[str, str | float]:
    """Choose the class of a column's cells."""
    names = ("n",) if column.numeric else ("w",) if column.wide else ()
    return {"class": " ".join(names)} if names else {}

"""A report as Markdown: texts and tables; charts are left out, or named with a link to the page that shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from loadtest.report.document import Block, Bullets, Cell, Document, Facts, Section, Table, Text
from loadtest.report.formats import one_line
from loadtest.report.gates import WORDS
from loadtest.report.html_page import MAX_ROWS

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#])")
_OPENING = re.compile(r"^(\d+)([.)])|^([-+=])")


def to_markdown(document: Document, charts: str = "") -> str:
    """Write a report as Markdown. `charts` is the address of the HTML page; empty leaves the charts out."""
    parts = [f"# {escape(document.title)}"]
    if document.outcome:
        parts.append(f"**{WORDS[document.outcome]}.** {escape(document.headline)}".rstrip())
    elif document.headline:
        parts.append(paragraph(document.headline))
    if document.facts:
        parts.append(_facts(Facts(document.facts)))
    for section in document.sections:
        parts += _section(section, charts)
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Escape what Markdown or HTML would read as more than a character."""
    return _SPECIAL.sub(r"\\\1", one_line(text).replace("&", "&amp;"))


def paragraph(text: str) -> str:
    """Escape a text that begins a line, where a number or a dash would begin a list."""
    return _OPENING.sub(lambda found: f"{found[1]}\\{found[2]}" if found[1] else f"\\{found[3]}", escape(text))


def _section(section: Section, charts: str) -> Iterator[str]:
    """Write a section; one that holds charts alone is left out with them."""
    blocks = [written for block in section.blocks if (written := _block(block, charts))]
    if blocks or not section.blocks:
        yield f"{'#' * section.level} {escape(section.heading)}"
        yield from blocks


def _block(block: Block, charts: str) -> str:
    """Write one block; empty for a chart that is left out."""
    match block:
        case Text():
            return paragraph(block.text)
        case Bullets():
            return "\n".join(f"- {paragraph(item)}" for item in block.items)
        case Facts():
            return _facts(block)
        case Table():
            return _table(block)
        case _:
            return f"Chart: [{escape(block.title)}](<{_address(charts)}>)" if charts else ""


def _facts(facts: Facts) -> str:
    """Write names and values as a list."""
    return "\n".join(f"- {escape(name)}: {escape(value)}" for name, value in facts.pairs)


def _table(table: Table) -> str:
    """Write a table below its caption."""
    if not table.rows:
        return f"{paragraph(table.caption)}: {escape(table.empty)}"
    heads = [escape(column.heading) for column in table.columns]
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [[_cell(cell) for cell in row] for row in table.rows[:MAX_ROWS]]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]
    notes = [f"{len(table.rows) - MAX_ROWS:,} more rows are left out here."] if len(table.rows) > MAX_ROWS else []
    notes += [paragraph(table.note)] if table.note else []
    return "\n\n".join((f"{paragraph(table.caption)}:", "\n".join(lines), *notes))


def _cell(cell: str | Cell) -> str:
    """Write what a cell holds; an outcome that is no pass stands out."""
    if isinstance(cell, str):
        return escape(cell)
    words = escape(cell.text)
    return f"**{words}**" if cell.outcome in {"fail", "not_measured"} else words


def _address(charts: str) -> str:
    """Write an address so that it stays inside of its brackets."""
    return one_line(charts).replace("<", "%3C").replace(">", "%3E").replace("\\", "%5C")

"""How a CSV file is written: delimiter, quote and header, judged on its first rows.

The judgement only proposes; the strict reader then holds every row of the file against it.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from service.features.errors import DatasetUnreadable

DELIMITERS: tuple[str, ...] = ("\t", ";", "|", ",", " ")
SINGLE_COLUMN = "\x1f"
"""Delimiter for a file of one column: the ASCII unit separator, which text does not hold."""
SAMPLE_ROWS = 1000

DELIMITER_NAMES = {
    "\t": "tab",
    ";": "semicolon",
    "|": "pipe",
    ",": "comma",
    " ": "space",
    SINGLE_COLUMN: "none (one column)",
}

NULL_TOKENS: tuple[str, ...] = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "Null", "None", "\\N", "-")
"""What stands for a missing value, `<NA>` for pandas, `\\N` for databases; `NaN` is one too wherever the column is not
numeric. Words that may be a category (`none`, `missing`, `?`) are left as they are."""

NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?")
DECLARED = re.compile(r"sep=([\t;|,])\r?\n(?=\s*\S)", re.IGNORECASE)
"""First line that spreadsheets write and obey: it names the delimiter."""
YEAR = re.compile(r"(1[89]|20|21)\d\d")

Rows = Sequence[Sequence[str]]


class Dialect(Struct, frozen=True):
    """How the file is written."""

    delimiter: str
    quote: str
    header: tuple[str, ...] | None
    """The header's fields; None when the first row holds data."""
    width: int
    """Fields in the first row: every other row must have as many."""
    lines_before: int
    """Lines before the first row: empty ones, and a spreadsheet's line that names the delimiter."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found, in words."""
        delimiter = f"delimiter: {DELIMITER_NAMES[self.delimiter]}"
        quote = () if self.quote == '"' else ("quote: '",)
        header = () if self.header is not None else ("no header: columns are numbered",)
        return (delimiter, *quote, *header)


class _Candidate(Struct, frozen=True):
    delimiter: str
    quote: str
    rows: Rows
    agreement: float
    """Share of the rows with the most common number of fields."""
    cleanliness: float
    """Share of the fields that hold no other delimiter."""
    width: int


def detect_dialect(head: str, *, complete: bool) -> Dialect:
    """Judge the first rows; `complete` says that they are all, so that the last one is whole.

    Raises DatasetUnreadable when not even the first row can be made out.
    """
    declared = DECLARED.match(head)
    if declared:
        head = head[declared.end() :]
    if not _rows(head, SINGLE_COLUMN, '"', complete=complete):
        raise DatasetUnreadable(
            "The first row cannot be read: a field is longer than 128 KiB, or a quote never closes."
        )
    candidates = [
        candidate
        for quote in ('"', "'")
        for delimiter in (declared.groups() if declared else DELIMITERS)
        if (candidate := _candidate(head, delimiter, quote, complete=complete)) is not None
    ]
    best = max(candidates, key=lambda c: (c.agreement, c.cleanliness, c.width, c.quote == '"'), default=None)
    if best is None:
        best = _Candidate(SINGLE_COLUMN, '"', _rows(head, SINGLE_COLUMN, '"', complete=complete), 1, 1, 1)
    header = tuple(best.rows[0]) if _has_header(best.rows) else None
    before = _blank_lines(head) + (1 if declared else 0)
    return Dialect(best.delimiter, best.quote, header, len(best.rows[0]), before)


def _blank_lines(head: str) -> int:
    return sum(1 for _ in itertools.takewhile(lambda line: not line.strip("\r"), head.split("\n")))


def first_rows(text: str, delimiter: str, quote: str, most: int) -> list[list[str]]:
    """The text's first rows, blank lines left out, up to a field over csv's own limit of 128 KiB."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, doublequote=True)
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        rows.extend(itertools.islice(filter(None, reader), most))
    return rows


def _rows(head: str, delimiter: str, quote: str, *, complete: bool) -> Rows:
    """The sample's rows, but for the last where the text may be cut inside it."""
    rows = first_rows(head, delimiter, quote, SAMPLE_ROWS)
    cut = not complete and 1 < len(rows) < SAMPLE_ROWS
    return rows[:-1] if cut else rows


def _candidate(head: str, delimiter: str, quote: str, *, complete: bool) -> _Candidate | None:
    """The text read that way, or None when that does not make a table of several columns."""
    if delimiter not in head or (quote == "'" and not _opens_fields(head, delimiter)):
        return None
    rows = _rows(head, delimiter, quote, complete=complete)
    if not rows:
        return None
    counts = Counter(len(row) for row in rows)
    width, frequency = max(counts.items(), key=lambda item: (item[1], item[0]))
    # A free text in a single column has delimiters in some rows, but not in its header.
    if max(width, len(rows[0])) == 1 or (len(rows[0]) == 1 and frequency < len(rows) - 1):
        return None
    if delimiter == " " and not _is_numeric_matrix(rows):
        return None
    others = tuple(other for other in DELIMITERS[:-1] if other != delimiter)
    fields = [value for row in rows for value in row]
    clean = sum(1 for value in fields if NUMBER.fullmatch(value) or not any(other in value for other in others))
    return _Candidate(delimiter, quote, rows, frequency / len(rows), clean / len(fields), width)


def _opens_fields(head: str, delimiter: str) -> bool:
    """Whether single quotes stand around fields, rather than in words."""
    return f"{delimiter}'" in head or "\n'" in head or head.startswith("'")


def _is_numeric_matrix(rows: Rows) -> bool:
    """Words have spaces between them too: only numbers, below one row of names at most, make a space a delimiter."""
    body = rows[1:] or rows
    same = all(len(row) == len(rows[0]) for row in rows)
    return same and all(NUMBER.fullmatch(value) for row in body for value in row)


def _is_measure(value: str) -> bool:
    value = value.strip()
    return bool(NUMBER.fullmatch(value) or DATE.fullmatch(value))


def _has_header(rows: Rows) -> bool:
    """A first row of words over numbers is a header, and so is one of words that do not come again below.

    A number over numbers makes the row data, unless all such numbers are years, as in a table with a column a year.
    """
    first, body = rows[0], rows[1:]
    below = [
        [row[index] for row in body if index < len(row) and row[index].strip() not in NULL_TOKENS]
        for index in range(len(first))
    ]
    measured = [bool(values) and all(_is_measure(value) for value in values) for values in below]
    words = [not _is_measure(value) and bool(value.strip()) for value in first]
    if any(word and measure for word, measure in zip(words, measured, strict=True)):
        return True
    numbers = [value.strip() for value in first if _is_measure(value)]
    if numbers:
        return any(words) and len(set(numbers)) == len(numbers) and all(YEAR.fullmatch(value) for value in numbers)
    return not any(value in values for value, values in zip(first, below, strict=True) if value.strip())

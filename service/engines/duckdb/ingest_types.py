"""The type of each text column, found by holding *every* value against the patterns, never a sample.

One statement sorts all cells of up to a thousand columns into classes and counts them; a column has the type that
all of its classes agree on, else it is text. What the client says of a column goes before all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace
from sqlglot import exp

from service.engines.duckdb.ingest_columns import (
    EMPTY,
    SHAPE,
    Classes,
    ColumnRequest,
    Reading,
    count_classes,
)
from service.engines.duckdb.ingest_numbers import PLAIN, count_of, read, style_of
from service.engines.duckdb.ingest_source import Source
from service.engines.duckdb.ingest_sql import call, case, try_cast
from service.engines.duckdb.ingest_times import (
    date_readings,
    date_shapes,
    is_time_of_day,
    time_of_day_readings,
    whole_readings,
)
from service.engines.duckdb.ingest_words import boolean, boolean_words, is_missing
from service.engines.duckdb.sandbox import Sandbox
from service.features.personal import is_personal_text

MOSTLY = 0.9
"""Share of the values from which on a column seems meant to be of a type."""


async def text_readings(box: Sandbox, source: Source, requests: Sequence[ColumnRequest]) -> dict[int, Reading]:
    """The reading of each text column that is left to its values, by position."""
    counted = await count_classes(box, source, requests)
    classes = {request.position: counted.get(request.position, Classes()) for request in requests}
    readings: dict[int, Reading] = {}
    dates = {one.position: (one, found) for one in requests if (found := date_shapes(classes[one.position]))}
    reasons: dict[int, str] = {}
    for position, found in (await date_readings(box, source, dates, classes)).items():
        if isinstance(found, str):
            reasons[position] = found
        else:
            readings[position] = found
    times = [one for one in requests if is_time_of_day(one, classes[one.position])]
    readings |= await time_of_day_readings(box, source, times, classes)
    if not source.typed:
        numbers = [one for one in requests if _is_plain_number(classes[one.position])]
        readings |= await whole_readings(box, source, numbers)
    for request in requests:
        position = request.position
        if position not in readings:
            readings[position] = _reading(source, request, classes[position], reasons.get(position))
        readings[position] = _with_notes(source, request, classes[position], readings[position])
    return readings


def _is_plain_number(classes: Classes) -> bool:
    return bool(classes.shown) and set(classes.shown) <= {"integer", "decimal", "nan"}


def _reading(source: Source, request: ColumnRequest, classes: Classes, reason: str | None) -> Reading:
    """The reading that all of the column's classes agree on; `reason` says why it is no column of dates."""
    if reason is None and not source.typed:
        found = _boolean(request, classes) or _number(source, request, classes)
        if found is not None:
            return found
        reason = _mixture(classes)
    return Reading("VARCHAR", as_text(source, request, classes), () if reason is None else (reason,))


def _boolean(request: ColumnRequest, classes: Classes) -> Reading | None:
    words = boolean_words(label for label in classes.shown if label != "nan")
    if words is None:
        return None
    true, false = words
    value = request.present(boolean(call("trim", request.text), true, false))
    note = () if true == ("true",) else (f"{true[0]} and {false[0]} as true and false",)
    return Reading("BOOLEAN", value, note)


def _number(source: Source, request: ColumnRequest, classes: Classes) -> Reading | None:
    shown = set(classes.shown)
    value = call("trim", request.text)
    if shown == {"integer"}:
        return Reading("BIGINT", request.present(try_cast(value, "BIGINT")))
    if shown and shown <= {"integer", "big"}:
        return Reading("VARCHAR", as_text(source, request, classes), ("numbers over 64 bits, kept as text",))
    style = style_of(classes.shown, decimal_comma=source.decimal_comma)
    if style is None or (not style.plain and is_personal_text(request.name, {})):
        return None
    return Reading("DOUBLE", request.present(read(value, style)), style.remarks)


def as_text(source: Source, request: ColumnRequest, classes: Classes) -> exp.Expr:
    """The text as it is written, or null where it is a word for a missing value.

    Spaces around every value belong to the delimiters of a CSV file, and are left out; others are part of the value.
    """
    trimmed = call("trim", request.text)
    text = trimmed.copy() if is_padded(source, classes) else request.text
    words = (*classes.missing, *([""] if EMPTY in classes.counted else []))
    nan = request.nan_is_missing and "nan" in classes.shown
    if not words and not nan:
        return text
    return case((is_missing(trimmed, words, nan=nan), exp.null()), otherwise=text)


def is_padded(source: Source, classes: Classes) -> bool:
    """Whether the file has spaces around every value of the column."""
    return source.padded_cells and 0 < classes.padded == sum(classes.shown.values())


def _with_notes(source: Source, request: ColumnRequest, classes: Classes, reading: Reading) -> Reading:
    """The reading with notes on what of the cells was changed or might be unexpected, and how often."""
    notes = (*reading.notes, *padding_notes(source, classes, reading), *missing_notes(request, classes, reading))
    return replace(reading, notes=notes)


def padding_notes(source: Source, classes: Classes, reading: Reading) -> tuple[str, ...]:
    """Whether spaces around values are kept or left out, and around how many."""
    if classes.padded == 0:
        return ()
    if reading.physical != "VARCHAR" or is_padded(source, classes):
        return (f"spaces around {classes.padded} values left out",)
    return (f"spaces around {classes.padded} values kept",)


def missing_notes(request: ColumnRequest, classes: Classes, reading: Reading) -> tuple[str, ...]:
    """The words that were read as missing values, and how often."""
    words = {word or "blank": count for word, count in classes.missing.items()}
    nan = classes.shown.get("nan", 0)
    if nan and request.nan_is_missing and reading.physical != "DOUBLE":
        words["NaN"] = nan
    if not words:
        return ()
    return ("read as missing: " + ", ".join(f"{word} ({count})" for word, count in words.items()),)


def _mixture(classes: Classes) -> str | None:
    """A note on a column that nearly was something else: the usual sign of a slip in the data."""
    shown = classes.shown
    total = sum(shown.values())
    numbers = count_of(shown)
    dates = sum(count for label, count in shown.items() if label == "iso" or label.startswith(SHAPE))
    if total == numbers and set(shown) - PLAIN:
        return "text, because its numbers differ in their signs, or in what dots and commas mean"
    for words, count in (("number", numbers), ("date", dates)):
        if total > count >= MOSTLY * total:
            return f"text, because {total - count} of {total} values are not a {words}"
    return None

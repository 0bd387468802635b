"""The type of each text column, found by holding *every* value against the patterns, never a sample.

One statement sorts all cells of up to a thousand columns into classes and counts them; a column has the type that
all of its classes agree on, else it is text.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.detect_dialect import NULL_TOKENS
from service.engines.duckdb.ingest_dates import (
    ORDERS,
    Order,
    described,
    is_ambiguous,
    is_iso,
    may_be_date,
    parse,
    shape_of,
    shapes,
)
from service.engines.duckdb.ingest_source import Source, SourceColumn
from service.engines.duckdb.ingest_sql import (
    CellExpressions,
    batches,
    call,
    case,
    long_form,
    matches,
    named,
    one_of,
    reference,
    run,
    string,
    try_cast,
)
from service.engines.duckdb.sandbox import Sandbox

INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
"""No leading zeros: "00123" is a code, whose zeros a number would lose."""
DECIMAL = re.compile(r"[+-]?((0|[1-9][0-9]*)([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?")
DECIMAL_COMMA = re.compile(r"[+-]?(0|[1-9][0-9]*|[1-9][0-9]{0,2}([.][0-9]{3})+),[0-9]+")
DOTTED_THOUSAND = re.compile(r"[+-]?[1-9][0-9]{0,2}[.][0-9]{3}")
"""With a single dot it may as well be a decimal, and is one unless the rest of its column says otherwise."""
DOTTED_MILLIONS = re.compile(r"[+-]?[1-9][0-9]{0,2}([.][0-9]{3}){2,}")
COMMA_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+([.][0-9]*)?")
INFINITE_WORDS = tuple(sign + word for sign in ("", "+", "-") for word in ("inf", "infinity"))

TRUE_WORDS: dict[str, str] = {"true": "false", "yes": "no", "t": "f", "y": "n"}
"""What is said for true, and the word for false that goes with it. A single letter alone can mean anything, so both
letters of a pair must occur."""

NUMERIC = frozenset({"integer", "big", "decimal", "grouped", "nan", "infinite"})
CONTINENTAL = frozenset({"decimal comma", "millions"})
"""Classes of numbers in which a dot can only stand between thousands."""
SHAPE = "@"
"""Begins the class of a value that has a date's shape."""


class Reading(Struct, frozen=True):
    """How a column is read from its source."""

    physical: str
    """BIGINT, DOUBLE, BOOLEAN, TIMESTAMP or VARCHAR."""
    value: exp.Expr
    note: str | None = None
    """What a reader of the profile should know of the choice."""


class _Dates(Struct, frozen=True):
    found: frozenset[str]
    iso: bool


Classes = Mapping[str, int]


async def read_types(box: Sandbox, source: Source) -> dict[int, Reading]:
    """The reading of each text column of the source, by position."""
    columns = [column for column in source.columns if column.type == "VARCHAR"]
    counted, padded = await _count_classes(box, source, columns)
    readings: dict[int, Reading] = {}
    dates: dict[_Dates, list[SourceColumn]] = defaultdict(list)
    for column in columns:
        classes = counted.get(column.position, Counter())
        candidate = _date_candidate(classes, typed=source.typed)
        if candidate is not None:
            dates[candidate].append(column)
        elif source.typed:
            readings[column.position] = Reading("VARCHAR", reference(column.position))
        else:
            readings[column.position] = _reading(column, classes, padded=column.position in padded)
    for candidate, members in dates.items():
        readings |= await _date_readings(box, source, candidate, members, counted)
    return readings


async def _count_classes(
    box: Sandbox, source: Source, columns: Sequence[SourceColumn]
) -> tuple[dict[int, Counter[str]], set[int]]:
    """How many values of each column are of each class, and the columns with blanks around values."""
    counted: dict[int, Counter[str]] = defaultdict(Counter)
    padded: set[int] = set()
    cells: CellExpressions = [(column.position, reference(column.position)) for column in columns]
    for batch in batches(cells):
        for position, label, count, blanks in await run(box, lambda batch=batch: _class_query(source, batch)):
            counted[position][label] += count
            if blanks:
                padded.add(position)
    return counted, padded


def _class_query(source: Source, cells: CellExpressions) -> exp.Expr:
    value = call("trim", exp.column("v"))
    label = named(_class(value, decimal_comma=source.decimal_comma), "class")
    blanks = call("count", case((exp.NEQ(this=exp.column("v"), expression=value.copy()), exp.true())))
    return (
        exp.select("k", label, call("count", exp.Star()), blanks)
        .from_(long_form(source.scan, cells), copy=False)
        .group_by("k", "class", copy=False)
    )


def _class(value: exp.Expr, *, decimal_comma: bool) -> exp.Expr:
    """The class of a value, as SQL: the first branch that holds."""
    lower = call("lower", value)
    shape = shape_of(value)
    fits = case((try_cast(value, "BIGINT").is_(exp.null()), string("big")),
                otherwise=string("integer"))  # fmt: skip
    dotted = ((DOTTED_THOUSAND, "grouped"), (DOTTED_MILLIONS, "millions")) if decimal_comma else ()
    comma = (DECIMAL_COMMA, "decimal comma") if decimal_comma else (COMMA_THOUSANDS, "thousands")
    words = [word for pair in TRUE_WORDS.items() for word in pair]
    tree = case(
        (one_of(value, NULL_TOKENS), string("null")),
        (matches(value, INTEGER), fits),
        *((matches(value, pattern), string(label)) for pattern, label in dotted),
        (matches(value, DECIMAL), string("decimal")),
        (matches(value, comma[0]), string(comma[1])),
        (lower.eq("nan"), string("nan")),
        (one_of(lower, INFINITE_WORDS), string("infinite")),
        (one_of(lower, words), lower),
        (exp.Not(this=exp.paren(may_be_date(value))), string("text")),
        (is_iso(value), string("iso")),
        (one_of(shape, shapes()), call("concat", string(SHAPE), shape)),
        otherwise=string("text"),
    )
    return tree.copy()  # the branches share nodes, and a tree's node has one parent


def _date_candidate(classes: Classes, *, typed: bool) -> _Dates | None:
    """The shapes of a column that holds dates alone; a file with types has no words for missing values."""
    shown = set(classes) if typed else set(classes) - {"null", "nan"}
    found = frozenset(label.removeprefix(SHAPE) for label in shown if label.startswith(SHAPE))
    if not shown or not all(label == "iso" or label.startswith(SHAPE) for label in shown):
        return None
    return _Dates(found, iso="iso" in shown)


def _reading(column: SourceColumn, classes: Classes, *, padded: bool) -> Reading:
    """The reading that all of the column's classes agree on."""
    value = call("trim", reference(column.position)) if padded else reference(column.position)
    shown = frozenset(classes) - {"null"}
    counted = shown - {"nan", "infinite"}
    if (pair := _boolean_pair(shown - {"nan"})) is not None:
        return Reading("BOOLEAN", _boolean(value, *pair))
    if counted and shown <= {"integer"}:
        return Reading("BIGINT", try_cast(value, "BIGINT"))
    if counted and shown <= {"integer", "big"}:
        return Reading("VARCHAR", _text(value, classes), f"{column.name!r}: numbers over 64 bits, kept as text")
    if counted and shown <= NUMERIC:
        return Reading("DOUBLE", try_cast(value, "DOUBLE"))
    return _punctuated(column, value, shown) or Reading(
        "VARCHAR", _text(value, classes, padded=padded), _mixture(column, classes)
    )


def _punctuated(column: SourceColumn, value: exp.Expr, shown: frozenset[str]) -> Reading | None:
    """The reading of numbers with a decimal comma or with dots or commas between thousands."""
    if shown & CONTINENTAL and shown <= CONTINENTAL | {"integer", "grouped", "nan", "infinite"}:
        plain = _replace(_replace(value, ".", ""), ",", ".")
        words = "decimal comma" if "decimal comma" in shown else "dots between thousands"
        return Reading("DOUBLE", try_cast(plain, "DOUBLE"), f"{column.name!r}: {words}")
    if "thousands" in shown and shown <= NUMERIC - {"grouped"} | {"thousands"}:
        plain = _replace(value, ",", "")
        return Reading("DOUBLE", try_cast(plain, "DOUBLE"), f"{column.name!r}: commas between thousands")
    return None


def _boolean_pair(shown: frozenset[str]) -> tuple[str, str] | None:
    for true, false in TRUE_WORDS.items():
        if shown and shown <= {true, false} and (len(true) > 1 or len(shown) > 1):
            return true, false
    return None


def _boolean(value: exp.Expr, true: str, false: str) -> exp.Expr:
    lower = call("lower", value)
    return case((lower.eq(true), exp.true()), (lower.copy().eq(false), exp.false()))


def _replace(value: exp.Expr, old: str, new: str) -> exp.Expr:
    return call("replace", value, string(old), string(new))


def _text(value: exp.Expr, classes: Classes, *, padded: bool = False) -> exp.Expr:
    """The text itself, or null where it is a word for a missing value."""
    if not padded and not {"null", "nan"} & set(classes):
        return value
    missing = [(one_of(value, NULL_TOKENS), exp.null()), (call("lower", value).eq("nan"), exp.null())]
    return case(*missing, otherwise=value).copy()


def _mixture(column: SourceColumn, classes: Classes) -> str | None:
    """A note on a column that nearly was something else: the usual sign of a slip in the data."""
    total = sum(classes.values()) - classes.get("null", 0)
    numbers = sum(classes.get(label, 0) for label in NUMERIC)
    dates = sum(count for label, count in classes.items() if label == "iso" or label.startswith(SHAPE))
    for words, count in (("number", numbers), ("date", dates)):
        if total > count >= MOSTLY * total:
            return f"{column.name!r}: text, because {total - count} of {total} values are not a {words}"
    return None


MOSTLY = 0.9
"""Share of the values from which on a column seems meant to be of a type."""


async def _date_readings(
    box: Sandbox,
    source: Source,
    dates: _Dates,
    columns: Sequence[SourceColumn],
    counted: Mapping[int, Classes],
) -> dict[int, Reading]:
    """Dates in the order of day and month that reads every value of a column; text where none does."""
    cells: CellExpressions = [(column.position, reference(column.position)) for column in columns]
    read: dict[int, tuple[int, int]] = {}
    for batch in batches(cells):
        rows = await run(box, lambda batch=batch: _date_query(source, dates, batch))
        read |= {position: (month_first, day_first) for position, month_first, day_first in rows}
    return {
        column.position: _date_reading(
            column, dates, read[column.position], counted[column.position], typed=source.typed
        )
        for column in columns
    }


def _date_query(source: Source, dates: _Dates, cells: CellExpressions) -> exp.Expr:
    value = call("trim", exp.column("v"))
    counts = [call("count", parse(value, dates.found, order, iso=dates.iso)) for order in ORDERS]
    rows = long_form(source.scan, cells)
    return exp.select("k", *counts).from_(rows, copy=False).group_by("k", copy=False)


def _date_reading(
    column: SourceColumn, dates: _Dates, read: tuple[int, int], classes: Classes, *, typed: bool
) -> Reading:
    total = sum(count for label, count in classes.items() if label not in {"null", "nan"})
    orders: list[Order] = [order for order, count in zip(ORDERS, read, strict=True) if count == total]
    value = reference(column.position)
    if not orders:
        note = f"{column.name!r}: text, because not every value is a date in one order of day and month"
        return Reading("VARCHAR", value if typed else _text(value, classes), note)
    order = _preferred(orders, dates)
    parsed = parse(call("trim", value), dates.found, order, iso=dates.iso)
    unsure = len(orders) == len(ORDERS) and is_ambiguous(dates.found)
    doubt = f", read {order}: every value could also be read the other way" if unsure else ""
    return Reading(
        "TIMESTAMP", parsed, f"{column.name!r}: dates as {described(dates.found, order, iso=dates.iso)}{doubt}"
    )


def _preferred(orders: Sequence[Order], dates: _Dates) -> Order:
    """Month first when both orders read everything; with dots day first, as wherever dates are written with dots."""
    dotted = any(shape.startswith("9.9.") for shape in dates.found)
    return orders[-1] if dotted else orders[0]

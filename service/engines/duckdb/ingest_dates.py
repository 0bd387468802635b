"""Dates written as text: which shapes are understood, and the expression that reads them as UTC timestamps.

A *shape* is a text with its digits and letters blurred: `Y` four digits, `9` one or two, `a` letters, `F` a fraction
of a second, `D` a date of six digits with dots (`29.02.24`; with fewer digits it may be a version). A column is a date
column when each of its values has a known shape and is read by the formats that belong to the shapes found; which of
day and month comes first is decided by the whole column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import product
from typing import Literal, get_args

from msgspec import Struct
from sqlglot import exp

from service.engines.duckdb.ingest_sql import call, case, cast, holds, listed, matches, string, try_cast

Order = Literal["month first", "day first"]
ORDERS: tuple[Order, ...] = get_args(Order)

LONGEST_DATE = 40
"""Characters; the longest text that has a known shape is shorter."""

PARTS = re.compile(r"[0-9].*[^0-9A-Za-z].*[0-9]|[0-9]T[0-9]|[A-Za-z][ -]+[0-9]{4}$")
"""Stands in every text that has a known shape: two numbers with a sign between them, or a month's name and a year."""

ISO = re.compile(
    r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([ T]\d{1,2}:\d{1,2}(:\d{1,2}(\.\d{1,9})?)?)?( ?(Z|UTC|GMT)|[+-]\d{2}(:?\d{2})?)?"
)
"""Year first: read by the engine's own cast, which knows fractions and zones (ISO 8601, RFC 3339)."""

_DATES: dict[str, tuple[tuple[str, ...], ...]] = {
    # The two-digit year comes first: %Y would read "24" as the year 24.
    "9/9/9": (("%m/%d/%y",), ("%d/%m/%y",)),
    "Y-9-9": (("%Y-%m-%d",),) * 2,
    "Y/9/9": (("%Y/%m/%d",),) * 2,
    "9/9/Y": (("%m/%d/%Y",), ("%d/%m/%Y",)),
    "9-9-Y": (("%m-%d-%Y",), ("%d-%m-%Y",)),
    "9.9.Y": (("%m.%d.%Y",), ("%d.%m.%Y",)),
    "D": (("%d.%m.%y",),) * 2,
    "a 9 Y": (("%b %d %Y", "%B %d %Y"),) * 2,
    "a 9, Y": (("%b %d, %Y", "%B %d, %Y"),) * 2,
    "9 a Y": (("%d %b %Y", "%d %B %Y"),) * 2,
    "9. a Y": (("%d. %b %Y", "%d. %B %Y"),) * 2,
    "9-a-Y": (("%d-%b-%Y", "%d-%B-%Y"),) * 2,
    "9-a-9": (("%d-%b-%y",),) * 2,
    "9/a/Y": (("%d/%b/%Y",),) * 2,
    "a, 9 a Y": (("%a, %d %b %Y",),) * 2,
    "a 9 a Y": (("%a %d %b %Y",),) * 2,
}
_DATES_ALONE: dict[str, tuple[str, ...]] = {
    "Y-9": ("%Y-%m",),
    "Y/9": ("%Y/%m",),
    "9/Y": ("%m/%Y",),
    "9-Y": ("%m-%Y",),
    "a Y": ("%b %Y", "%B %Y"),
    "a-Y": ("%b-%Y", "%B-%Y"),
    "#aY": ("%Y%m%dT%H%M",),
    "#a#": ("%Y%m%dT%H%M%S",),
    "#a#a": ("%Y%m%dT%H%M%SZ",),
    "a a 9 9:9:9 Y": ("%a %b %d %H:%M:%S %Y",),
    "a a 9 9:9:9 +Y Y": ("%a %b %d %H:%M:%S %z %Y",),
    "9/a/Y:9:9:9 +Y": ("%d/%b/%Y:%H:%M:%S %z",),
}
_TIMES: dict[str, tuple[str, ...]] = {
    "9:9": ("%H:%M",),
    "9:9:9": ("%H:%M:%S",),
    "9:9:9F": ("%H:%M:%S.%f", "%H:%M:%S,%f"),
    "9:9 a": ("%I:%M %p", "%H:%M %Z"),
    "9:9:9 a": ("%I:%M:%S %p", "%H:%M:%S %Z"),
    "9:9a": ("%I:%M%p",),
    "9:9:9a": ("%I:%M:%S%p",),
    "9:9 +Y": ("%H:%M %z",),
    "9:9:9 +Y": ("%H:%M:%S %z",),
    "9:9:9 +9:9": ("%H:%M:%S %z",),
    "9:9:9F +Y": ("%H:%M:%S.%f %z",),
    "9:9:9F +9:9": ("%H:%M:%S.%f %z",),
    "9:9+9:9": ("%H:%M%z",),
    "9:9:9+9:9": ("%H:%M:%S%z",),
    "9:9:9+Y": ("%H:%M:%S%z",),
}
TIMES_OF_DAY: Mapping[str, tuple[str, ...]] = {
    "9:9": ("%H:%M",),
    "9:9:9": ("%H:%M:%S",),
    "9:9:9F": ("%H:%M:%S.%f", "%H:%M:%S,%f"),
    "9:9 a": ("%I:%M %p",),
    "9:9a": ("%I:%M%p",),
    "9:9:9 a": ("%I:%M:%S %p",),
    "9:9:9a": ("%I:%M:%S%p",),
}
"""Shapes of times of day without a date."""
EPOCH_OF_TIMES = 2_208_988_800_000_000
"""Microseconds from 1900-01-01, the day that the engine gives to a time without a date, to 1970-01-01."""
AMBIGUOUS = ("9/9/", "9-9-", "9.9.")
"""Beginnings of the shapes in which day and month look alike."""


class Reading(Struct, frozen=True):
    """How the values of one shape are read, by the order of day and month."""

    month_first: tuple[str, ...]
    day_first: tuple[str, ...]


@cache
def shapes() -> Mapping[str, Reading]:
    """Every known shape but those of ISO 8601, with the formats to try."""
    known = {shape: Reading(*orders) for shape, orders in _DATES.items()}
    known |= {shape: Reading(formats, formats) for shape, formats in _DATES_ALONE.items()}
    for (date, orders), (time, endings), gap in product(_DATES.items(), _TIMES.items(), (" ", ", ")):
        formats = tuple(tuple(f"{day}{gap}{ending}" for day in order for ending in endings) for order in orders)
        known[f"{date}{gap}{time}"] = Reading(*formats)
    return known


def shape_of(value: exp.Expr) -> exp.Expr:
    """The SQL that blurs a text to its shape."""
    for pattern, blurred in (
        (r"[a-zA-Z]+", "a"),
        (r"^[0-9]{2}[.][0-9]{2}[.][0-9]{2}($|[ ,])", r"D\1"),
        (r"(:[0-9]{1,2})[.,][0-9]{1,9}", r"\1F"),
        (r"[0-9]{5,}", "#"),
        (r"[0-9]{4}", "Y"),
        (r"[0-9]{1,2}", "9"),
        (r"(:9F? ?)-(Y|9:9)", r"\1+\2"),
        (r" +", " "),
    ):
        value = call("regexp_replace", value, string(pattern), string(blurred), string("g"))
    return value


def may_be_date(value: exp.Expr) -> exp.Expr:
    """A cheap test that keeps long texts, words, codes and numbered names from being blurred, which takes long."""
    short = exp.LTE(this=call("length", value.copy()), expression=exp.Literal.number(LONGEST_DATE))
    return exp.and_(short, holds(value.copy(), PARTS))


def is_iso(value: exp.Expr) -> exp.Expr:
    """Whether the text is a date with the year first."""
    return matches(value, ISO)


def parse(value: exp.Expr, found: Iterable[str], order: Order, *, iso: bool) -> exp.Expr:
    """The SQL that reads the text as a UTC timestamp, null where it is none of the shapes found.

    The text is known to have one of the shapes, or to be a word for a missing value.
    """
    known = shapes()
    formats = list(dict.fromkeys(f for shape in sorted(found) for f in _formats(known[shape], order)))
    if not formats:
        return _in_utc(try_cast(value, "TIMESTAMPTZ"))
    written = listed(string(one) for one in formats)
    moment = cast(call("try_strptime", value.copy(), written), "TIMESTAMPTZ")
    if iso:
        first = case((is_iso(value.copy()), try_cast(value, "TIMESTAMPTZ")))
        moment = exp.Coalesce(this=first, expressions=[moment])
    return _in_utc(moment)


def _in_utc(moment: exp.Expr) -> exp.Expr:
    return exp.AtTimeZone(this=exp.Paren(this=moment), zone=string("UTC"))


def _formats(reading: Reading, order: Order) -> tuple[str, ...]:
    return reading.month_first if order == "month first" else reading.day_first


def seconds_of_day(value: exp.Expr, found: Iterable[str]) -> exp.Expr:
    """The SQL that reads a time of day as seconds since midnight, null where it is none of the shapes found.

    A BIGINT, or a DOUBLE where the shapes have fractions.
    """
    shapes_found = sorted(found)
    formats = listed(string(one) for shape in shapes_found for one in TIMES_OF_DAY[shape])
    moment = call("epoch_us", call("try_strptime", value, formats))
    since_midnight = exp.Paren(this=exp.Add(this=moment, expression=exp.Literal.number(EPOCH_OF_TIMES)))
    if any("F" in shape for shape in shapes_found):
        return exp.Div(this=cast(since_midnight, "DOUBLE"), expression=exp.Literal.number("1e6"))
    return exp.IntDiv(this=since_midnight, expression=exp.Literal.number(1_000_000))


def is_ambiguous(found: Iterable[str]) -> bool:
    """Whether any of the shapes leaves open which is the day and which the month."""
    return any(shape.startswith(AMBIGUOUS) for shape in found)


def described(found: Iterable[str], order: Order, *, iso: bool) -> str:
    """The formats in words, for the profile's notes."""
    known = shapes()
    names = ["ISO 8601"] if iso else []
    names += [" or ".join(_formats(known[shape], order)) for shape in sorted(found)]
    return ", ".join(names)

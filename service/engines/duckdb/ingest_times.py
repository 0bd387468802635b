"""Columns of dates and times: text in known shapes, numbers that count from 1970, days as YYYYMMDD, and zones.

A local time of a zone becomes an instant by one rule: one that the clocks skip is moved forward by as much as they
are, and of one that they show twice it is the later instant. Both are counted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace
from sqlglot import exp

from service.engines.duckdb.detect_dialect import NULL_TOKENS
from service.engines.duckdb.ingest_columns import Classes, ColumnRequest, Reading, shapes_among
from service.engines.duckdb.ingest_dates import (
    ORDERS,
    TIMES_OF_DAY,
    Order,
    described,
    is_ambiguous,
    parse,
    seconds_of_day,
)
from service.engines.duckdb.ingest_numbers import whole
from service.engines.duckdb.ingest_source import Source
from service.engines.duckdb.ingest_sql import aggregated, call, case, cast, holds, number, string
from service.engines.duckdb.ingest_words import is_missing
from service.engines.duckdb.sandbox import Sandbox
from service.features.model import TimeUnit
from service.features.naming import is_day_name, is_duration_name, is_key_name, is_time_name

EPOCH_UNITS: Mapping[TimeUnit, int] = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
"""Units of instants since 1970, in microseconds."""
FIRST_EPOCH_SECOND, LAST_EPOCH_SECOND = 31_536_000, 4_133_980_799
"""1971 to 2100: numbers that are instants in one unit are none in the others; smaller ones may count seconds."""
MAX_EPOCH_SECOND = 253_402_300_799
"""The end of the year 9999."""
FIRST_DAY, LAST_DAY = 15_000_101, 29_991_231
"""Numbers that may be YYYYMMDD."""

OFFSET = re.compile(
    r":[0-9]{2}([.,][0-9]+)? ?([+-][0-9]{2}|Z|UTC|GMT|[A-Z]{3,4}$)|[0-9]{6}Z$|[+-][0-9]{4} [0-9]{4}$", re.IGNORECASE
)
"""Stands in a time that says its own offset from UTC."""
CLOCK = re.compile(r":|[0-9]T[0-9]")
"""Stands in a date that has a time of day."""


class Dates(Struct, frozen=True):
    """The shapes of a column that holds dates alone."""

    found: frozenset[str]
    iso: bool


def date_shapes(classes: Classes) -> Dates | None:
    """The shapes of a column whose values all have a date's; NaN among dates is a missing value."""
    shown = {label: n for label, n in classes.shown.items() if label != "nan"}
    found = shapes_among(shown)
    if not shown or len(found) + ("iso" in shown) < len(shown) or found & set(TIMES_OF_DAY):
        return None
    return Dates(found, iso="iso" in shown)


def is_time_of_day(request: ColumnRequest, classes: Classes) -> bool:
    """Whether all values have the shape of a time of day, and the column's name does not say a length of time."""
    shown = {label for label in classes.shown if label != "nan"}
    return bool(shown) and shapes_among(dict.fromkeys(shown, 1)) <= set(TIMES_OF_DAY) and _all_shaped(shown, request)


def _all_shaped(shown: set[str], request: ColumnRequest) -> bool:
    return all(label.startswith("@") for label in shown) and not is_duration_name(request.name)


def values_of(classes: Classes) -> int:
    """How many values are not missing, NaN being a missing one."""
    return sum(n for label, n in classes.shown.items() if label != "nan")


async def date_readings(
    box: Sandbox, source: Source, candidates: Mapping[int, tuple[ColumnRequest, Dates]], classes: Mapping[int, Classes]
) -> dict[int, Reading | str]:
    """Dates in the order of day and month that reads every value of a column; the reason where none does."""
    alike: dict[Dates, list[ColumnRequest]] = defaultdict(list)
    for request, dates in candidates.values():
        alike[dates].append(request)
    found: dict[int, Reading | str] = {}
    for dates, members in alike.items():
        read = await count_read(box, source, members, dates)
        for request in members:
            total = values_of(classes[request.position])
            found[request.position] = _date_reading(request, dates, read[request.position], total)
    return found


async def count_read(
    box: Sandbox, source: Source, members: Sequence[ColumnRequest], dates: Dates
) -> dict[int, tuple[int, ...]]:
    """How many values of each column are read with the month first, and with the day first."""

    def counts(value: exp.Expr) -> Sequence[exp.Expr]:
        trimmed = call("trim", value)
        return [call("count", parse(trimmed.copy(), dates.found, order, iso=dates.iso)) for order in ORDERS]

    cells = [(request.position, request.present(request.text)) for request in members]
    return await aggregated(box, source.scan, cells, counts)


def _date_reading(request: ColumnRequest, dates: Dates, read: tuple[int, ...], total: int) -> Reading | str:
    orders: list[Order] = [order for order, count in zip(ORDERS, read, strict=True) if count == total]
    if not orders:
        return (
            f"text, because {total - max(read)} of {total} values are no day or time that exists, or have day and "
            "month the other way round"
        )
    order = preferred(orders, dates)
    unsure = len(orders) == len(ORDERS) and is_ambiguous(dates.found)
    doubt = f", read {order}: every value could also be read the other way" if unsure else ""
    value = request.present(parse(call("trim", request.text), dates.found, order, iso=dates.iso))
    return Reading("TIMESTAMP", value, (f"dates as {described(dates.found, order, iso=dates.iso)}{doubt}",))


def preferred(orders: Sequence[Order], dates: Dates) -> Order:
    """Month first when both orders read everything; with dots day first, as wherever dates are written with dots."""
    dotted = any(shape.startswith("9.9.") for shape in dates.found)
    return orders[-1] if dotted else orders[0]


async def time_of_day_readings(
    box: Sandbox, source: Source, requests: Sequence[ColumnRequest], classes: Mapping[int, Classes]
) -> dict[int, Reading]:
    """Times of day as seconds since midnight, of the columns whose every value is one."""
    found: dict[int, Reading] = {}
    for request in requests:
        shapes = shapes_among(classes[request.position].shown)

        def counts(value: exp.Expr, shapes: frozenset[str] = shapes) -> Sequence[exp.Expr]:
            return [call("count", seconds_of_day(call("trim", value), shapes))]

        cells = [(request.position, request.present(request.text))]
        ((read,),) = (await aggregated(box, source.scan, cells, counts)).values()
        if read == values_of(classes[request.position]):
            found[request.position] = time_of_day(request, shapes)
    return found


def time_of_day(request: ColumnRequest, shapes: frozenset[str]) -> Reading:
    """Seconds since midnight, fractions kept."""
    value = request.present(seconds_of_day(call("trim", request.text), shapes))
    physical = "DOUBLE" if any("F" in shape for shape in shapes) else "BIGINT"
    return Reading(physical, value, ("times of day, as seconds since midnight",))


# ---------------------------------------------------------------------------------------------------- numbers as times


class _Whole(Struct, frozen=True):
    """What of a column of numbers decides whether they are instants, days or keys."""

    known: int
    """Values that are not missing, NaN being a missing one."""
    integers: int
    low: int | None
    high: int | None
    days: int
    """Values that are days as YYYYMMDD."""
    points: int
    """Values that are written with a point."""


async def whole_readings(
    box: Sandbox, source: Source, requests: Sequence[ColumnRequest], *, as_key: bool = False, as_time: bool = False
) -> dict[int, Reading]:
    """Integers that are instants, days or keys, of columns of numbers.

    Columns are taken for either as the caller says, and by their names where it says nothing.
    """
    keys = {one.position for one in requests if not as_time and (as_key or is_key_name(one.name))}
    times = {one.position for one in requests if not as_key and (as_time or is_day_name(one.name))}
    wanted = [one for one in requests if one.position in keys | times]
    cells = [(request.position, request.present(request.text)) for request in wanted]
    measured = await aggregated(box, source.scan, cells, _whole_counts)
    found: dict[int, Reading] = {}
    for request in wanted:
        counts = _Whole(*measured[request.position]) if request.position in measured else None
        if counts is not None and 0 < counts.known == counts.integers:
            key = request.position in keys
            reading = (
                _key_reading(request, counts, as_key=as_key)
                if key
                else _time_reading(request, counts, by_name=not as_time)
            )
            found |= {} if reading is None else {request.position: reading}
    return found


def _whole_counts(value: exp.Expr) -> Sequence[exp.Expr]:
    missing = is_missing(call("trim", value.copy()), NULL_TOKENS, nan=True)
    known = case((missing, exp.null()), otherwise=value.copy())
    integer = whole(call("trim", value))
    pointed = case((call("contains", value.copy(), string(".")), exp.true()))
    return [
        *(call("count", counted) for counted in (known, integer)),
        *(call(extreme, integer.copy()) for extreme in ("min", "max")),
        *(call("count", counted) for counted in (from_day(integer), pointed)),
    ]


def _key_reading(request: ColumnRequest, counts: _Whole, *, as_key: bool) -> Reading | None:
    if counts.points == 0 and not as_key:
        return None
    remark = f"integers, although {counts.points} of {counts.known} values are written with a point"
    value = request.present(whole(call("trim", request.text)))
    return Reading("BIGINT", value, (remark,) if counts.points else ())


def _time_reading(request: ColumnRequest, counts: _Whole, *, by_name: bool) -> Reading | None:
    integer = request.present(whole(call("trim", request.text)))
    if counts.days == counts.known:
        return Reading("TIMESTAMP", from_day(integer), ("dates as YYYYMMDD",))
    unit = epoch_unit(counts.low or 0, counts.high or 0)
    if unit is None or (by_name and not is_time_name(request.name)):
        return None
    remark = f"instants in {unit} since 1970-01-01 UTC"
    return Reading("TIMESTAMP", from_epoch(integer, unit), (remark,), instants=True)


def epoch_unit(low: int, high: int) -> TimeUnit | None:
    """The unit in which all numbers between the two are instants from 1971 to 2100."""
    for unit, microseconds in EPOCH_UNITS.items():
        scale = 1_000_000 // microseconds
        if FIRST_EPOCH_SECOND * scale <= low and high < (LAST_EPOCH_SECOND + 1) * scale:
            return unit
    return None


def from_epoch(integer: exp.Expr, unit: TimeUnit) -> exp.Expr:
    """The SQL for the instant that an integer counts; null beyond the years 1 to 9999."""
    microseconds = EPOCH_UNITS[unit]
    bound = MAX_EPOCH_SECOND * (1_000_000 // microseconds)
    fits = exp.Between(this=integer.copy(), low=exp.Neg(this=number(bound // 5)), high=number(bound))
    moment = call("make_timestamp", exp.Mul(this=exp.Paren(this=integer.copy()), expression=number(microseconds)))
    return case((fits, moment))


def from_day(integer: exp.Expr) -> exp.Expr:
    """The SQL for the day that an integer spells as YYYYMMDD; null where it spells none."""
    fits = exp.Between(this=integer.copy(), low=number(FIRST_DAY), high=number(LAST_DAY))
    return case((fits, call("try_strptime", cast(integer.copy(), "VARCHAR"), string("%Y%m%d"))))


# -------------------------------------------------------------------------------------------------------------- zones


async def in_zone(box: Sandbox, source: Source, request: ColumnRequest, reading: Reading) -> Reading:
    """The reading with its values without an offset read as local times of the column's zone.

    Days without a time of day are no instants, and stay; so do instants, which no zone concerns.
    """
    zone = request.zone
    if zone is None or reading.physical != "TIMESTAMP":
        return reading
    if reading.instants:
        return _not_applied(request, reading, "values are instants already")
    text = request.text
    timed, own, skipped, twice = await _count_local(box, source, text, reading, zone)
    if timed == 0:
        return _not_applied(request, reading, "values are days without a time")
    value = case((_has_offset(text), reading.value.copy()), otherwise=local(reading.value, zone))
    remark = f"local times of {zone}, in UTC here"
    remark += f"; {own} with an offset of their own" if own else ""
    remark += f"; {skipped} that the clocks skipped, moved forward" if skipped else ""
    remark += f"; {twice} that the clocks showed twice, read as the later" if twice else ""
    return replace(reading, value=value, notes=(*reading.notes, remark))


def _not_applied(request: ColumnRequest, reading: Reading, why: str) -> Reading:
    if request.override.zone is None:
        return reading
    return replace(reading, notes=(*reading.notes, f"the zone {request.zone} changes nothing: its {why}"))


async def _count_local(box: Sandbox, source: Source, text: exp.Expr, reading: Reading, zone: str) -> tuple[int, ...]:
    """How many values have a time of day, an offset, were skipped by the zone's clocks, or shown twice."""
    moment = exp.column("m")
    instant = local(moment, zone)
    there = exp.column("u")
    back = _shown(there, zone)
    before = exp.Sub(this=there.copy(), expression=exp.Interval(this=string("3"), unit=exp.var("HOUR")))
    offset_before = exp.Sub(this=_shown(before, zone), expression=exp.Paren(this=before.copy()))
    other = exp.Paren(this=exp.Sub(this=moment.copy(), expression=exp.Paren(this=offset_before)))
    twice = exp.and_(exp.NEQ(this=other, expression=there.copy()), _shown(other.copy(), zone).eq(moment.copy()))
    plain = exp.Not(this=exp.column("o"))
    conditions = [
        exp.column("t"),
        exp.column("o"),
        exp.and_(plain, exp.NEQ(this=back, expression=moment.copy())),
        exp.and_(plain.copy(), twice),
    ]
    cells = exp.select(
        exp.alias_(reading.value.copy(), "m"),
        exp.alias_(_has_offset(text), "o"),
        exp.alias_(holds(text.copy(), CLOCK), "t"),
    ).from_(source.scan)
    local_times = exp.select("m", "o", "t", exp.alias_(instant, "u")).from_(cells.subquery()).where("m IS NOT NULL")
    counts = [call("count", case((condition, exp.true()))) for condition in conditions]
    query = exp.select(*counts).from_(local_times.subquery())
    return (await box.execute(query.sql(dialect="duckdb")))[0]


def local(moment: exp.Expr, zone: str) -> exp.Expr:
    """The SQL for the instant at which a zone's clocks show a time, as a timestamp in UTC."""
    instant = exp.AtTimeZone(this=exp.Paren(this=moment.copy()), zone=string(zone))
    return exp.AtTimeZone(this=exp.Paren(this=instant), zone=string("UTC"))


def _shown(instant: exp.Expr, zone: str) -> exp.Expr:
    """The SQL for what a zone's clocks show at an instant, which is a timestamp in UTC."""
    aware = exp.AtTimeZone(this=exp.Paren(this=instant.copy()), zone=string("UTC"))
    return exp.AtTimeZone(this=exp.Paren(this=aware), zone=string(zone))


def _has_offset(text: exp.Expr) -> exp.Expr:
    return holds(call("trim", text.copy()), OFFSET)

"""What a client says of columns, held against the upload: each value must convert, else nothing is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace
from sqlglot import exp

from service.engines.duckdb.ingest_columns import Classes, ColumnRequest, Reading, count_classes, shapes_among
from service.engines.duckdb.ingest_dates import ORDERS, TIMES_OF_DAY, Order, parse, seconds_of_day
from service.engines.duckdb.ingest_numbers import NUMBER, PLAIN, Style, read, style_of, whole
from service.engines.duckdb.ingest_source import MAX_FAULTS, Source, unreadable
from service.engines.duckdb.ingest_sql import call, case, cast, listed, number, one_of, parquet, run, string
from service.engines.duckdb.ingest_times import (
    EPOCH_UNITS,
    MAX_EPOCH_SECOND,
    Dates,
    count_read,
    from_day,
    from_epoch,
    preferred,
    whole_readings,
)
from service.engines.duckdb.ingest_types import as_text, missing_notes, padding_notes
from service.engines.duckdb.ingest_words import ALL_FALSE, ALL_TRUE
from service.engines.duckdb.sandbox import Sandbox
from service.features.errors import InvalidRequest
from service.features.model import ColumnOverride, FieldError, LogicalType, ReadOptions, TimeUnit

MAX_INTEGER = 2.0**63
YEAR_MONTHS = ("%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%b %Y", "%B %Y")
FIRST_MONTH, LAST_MONTH = 10_001, 999_912
"""Numbers that may be YYYYMM."""
KEYS: frozenset[LogicalType] = frozenset({"integer", "text", "categorical", "identifier"})
"""Types that a key may have."""


class _Asked(Struct, frozen=True):
    """A reading that was asked for, and what each value has to be."""

    reading: Reading
    kind: str


def forced_type(override: ColumnOverride) -> LogicalType | None:
    """The type that the client gives a column, also by its unit or role; None when its values decide."""
    if override.type is not None:
        return override.type
    if override.unit is not None:
        return "integer" if override.unit == "time_of_day" else "datetime"
    return "identifier" if override.role == "identifier" else None


def require_consistent(requests: Sequence[ColumnRequest], overrides: ReadOptions, zones: frozenset[str]) -> None:
    """Raises InvalidRequest for overrides of unknown columns or zones, and for those that contradict themselves."""
    known = {request.name for request in requests}
    faults = [
        FieldError(f"columns.{name}", "is no column of the file") for name in overrides.columns if name not in known
    ]
    if overrides.zone is not None and overrides.zone not in zones:
        faults.append(_unknown_zone("zone"))
    for name, override in overrides.columns.items():
        faults.extend(FieldError(f"columns.{name}.{field}", words) for field, words in _contradictions(override, zones))
    if requests and all(request.override.role == "ignored" for request in requests):
        faults.append(FieldError("columns", "leave no column to be read"))
    if faults:
        raise InvalidRequest(
            f"The file cannot be read as asked: {faults[0].field} {faults[0].message}.", errors=faults[:MAX_FAULTS]
        )


def _unknown_zone(field: str) -> FieldError:
    return FieldError(field, "is no zone of the IANA database, such as Europe/Berlin")


def _contradictions(override: ColumnOverride, zones: frozenset[str]) -> Iterator[tuple[str, str]]:
    allowed = ("integer", "numeric") if override.unit == "time_of_day" else ("datetime",)
    if override.unit is not None and override.type is not None and override.type not in allowed:
        yield "unit", f"makes the column one of type {allowed[0]}"
    if override.role == "identifier" and override.type is not None and override.type not in KEYS:
        yield "role", f"cannot be identifier: a column of type {override.type} is no key"
    if override.role == "feature" and override.type == "identifier":
        yield "role", "contradicts the type"
    if override.zone is None:
        return
    if override.zone not in zones:
        yield "zone", _unknown_zone("").message
    elif override.unit is not None or forced_type(override) not in {None, "datetime"}:
        yield "zone", "is for columns of local times; this type or unit has none"


async def forced_readings(box: Sandbox, source: Source, requests: Sequence[ColumnRequest]) -> dict[int, Reading]:
    """The readings that the client asks for, by position.

    Raises DatasetUnreadable with the first row of each column whose values do not all convert.
    """
    counted = await count_classes(box, source, requests)
    readings: dict[int, Reading] = {}
    faults: list[FieldError] = []
    for request in requests:
        classes = counted.get(request.position, Classes())
        asked = await _asked(box, source, request, classes)
        fault = await _fault(box, source, request, asked)
        if fault is not None:
            faults.append(fault)
        notes = (*asked.reading.notes, *padding_notes(source, classes, asked.reading))
        notes = (*notes, *missing_notes(request, classes, asked.reading))
        readings[request.position] = replace(asked.reading, notes=notes, logical=_logical(request.override))
    if faults:
        raise unreadable("The file cannot be read as asked", faults)
    return readings


def _logical(override: ColumnOverride) -> LogicalType | None:
    return "identifier" if override.role == "identifier" else forced_type(override)


async def _asked(box: Sandbox, source: Source, request: ColumnRequest, classes: Classes) -> _Asked:
    kind = forced_type(request.override)
    if request.override.unit is not None:
        return _by_unit(source, request, classes, request.override.unit)
    if kind == "datetime":
        return await _datetime(box, source, request, classes)
    if kind == "identifier":
        return await _identifier(box, source, request, classes)
    if kind == "boolean":
        flag = request.present(_flag(call("trim", request.text)))
        return _Asked(Reading("BOOLEAN", flag), "true or false in a known language, 1 or 0")
    if kind in {"numeric", "integer"}:
        return _numeric(source, request, classes, integer=kind == "integer")
    return _Asked(Reading("VARCHAR", as_text(source, request, classes)), "")


def _numeric(source: Source, request: ColumnRequest, classes: Classes, *, integer: bool) -> _Asked:
    value, style = _number(source, request, classes)
    if integer:
        return _Asked(
            Reading("BIGINT", _integer(request, value, style), style.remarks), "an integer of at most 64 bits"
        )
    return _Asked(Reading("DOUBLE", value, style.remarks), "a number")


def _number(source: Source, request: ColumnRequest, classes: Classes) -> tuple[exp.Expr, Style]:
    numbers = {label: n for label, n in classes.shown.items() if label in PLAIN or label.startswith(NUMBER)}
    style = style_of(numbers, decimal_comma=source.decimal_comma, asked=True) or Style()
    return request.present(read(call("trim", request.text), style)), style


def _integer(request: ColumnRequest, value: exp.Expr, style: Style) -> exp.Expr:
    """The integer that a number is, all digits kept of one that is written as integers are."""
    integral = exp.and_(
        value.copy().eq(call("trunc", value.copy())),
        exp.LT(this=call("abs", value.copy()), expression=exp.Literal.number(repr(MAX_INTEGER))),
    )
    integer = case((integral, cast(value.copy(), "BIGINT")))
    if not style.plain:
        return integer
    return exp.Coalesce(this=request.present(whole(call("trim", request.text))), expressions=[integer])


def _flag(trimmed: exp.Expr) -> exp.Expr:
    lower = call("lower", trimmed)
    return case(
        (one_of(lower.copy(), (*ALL_TRUE, "1", "1.0")), exp.true()),
        (one_of(lower.copy(), (*ALL_FALSE, "0", "0.0")), exp.false()),
    )


async def _identifier(box: Sandbox, source: Source, request: ColumnRequest, classes: Classes) -> _Asked:
    """Integers where all values are, with as many as written `1.0`; else text as written."""
    if set(classes.shown) <= {"integer", "decimal", "nan"}:
        found = await whole_readings(box, source, [request], as_key=True)
        if request.position in found:
            return _Asked(found[request.position], "an integer")
    return _Asked(Reading("VARCHAR", as_text(source, request, classes)), "")


async def _datetime(box: Sandbox, source: Source, request: ColumnRequest, classes: Classes) -> _Asked:
    """Dates in any known shape, else numbers that are instants or days throughout."""
    kind = "a date or time that exists, in a known form and one order of day and month"
    found = Dates(shapes_among(classes.shown) - set(TIMES_OF_DAY), iso="iso" in classes.shown)
    if not found.found and not found.iso:
        numbers = await whole_readings(box, source, [request], as_time=True)
        nothing = Reading("TIMESTAMP", cast(exp.null(), "TIMESTAMP"))
        return _Asked(numbers.get(request.position, nothing), kind)
    read_by = (await count_read(box, source, [request], found))[request.position]
    orders: list[Order] = [order for order, n in zip(ORDERS, read_by, strict=True) if n == max(read_by)]
    value = request.present(parse(call("trim", request.text), found.found, preferred(orders, found), iso=found.iso))
    return _Asked(Reading("TIMESTAMP", value), kind)


def _by_unit(source: Source, request: ColumnRequest, classes: Classes, unit: TimeUnit) -> _Asked:
    trimmed = call("trim", request.text)
    if unit == "time_of_day":
        return _time_of_day(request, classes)
    if unit in EPOCH_UNITS:
        decimal, _ = _number(source, request, classes)
        moment = exp.Coalesce(this=from_epoch(whole(trimmed), unit), expressions=[_from_decimal(decimal, unit)])
        return _Asked(
            Reading("TIMESTAMP", request.present(moment), (f"instants in {unit} since 1970-01-01 UTC",), instants=True),
            f"a number of {unit} since 1970 before the year 10000",
        )
    value = request.present(_calendar(trimmed, unit, classes))
    kinds = {"date": "a day as YYYYMMDD or in a known form", "year": "a year", "year_month": "a year and a month"}
    return _Asked(Reading("TIMESTAMP", value), kinds[unit])


def _time_of_day(request: ColumnRequest, classes: Classes) -> _Asked:
    shapes = shapes_among(classes.shown) & set(TIMES_OF_DAY)
    seconds = seconds_of_day(call("trim", request.text), shapes) if shapes else exp.null()
    decimal = request.override.type == "numeric" or any("F" in shape for shape in shapes)
    physical = "DOUBLE" if decimal else "BIGINT"
    value = request.present(cast(seconds, physical))
    return _Asked(Reading(physical, value, ("times of day, as seconds since midnight",)), "a time of day")


def _from_decimal(seconds: exp.Expr, unit: TimeUnit) -> exp.Expr:
    """The SQL for the instant that a number with a fraction counts, to the microsecond."""
    bound = MAX_EPOCH_SECOND * (1_000_000 // EPOCH_UNITS[unit])
    fits = exp.Between(this=seconds.copy(), low=exp.Neg(this=number(bound // 5)), high=number(bound))
    microseconds = call("round", exp.Mul(this=seconds.copy(), expression=number(EPOCH_UNITS[unit])))
    return case((fits, call("make_timestamp", cast(microseconds, "BIGINT"))))


def _calendar(trimmed: exp.Expr, unit: TimeUnit, classes: Classes) -> exp.Expr:
    """The SQL for the first instant of a day, a month or a year."""
    integer = whole(trimmed)
    if unit == "year":
        fits = exp.Between(this=integer, low=number(1), high=number(9999))
        padded = call("lpad", cast(integer.copy(), "VARCHAR"), number(4), string("0"))
        return case((fits, call("try_strptime", padded, string("%Y"))))
    if unit == "year_month":
        fits = exp.Between(this=integer, low=number(FIRST_MONTH), high=number(LAST_MONTH))
        digits = call("lpad", cast(integer.copy(), "VARCHAR"), number(6), string("0"))
        written = call("try_strptime", trimmed.copy(), listed(string(one) for one in YEAR_MONTHS))
        return exp.Coalesce(this=written, expressions=[case((fits, call("try_strptime", digits, string("%Y%m"))))])
    found = Dates(shapes_among(classes.shown) - set(TIMES_OF_DAY), iso="iso" in classes.shown)
    parsed = parse(trimmed.copy(), found.found, preferred(ORDERS, found), iso=found.iso)
    return exp.Coalesce(this=from_day(integer), expressions=[parsed])


async def _fault(box: Sandbox, source: Source, request: ColumnRequest, asked: _Asked) -> FieldError | None:
    """The first value that does not convert, and how many do not; None when all do."""
    if not asked.kind:
        return None
    there = [exp.Not(this=exp.paren(request.text.is_(exp.null())))]
    if request.missing_words:
        there.append(exp.Not(this=exp.paren(request.is_missing())))
    lost = exp.and_(*there, asked.reading.value.copy().is_(exp.null()))
    scan = parquet(source.path, source.width, row_number=True)
    rows = await run(
        box, lambda: exp.select(call("count", exp.Star()), call("min", exp.column("r"))).from_(scan).where(lost)
    )
    ((count, row),) = rows
    if count == 0:
        return None
    more = "" if count == 1 else f", as {count} values of the column are not"
    return FieldError(f"data row {row + 1}, column {request.name}", f"is not {asked.kind}{more}")

"""Calendar features that take dates as parameters: holidays, days to an event, working days, completed years."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.calendar import PARTS, RANGES
from service.features.operations.expression import DAY, Columns, Expression, Part, Rows
from service.features.operations.parameters import DatePart, Dates, TimeColumn
from service.features.operations.values import ValueOperation, flag

EPOCH = date(1970, 1, 1)
SATURDAY = 5
"""Of Python's days of the week, from 0."""
HOLIDAYS = "a list of dates, such as public holidays"


def day_number(columns: Columns, time: str) -> Expression:
    """Days from 1970-01-01 to the datetime's calendar day."""
    return columns.sql("CAST(FLOOR(:i / :day) AS BIGINT)", i=columns.instant(time), day=DAY)


def number_of(day: date) -> int:
    """Days from 1970-01-01."""
    return (day - EPOCH).days


def listed(dates: Dates) -> str:
    """The dates' numbers, as SQL."""
    return ", ".join(str(number_of(day)) for day in sorted({*dates}))


class IsDateIn(ValueOperation, frozen=True, tag="is_date_in"):
    """1 where the datetime's day is one of the given dates (public holidays, sales), else 0."""

    column: TimeColumn
    dates: Dates

    gives = "integer"
    nulls = "where the column is null"
    formula = "1 if the day (UTC) is in the list, else 0"
    source = HOLIDAYS
    example = '{"column": "at", "dates": ["2024-12-25", "2024-12-26"]}'

    def compile(self, rows: Rows) -> Expression:
        """Look the day up."""
        day = day_number(rows, self.column)
        met = rows.sql(f":day IN ({listed(self.dates)})", day=day)
        return rows.sql("CASE WHEN NOT :day IS NULL THEN :flag END", day=day, flag=flag(rows, met))


class DaysToNearestDate(ValueOperation, frozen=True, tag="days_to_nearest_date"):
    """Whole days from the datetime's day to the next, since the previous, or to the nearest of the given dates."""

    column: TimeColumn
    dates: Dates
    direction: Literal["next", "previous", "nearest"] = "next"

    gives = "integer"
    nulls = "where the column is null, or no date lies in that direction"
    formula = "the least |date - day (UTC)| over the dates not before, or not after, the day; 0 on a date"
    source = HOLIDAYS
    example = '{"column": "at", "dates": ["2024-05-01", "2024-12-25"], "direction": "next"}'

    def compile(self, rows: Rows) -> Expression:
        """Find the neighbours in the sorted list."""
        day = day_number(rows, self.column)
        numbers = sorted({number_of(one) for one in self.dates})
        after = " ".join(f"WHEN :day <= {number} THEN {number} - :day" for number in numbers)
        before = " ".join(f"WHEN :day >= {number} THEN :day - {number}" for number in reversed(numbers))
        to_next = rows.sql(f"CAST(CASE WHEN :day IS NULL THEN NULL {after} END AS BIGINT)", day=day)
        since = rows.sql(f"CAST(CASE WHEN :day IS NULL THEN NULL {before} END AS BIGINT)", day=day)
        if self.direction == "nearest":
            return rows.sql("LEAST(:a, :b)", a=to_next, b=since)
        return to_next if self.direction == "next" else since


class BusinessDaysBetween(ValueOperation, frozen=True, tag="business_days_between"):
    """Working days from one datetime's day to another's, the first included and the last not; negative backwards."""

    start: TimeColumn
    end: TimeColumn
    holidays: Annotated[tuple[date, ...], Meta(max_length=366)] = ()

    gives = "integer"
    nulls = "where either column is null"
    formula = (
        "days d (UTC) with start ≤ d < end that are Monday to Friday and no holiday; the other way, end < d ≤ start"
    )
    source = "NumPy's `busday_count` with holidays"
    example = '{"start": "at", "end": "delivered_at", "holidays": ["2024-12-25"]}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract the working days before each end."""
        first, last = day_number(rows, self.start), day_number(rows, self.end)
        forward = self._before(rows, last), self._before(rows, first)
        one_more = rows.sql(":day + 1", day=last), rows.sql(":day + 1", day=first)
        backward = self._before(rows, one_more[0]), self._before(rows, one_more[1])
        text = "CAST(CASE WHEN :a <= :b THEN :b1 - :a1 ELSE :b2 - :a2 END AS BIGINT)"
        known = rows.sql(text, a=first, b=last, b1=forward[0], a1=forward[1], b2=backward[0], a2=backward[1])
        return rows.sql("CASE WHEN NOT :a IS NULL AND NOT :b IS NULL THEN :n END", a=first, b=last, n=known)

    def _before(self, rows: Rows, day: Expression) -> Expression:
        """Working days before the day, from a Monday long ago."""
        monday = number_of(date(1, 1, 1))  # a Monday
        since = rows.sql(":day - :monday", day=day, monday=monday)
        weekdays = rows.sql("FLOOR(:n / 7) * 5 + LEAST(MOD(:n, 7), 5)", n=since)
        free = sorted({number_of(one) for one in self.holidays if one.weekday() < SATURDAY})
        if not free:
            return weekdays
        off = " + ".join(f"CASE WHEN :day > {number} THEN 1 ELSE 0 END" for number in free)
        return rows.sql(f":weekdays - ({off})", weekdays=weekdays, day=day)


class CompletedPeriods(ValueOperation, frozen=True, tag="completed_periods"):
    """Whole years or months from a datetime to another one or to a given date (age), negative when it comes first."""

    start: TimeColumn
    end: TimeColumn | None = None
    until: date | None = None
    unit: Literal["years", "months"] = "years"

    gives = "integer"
    nulls = "where a column is null"
    formula = (
        "months between the days (UTC), less one where the end's day of the month comes before the start's; ⌊ / 12⌋"
    )
    source = "age in completed years"
    example = '{"start": "at", "until": "2026-01-01", "unit": "years"}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """No end, or two."""
        if (self.end is None) == (self.until is None):
            yield "end", "give either a column `end` or a date `until`"

    def compile(self, rows: Rows) -> Expression:
        """Count the months, then the years in them."""
        start = rows.raw(self.start)
        months = "YEAR_OF(:t) * 12 + MONTH_OF_YEAR(:t)"
        if self.end is None:
            day = self.until or EPOCH
            end_months, end_day = rows.sql(":n", n=day.year * 12 + day.month), rows.sql(":n", n=day.day)
        else:
            end = rows.raw(self.end)
            end_months, end_day = rows.sql(months, t=end), rows.sql("DAY_OF_MONTH(:t)", t=end)
        parts: dict[str, Part] = {"first": rows.sql(months, t=start), "last": end_months, "day": end_day, "t": start}
        early = "CASE WHEN :day < DAY_OF_MONTH(:t) THEN 1 WHEN :day >= DAY_OF_MONTH(:t) THEN 0 END"
        whole = rows.sql(f":last - :first - {early}", **parts)
        text = "CAST(FLOOR(:months / 12) AS BIGINT)" if self.unit == "years" else "CAST(:months AS BIGINT)"
        return rows.sql(text, months=whole)


class DatePartIn(ValueOperation, frozen=True, tag="date_part_in"):
    """1 where a calendar part of the datetime is one of some values (rush hours, December, Fridays), else 0."""

    column: TimeColumn
    part: DatePart
    values: Annotated[tuple[Annotated[int, Meta(ge=0, le=9999)], ...], Meta(min_length=1, max_length=60)]

    gives = "integer"
    nulls = "where the column is null"
    formula = "1 if the part of the datetime in UTC is one of the values, else 0"
    source = "ISO 8601 (weeks and days of the week); the Gregorian calendar"
    example = '{"column": "at", "part": "hour", "values": [7, 8, 16, 17]}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """Values that the part never has."""
        least, greatest = RANGES[self.part]
        if any(not least <= value <= greatest for value in self.values):
            yield "values", f"the part {self.part} lies between {least} and {greatest}"

    def compile(self, rows: Rows) -> Expression:
        """Compare the part."""
        t = rows.raw(self.column)
        met = rows.sql(f"{PARTS[self.part]} IN ({', '.join(map(str, self.values))})", t=t)
        return rows.sql("CASE WHEN NOT :t IS NULL THEN :flag END", t=t, flag=flag(rows, met))

"""Calendar features of one row: parts of a datetime, and the time between two."""

from __future__ import annotations

import math
from datetime import date
from typing import Literal

from service.features.operations.expression import DAY, Expression, Rows
from service.features.operations.parameters import DatePart, TimeColumn
from service.features.operations.values import ValueOperation, flag

PARTS: dict[DatePart, str] = {
    "hour": "HOUR_OF_DAY(:t)",
    "day_of_week": "ISO_WEEKDAY(:t)",
    "day_of_month": "DAY_OF_MONTH(:t)",
    "day_of_year": "DAY_OF_YEAR(:t)",
    "week": "ISO_WEEK(:t)",
    "month": "MONTH_OF_YEAR(:t)",
    "quarter": "QUARTER_OF_YEAR(:t)",
    "year": "YEAR_OF(:t)",
    "minute": "EXTRACT(MINUTE FROM :t)",
    "week_of_month": "FLOOR((DAY_OF_MONTH(:t) - 1) / 7) + 1",
    "half_year": "CASE WHEN QUARTER_OF_YEAR(:t) <= 2 THEN 1 WHEN QUARTER_OF_YEAR(:t) <= 4 THEN 2 END",
}
"""Calendar parts; weeks and days of the week are ISO 8601's."""

RANGES: dict[DatePart, tuple[int, int]] = {
    "hour": (0, 23),
    "day_of_week": (1, 7),
    "day_of_month": (1, 31),
    "day_of_year": (1, 366),
    "week": (1, 53),
    "month": (1, 12),
    "quarter": (1, 4),
    "year": (1, 9999),
    "minute": (0, 59),
    "week_of_month": (1, 5),
    "half_year": (1, 2),
}
"""The least and the greatest value of each part."""

PERIODS: dict[Literal["hour", "day_of_week", "month", "day_of_year"], float] = {
    "hour": 24, "day_of_week": 7, "month": 12, "day_of_year": 365.25,
}  # fmt: skip


class DatePartOf(ValueOperation, frozen=True, tag="date_part"):
    """A calendar part of a datetime; day_of_week is ISO: Monday 1 … Sunday 7."""

    column: TimeColumn
    part: DatePart

    gives = "integer"
    follows_calendar = True
    nulls = "where the column is null"
    formula = "the part of the datetime in UTC; weeks are those of ISO 8601, years the calendar's"
    source = "ISO 8601 (weeks and days of the week); the Gregorian calendar"
    example = '{"column": "at", "part": "hour"}'

    def compile(self, rows: Rows) -> Expression:
        """Take the part as an integer."""
        return rows.sql(f"CAST({PARTS[self.part]} AS BIGINT)", t=rows.raw(self.column))


class CyclicTime(ValueOperation, frozen=True, tag="cyclic_time"):
    """Sine or cosine of a calendar part on its period, so that 23 h lies beside 0 h."""

    column: TimeColumn
    part: Literal["hour", "day_of_week", "month", "day_of_year"]
    function: Literal["sine", "cosine"]

    gives = "number"
    follows_calendar = True
    nulls = "where the column is null"
    formula = "sin or cos of 2π · part / period, with periods of 24 hours, 7 days, 12 months and 365.25 days"
    source = "trigonometric encoding of periodic features (scikit-learn's example of cyclical feature engineering)"
    example = '{"column": "at", "part": "hour", "function": "sine"}'

    def compile(self, rows: Rows) -> Expression:
        """Place the part on the unit circle."""
        wave = "SIN" if self.function == "sine" else "COS"
        turn = 2 * math.pi / PERIODS[self.part]
        return rows.sql(f"{wave}(:turn * {PARTS[self.part]})", turn=turn, t=rows.raw(self.column))


class IsWeekend(ValueOperation, frozen=True, tag="is_weekend"):
    """1 on Saturday and Sunday, else 0."""

    column: TimeColumn

    gives = "integer"
    nulls = "where the column is null"
    formula = "1 if day_of_week ≥ 6 else 0"
    source = "ISO 8601 days of the week"
    example = '{"column": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Test the day of the week."""
        return rows.sql(
            "CASE WHEN ISO_WEEKDAY(:t) >= 6 THEN CAST(1 AS BIGINT) WHEN ISO_WEEKDAY(:t) < 6 THEN CAST(0 AS BIGINT) END",
            t=rows.raw(self.column),
        )


class ElapsedDays(ValueOperation, frozen=True, tag="elapsed_days"):
    """Days from one datetime column to another, negative when `end` comes first."""

    start: TimeColumn
    end: TimeColumn

    gives = "number"
    nulls = "where either column is null"
    formula = "(end - start) / 24 h"
    source = "elementary arithmetic on instants, to the microsecond"
    example = '{"start": "at", "end": "delivered_at"}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract the instants."""
        return rows.sql("(:end - :start) / :day", end=rows.instant(self.end), start=rows.instant(self.start), day=DAY)


class CalendarFlag(ValueOperation, frozen=True, tag="calendar_flag"):
    """1 on a day of a kind (the first or last of a month, quarter or year; a working day), else 0."""

    column: TimeColumn
    day: Literal["month_start", "month_end", "quarter_start", "quarter_end", "year_start", "year_end", "business_day"]

    gives = "integer"
    nulls = "where the column is null"
    formula = "1 if the day (UTC) is of the kind else 0; a business day is Monday to Friday, holidays apart"
    source = "pandas' `Series.dt.is_month_start` and the like"
    example = '{"column": "at", "day": "month_end"}'

    def compile(self, rows: Rows) -> Expression:
        """Test the day."""
        t = rows.raw(self.column)
        tests = {
            "month_start": "DAY_OF_MONTH(:t) = 1",
            "month_end": "DAY_OF_MONTH(:t) = DAYS_IN_MONTH(:t)",
            "quarter_start": "DAY_OF_MONTH(:t) = 1 AND MOD(MONTH_OF_YEAR(:t), 3) = 1",
            "quarter_end": "DAY_OF_MONTH(:t) = DAYS_IN_MONTH(:t) AND MOD(MONTH_OF_YEAR(:t), 3) = 0",
            "year_start": "DAY_OF_YEAR(:t) = 1",
            "year_end": "DAY_OF_MONTH(:t) = 31 AND MONTH_OF_YEAR(:t) = 12",
            "business_day": "ISO_WEEKDAY(:t) <= 5",
        }
        met = rows.sql(tests[self.day], t=t)
        return rows.sql("CASE WHEN NOT :t IS NULL THEN :flag END", t=t, flag=flag(rows, met))


class Season(ValueOperation, frozen=True, tag="season"):
    """The meteorological season: spring, summer, autumn or winter."""

    column: TimeColumn
    hemisphere: Literal["north", "south"] = "north"

    gives = "string"
    follows_calendar = True
    nulls = "where the column is null"
    formula = "in the north: spring from March, summer from June, autumn from September, winter from December"
    source = "the meteorological seasons (WMO)"
    example = '{"column": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Name the season of the month."""
        names = ("winter", "spring", "summer", "autumn")
        turned = names if self.hemisphere == "north" else names[2:] + names[:2]
        first, second, third, fourth = turned
        text = (
            "CASE WHEN MONTH_OF_YEAR(:t) IN (12, 1, 2) THEN :first WHEN MONTH_OF_YEAR(:t) <= 5 THEN :second "
            "WHEN MONTH_OF_YEAR(:t) <= 8 THEN :third WHEN MONTH_OF_YEAR(:t) <= 11 THEN :fourth END"
        )
        return rows.sql(text, t=rows.raw(self.column), first=first, second=second, third=third, fourth=fourth)


class PartOfDay(ValueOperation, frozen=True, tag="part_of_day"):
    """The part of the day: night (0-6), morning (6-12), afternoon (12-18) or evening (18-24)."""

    column: TimeColumn

    gives = "string"
    nulls = "where the column is null"
    formula = "⌊hour (UTC) / 6⌋, named"
    source = "a division of the day into quarters"
    example = '{"column": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Name the quarter of the day."""
        text = (
            "CASE WHEN HOUR_OF_DAY(:t) < 6 THEN 'night' WHEN HOUR_OF_DAY(:t) < 12 THEN 'morning' "
            "WHEN HOUR_OF_DAY(:t) < 18 THEN 'afternoon' WHEN HOUR_OF_DAY(:t) < 24 THEN 'evening' END"
        )
        return rows.sql(text, t=rows.raw(self.column))


class DaysToDate(ValueOperation, frozen=True, tag="days_to_date"):
    """Days from a datetime column to a given date, negative after it."""

    column: TimeColumn
    date: date

    gives = "number"
    follows_calendar = True
    nulls = "where the column is null"
    formula = "(the date's midnight in UTC - time) / 24 h"
    source = "elementary arithmetic on instants, to the microsecond"
    example = '{"column": "at", "date": "2024-12-25"}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract the instant from the date's."""
        midnight = (self.date - date(1970, 1, 1)).days * DAY
        return rows.sql("(:end - :start) / :day", end=midnight, start=rows.instant(self.column), day=DAY)


class DaysToMonthEnd(ValueOperation, frozen=True, tag="days_to_month_end"):
    """Whole days from the day of a datetime column to the last day of its month."""

    column: TimeColumn

    gives = "integer"
    nulls = "where the column is null"
    formula = "days of the month - day of the month"
    source = "the Gregorian calendar"
    example = '{"column": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract the day from the length of the month."""
        return rows.sql("CAST(DAYS_IN_MONTH(:t) - DAY_OF_MONTH(:t) AS BIGINT)", t=rows.raw(self.column))

"""Calendar features of one row: parts of a datetime, and the time between two."""

from __future__ import annotations

import math
from typing import Literal

from service.features.operations.expression import DAY, Expression, Rows
from service.features.operations.parameters import DatePart, TimeColumn
from service.features.operations.values import ValueOperation

PARTS: dict[DatePart, str] = {
    "hour": "HOUR_OF_DAY(:t)",
    "day_of_week": "ISO_WEEKDAY(:t)",
    "day_of_month": "DAY_OF_MONTH(:t)",
    "day_of_year": "DAY_OF_YEAR(:t)",
    "week": "ISO_WEEK(:t)",
    "month": "MONTH_OF_YEAR(:t)",
    "quarter": "QUARTER_OF_YEAR(:t)",
    "year": "YEAR_OF(:t)",
}
"""Calendar parts; weeks and days of the week are ISO 8601's."""

PERIODS: dict[Literal["hour", "day_of_week", "month"], int] = {"hour": 24, "day_of_week": 7, "month": 12}


class DatePartOf(ValueOperation, frozen=True, tag="date_part"):
    """A calendar part of a datetime; day_of_week is ISO: Monday 1 … Sunday 7."""

    column: TimeColumn
    part: DatePart

    gives = "integer"
    follows_calendar = True
    nulls = "where the column is null"
    formula = "the part of the datetime in UTC"
    source = "ISO 8601 (weeks and days of the week); the Gregorian calendar"
    example = '{"column": "at", "part": "hour"}'

    def compile(self, rows: Rows) -> Expression:
        """Take the part as an integer."""
        return rows.sql(f"CAST({PARTS[self.part]} AS BIGINT)", t=rows.raw(self.column))


class CyclicTime(ValueOperation, frozen=True, tag="cyclic_time"):
    """Sine or cosine of a calendar part on its period, so that 23 h lies beside 0 h."""

    column: TimeColumn
    part: Literal["hour", "day_of_week", "month"]
    function: Literal["sine", "cosine"]

    gives = "number"
    follows_calendar = True
    nulls = "where the column is null"
    formula = "sin or cos of 2π · part / period, with periods of 24 hours, 7 days and 12 months"
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

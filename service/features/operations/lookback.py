"""More of a row's past: last known values, its own usual level, other spans of time, sessions and states so far.

No row sees its future. Earlier rows are those before in (time, row id), or, where a span of time is named, those at an
earlier instant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.expression import DAY, Expression, Rows
from service.features.operations.groups import statistic
from service.features.operations.history import (
    LAG,
    NO_HISTORY,
    NO_PREVIOUS,
    HistoryOperation,
    SeriesColumn,
    WindowFunction,
)
from service.features.operations.parameters import (
    AnyColumn,
    CategoryColumn,
    Days,
    NumberColumn,
    PublishedColumn,
    TimeColumn,
    Where,
)
from service.features.operations.places import distance

MINUTE = 60_000_000
"""Microseconds."""
SPAN = "SQL:2003's RANGE window over times before the row's instant"
NO_COLUMN = "every statistic but the count is of a column: name it"


class LastKnownValue(HistoryOperation, frozen=True, tag="last_known_value"):
    """The entity's latest known value among the earlier rows that meet the predicates (its last answer, status)."""

    column: PublishedColumn
    entity: SeriesColumn
    time: TimeColumn
    where: Where = ()

    gives = None
    publishes_values = True
    nulls = f"{NO_HISTORY}; where no earlier row that counts has a known value"
    formula = "x of the last row before in (time, row id) order where x is known and the predicates hold"
    source = "pandas' `ffill`, shifted by a row"
    example = '{"column": "amount", "entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Number the rows that count, and look up the number of the last one before."""
        x = rows.raw(self.column)
        if self.where:
            x = rows.sql("CASE WHEN :met THEN :x END", met=rows.condition(self.where), x=x)
        return rows.history("LAST_VALUE(:x IGNORE NULLS) OVER before", self.entity, self.time, x=x)


class DistanceFromHistory(HistoryOperation, frozen=True, tag="distance_from_history"):
    """The row's value beside the mean of the entity's earlier rows: difference, ratio or z-score."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn
    comparison: Literal["difference", "ratio", "z_score"] = "z_score"
    days: Days | None = None

    gives = "number"
    nulls = (
        f"{NO_HISTORY}; where the value or all earlier ones are null; for a ratio or z-score, where the divisor is 0"
    )
    formula = (
        "x - m, x / m or (x - m) / s, with mean m and sample deviation s over earlier instants (in the `days` before)"
    )
    source = SPAN
    example = '{"column": "amount", "entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Compare with the usual level."""
        texts = {
            "difference": ":x - AVG(:x) OVER earlier",
            "ratio": ":x / NULLIF(AVG(:x) OVER earlier, 0)",
            "z_score": "(:x - AVG(:x) OVER earlier) / NULLIF(STDDEV_SAMP(:x) OVER earlier, 0)",
        }
        return rows.recent(texts[self.comparison], self.entity, self.time, self.days, x=rows.number(self.column))


class ValueDaysBefore(HistoryOperation, frozen=True, tag="statistic_days_before"):
    """A statistic over the entity's rows in a span that ends some days before the row (same hour last week)."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn
    days_before: Days
    within_days: Days
    function: WindowFunction = "mean"

    gives = "number"
    nulls = f"{NO_HISTORY}; but for a sum, where the span has no known value (a deviation needs two)"
    formula = "the statistic over times in [t - days_before - within_days, t - days_before]; a sum over none is 0"
    source = SPAN
    example = '{"column": "amount", "entity": "user", "time": "at", "days_before": 7, "within_days": 0.04}'

    def compile(self, rows: Rows) -> Expression:
        """Aggregate the span."""
        text, x = statistic(self.function, " OVER earlier"), rows.number(self.column)
        return rows.recent(text, self.entity, self.time, self.within_days, self.days_before, x=x)


class EarlierInGroup(HistoryOperation, frozen=True, tag="earlier_in_group"):
    """A count or statistic over earlier rows with the row's group, whatever the plan's entity (a shop's last hour)."""

    group: CategoryColumn
    time: TimeColumn
    function: Literal["count", "sum", "mean", "minimum", "maximum"]
    column: NumberColumn | None = None
    days: Days | None = None
    where: Where = ()

    gives = "number"
    nulls = "where the row has no group or time; but for a count or sum, where no earlier row has a known value"
    formula = "the statistic over the group's rows at earlier instants (in the `days` before); a sum over none is 0"
    source = SPAN
    example = '{"group": "user", "time": "at", "function": "count", "days": 7}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """A statistic of no column."""
        if self.function != "count" and self.column is None:
            yield "column", NO_COLUMN

    def compile(self, rows: Rows) -> Expression:
        """Aggregate the group's past."""
        x = rows.number(self.column) if self.column is not None and self.function != "count" else rows.sql("1.0")
        if self.where:
            x = rows.sql("CASE WHEN :met THEN :x END", met=rows.condition(self.where), x=x)
        if self.function == "count":
            return rows.recent("CAST(COUNT(:x) OVER earlier AS DOUBLE)", self.group, self.time, self.days, x=x)
        return rows.recent(statistic(self.function, " OVER earlier"), self.group, self.time, self.days, x=x)


class DistinctEarlier(HistoryOperation, frozen=True, tag="rolling_distinct"):
    """Distinct values of a column over the entity's rows in the `days` before the row (merchants in a day)."""

    column: AnyColumn
    entity: SeriesColumn
    time: TimeColumn
    days: Days

    gives = "integer"
    nulls = NO_HISTORY
    formula = "number of distinct known values at instants in [t - days, t)"
    source = SPAN
    example = '{"column": "country", "entity": "user", "time": "at", "days": 30}'

    def compile(self, rows: Rows) -> Expression:
        """Count the distinct values of the window."""
        key = rows.raw(self.entity) if self.entity is not None else rows.sql("TRUE")
        text = "CAST(DISTINCT_IN_SPAN(:x, :key, :instant, :span) AS BIGINT)"
        x, span = rows.raw(self.column), max(1, round(self.days * DAY))
        return rows.history(text, self.entity, self.time, x=x, key=key, span=span)


class DistinctSoFar(HistoryOperation, frozen=True, tag="cumulative_distinct"):
    """Distinct values of a column over all earlier rows of the entity."""

    column: CategoryColumn
    entity: SeriesColumn
    time: TimeColumn

    gives = "integer"
    follows_calendar = True
    nulls = NO_HISTORY
    formula = "number of distinct known values before in (time, row id) order"
    source = "counting"
    example = '{"column": "country", "entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Count the first occurrences before the row."""
        x = rows.raw(self.column)
        who = rows.raw(self.entity) if self.entity is not None else rows.sql("TRUE")
        order = "PARTITION BY :who, :x, :instant IS NULL ORDER BY :instant, :row"
        text = f"CASE WHEN NOT :x IS NULL AND ROW_NUMBER() OVER ({order}) = 1 THEN 1 END"
        first = rows.derived(rows.history(text, self.entity, self.time, x=x, who=who))
        return rows.history("CAST(COUNT(:first) OVER before AS BIGINT)", self.entity, self.time, first=first)


class SessionSoFar(HistoryOperation, frozen=True, tag="session_so_far"):
    """Where the row stands in its session: the session's number, the row's place in it, minutes since its start."""

    entity: SeriesColumn
    time: TimeColumn
    gap_minutes: Annotated[float, Meta(gt=0, le=525_600)]
    figure: Literal["session", "place", "minutes"]

    gives = "number"
    nulls = NO_HISTORY
    formula = "sessions opened so far; rows of the session so far, with this one; minutes since the row that opened it"
    source = "sessions by inactivity, as in web analytics"
    example = '{"entity": "user", "time": "at", "gap_minutes": 30, "figure": "place"}'

    def compile(self, rows: Rows) -> Expression:
        """Find the row that opened the session."""
        limit = round(self.gap_minutes * MINUTE)
        pause = rows.derived(rows.history(":instant - LAG(:instant) OVER earlier", self.entity, self.time))
        opens = rows.sql("CASE WHEN :pause IS NULL OR :pause > :limit THEN 1 END", pause=pause, limit=limit)
        if self.figure == "session":
            return rows.history("CAST(COUNT(:o) OVER so_far AS DOUBLE)", self.entity, self.time, o=opens)
        if self.figure == "minutes":
            text = "(:instant - MAX(CASE WHEN :o = 1 THEN :instant END) OVER so_far) / :minute"
            return rows.history(text, self.entity, self.time, o=opens, minute=MINUTE)
        place = rows.derived(rows.history("ROW_NUMBER() OVER earlier", self.entity, self.time))
        text = "CAST(:p - MAX(CASE WHEN :o = 1 THEN :p END) OVER so_far + 1 AS DOUBLE)"
        return rows.history(text, self.entity, self.time, o=opens, p=place)


class StateDuration(HistoryOperation, frozen=True, tag="state_duration"):
    """How long the entity has had the row's category without a change: in rows, this one counted, or in days."""

    column: CategoryColumn
    entity: SeriesColumn
    time: TimeColumn
    unit: Literal["rows", "days"] = "rows"

    gives = "number"
    nulls = f"{NO_HISTORY}; where the category is null"
    formula = "rows, or days, since the first of the run of equal categories that ends in this row"
    source = "run lengths"
    example = '{"column": "country", "entity": "user", "time": "at", "unit": "days"}'

    def compile(self, rows: Rows) -> Expression:
        """Find the row that began the run."""
        x = rows.raw(self.column)
        text = "CASE WHEN :x = LAG(:x) OVER earlier THEN 0 ELSE 1 END"
        begins = rows.derived(rows.history(text, self.entity, self.time, x=x))
        if self.unit == "days":
            since = "(:instant - MAX(CASE WHEN :b = 1 THEN :instant END) OVER so_far) / :day"
        else:
            since = "CAST(:p - MAX(CASE WHEN :b = 1 THEN :p END) OVER so_far + 1 AS DOUBLE)"
        place = rows.derived(rows.history("ROW_NUMBER() OVER earlier", self.entity, self.time))
        known = f"CASE WHEN NOT :x IS NULL THEN {since} END"
        return rows.history(known, self.entity, self.time, x=x, b=begins, p=place, day=DAY)


class RollingTrend(HistoryOperation, frozen=True, tag="rolling_trend"):
    """Least-squares slope of a numeric column over the entity's last rows, this one included, a row."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn
    rows: Annotated[int, Meta(ge=2, le=1000)]

    gives = "number"
    nulls = f"{NO_HISTORY}; where fewer than two rows of the window have a known value"
    formula = "cov(k, x) / var(k) over the known values of the last `rows` rows at places k"
    source = "ordinary least squares (SQL:2003's REGR_SLOPE)"
    example = '{"column": "amount", "entity": "user", "time": "at", "rows": 5}'

    def compile(self, rows: Rows) -> Expression:
        """Fit a line to the window."""
        place = rows.derived(rows.history("ROW_NUMBER() OVER earlier", self.entity, self.time))
        text = "CASE WHEN COUNT(:x) OVER last_so_far > 1 THEN SLOPE(:x, :k) OVER last_so_far END"
        return rows.history(text, self.entity, self.time, x=rows.number(self.column), k=place, steps=self.rows - 1)


class RollingComparison(HistoryOperation, frozen=True, tag="compare_rolling"):
    """A statistic over the entity's rows of a short span before the row, beside that of a long one (momentum)."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn
    short_days: Days
    long_days: Days
    function: Literal["sum", "mean", "maximum"] = "mean"
    comparison: Literal["difference", "ratio"] = "ratio"

    gives = "number"
    nulls = f"{NO_HISTORY}; but for a sum, where a span has no known value; for a ratio, where the long span's is 0"
    formula = "f[t - short, t) less, or over, f[t - long, t); a sum over none is 0"
    source = SPAN
    example = '{"column": "amount", "entity": "user", "time": "at", "short_days": 7, "long_days": 30}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """Spans in the wrong order."""
        if self.short_days >= self.long_days:
            yield "long_days", "the long span must be longer than the short one"

    def compile(self, rows: Rows) -> Expression:
        """Aggregate both spans."""
        x, text = rows.number(self.column), statistic(self.function, " OVER earlier")
        short, long = (
            rows.recent(text, self.entity, self.time, days, x=x) for days in (self.short_days, self.long_days)
        )
        return rows.sql(":a - :b" if self.comparison == "difference" else ":a / NULLIF(:b, 0)", a=short, b=long)


class DistanceFromPrevious(HistoryOperation, frozen=True, tag="distance_from_previous"):
    """Kilometres from the entity's previous row to this one, or the speed that takes (impossible travel)."""

    latitude: NumberColumn
    longitude: NumberColumn
    entity: SeriesColumn
    time: TimeColumn
    figure: Literal["km", "km_per_hour"] = "km"

    gives = "number"
    nulls = f"{NO_PREVIOUS}; where either place is null; for a speed, where both rows have one time"
    formula = "great circle between the places; that over the hours between the times"
    source = "the haversine formula on a sphere of 6371.0088 km (IUGG)"
    example = '{"latitude": "amount", "longitude": "items", "entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Measure the great circle."""
        here = rows.number(self.latitude), rows.number(self.longitude)
        before = [rows.derived(rows.history("LAG(:x) OVER earlier", self.entity, self.time, x=value)) for value in here]
        far = distance(rows, (before[0], before[1]), here)
        if self.figure == "km":
            return far
        hours = rows.history("(:instant - LAG(:instant) OVER earlier) / :hour", self.entity, self.time, hour=DAY / 24)
        return rows.sql(":far / NULLIF(:hours, 0)", far=far, hours=hours)


class CategoryPath(HistoryOperation, frozen=True, tag="category_path"):
    """The categories of the entity's last rows up to this one, joined by > (the pages that led here)."""

    column: CategoryColumn
    entity: SeriesColumn
    time: TimeColumn
    length: Annotated[int, Meta(ge=2, le=5)] = 2

    gives = "string"
    publishes_values = True
    nulls = f"{NO_HISTORY}; where there are fewer rows, or one of the categories is null"
    formula = "v₁>v₂…, the row's own last"
    source = LAG
    example = '{"column": "country", "entity": "user", "time": "at", "length": 2}'

    def compile(self, rows: Rows) -> Expression:
        """Join the categories."""
        steps = [f"LAG(:x, {back}) OVER earlier" for back in range(self.length - 1, 0, -1)]
        return rows.history(" || '>' || ".join([*steps, ":x"]), self.entity, self.time, x=rows.text(self.column))

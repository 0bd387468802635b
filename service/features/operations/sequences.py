"""What happens in which order within an entity: nth rows, gaps, sessions, streaks, transitions, halves, shape in time.

Rows are in order of (time, row id); those without a time, or that do not meet the predicates, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.activity import NO_TIME, days_between
from service.features.operations.aggregates import AggregateOperation, correlation, share
from service.features.operations.expression import DAY, Entities, Expression
from service.features.operations.groups import STATISTICS
from service.features.operations.parameters import (
    AggregateFunction,
    CategoryColumn,
    FreeText,
    NumberColumn,
    PublishedColumn,
    TimeColumn,
    Where,
)

MINUTE = 60_000_000
"""Microseconds."""
RowNumber = Annotated[int, Meta(ge=1, le=1000)]
CategoryValue = Annotated[str, Meta(min_length=1, max_length=256), FreeText()]
IN_TIME = "order statistics in (time, row id)"
GAPS = "elementary arithmetic on instants, to the microsecond"


class SequenceOperation(AggregateOperation, frozen=True):
    """Base of what looks at an entity's rows in order."""

    cost = "sort"


def number(entities: Entities, time: str, where: Where = ()) -> Expression:
    """The row's place among the entity's rows, from 1."""
    return entities.sequence("ROW_NUMBER() OVER earlier", time, where)


def gap(entities: Entities, time: str, where: Where = ()) -> Expression:
    """Microseconds since the entity's previous row."""
    return entities.sequence(":instant - LAG(:instant) OVER earlier", time, where)


def earlier(entities: Entities, column: str, time: str) -> tuple[Expression, Expression]:
    """A numeric column and its value in the entity's previous row."""
    x = entities.number(column)
    return x, entities.sequence("LAG(:x) OVER earlier", time, x=x)


class NthValue(SequenceOperation, frozen=True, tag="nth_value"):
    """The column's value in the entity's nth row, counted from the first or from the last."""

    column: PublishedColumn
    time: TimeColumn
    n: RowNumber
    from_end: bool = False
    where: Where = ()

    gives = None
    publishes_values = True
    nulls = "where fewer than n rows count, or that row's value is null"
    formula = "x of the row at place n"
    source = IN_TIME
    example = '{"column": "amount", "time": "at", "n": 2}'

    def compile(self, entities: Entities) -> Expression:
        """Take the value of the row at that place."""
        text = "ROW_NUMBER() OVER earlier"
        if self.from_end:
            text = "COUNT(*) OVER all_rows - ROW_NUMBER() OVER earlier + 1"
        place = entities.sequence(text, self.time, self.where)
        value = entities.sql("CASE WHEN :place = :n THEN :x END", place=place, n=self.n, x=entities.raw(self.column))
        return entities.rows("MAX(:x)", self.where, x=value)


class DaysBetweenEvents(SequenceOperation, frozen=True, tag="days_between_events"):
    """Days from the entity's nth row to its mth (time to second order)."""

    time: TimeColumn
    first: RowNumber = 1
    second: RowNumber = 2
    where: Where = ()

    gives = "number"
    nulls = "where fewer rows count than the greater of the two places"
    formula = "(time of the mth row - time of the nth) / 24 h"
    source = GAPS
    example = '{"time": "at", "first": 1, "second": 2}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """Places in the wrong order."""
        if self.first >= self.second:
            yield "second", "the second place must come after the first"

    def compile(self, entities: Entities) -> Expression:
        """Subtract the instants of the two places."""
        place, instant = number(entities, self.time, self.where), entities.instant(self.time)
        ends = (
            entities.rows(
                "MAX(:i)",
                self.where,
                i=entities.sql("CASE WHEN :place = :n THEN :i END", place=place, n=n, i=instant),
            )
            for n in (self.first, self.second)
        )
        return days_between(entities, *ends)


class GapStatistic(SequenceOperation, frozen=True, tag="gap_statistic"):
    """A statistic of the days between consecutive rows of the entity."""

    time: TimeColumn
    function: Literal["mean", "minimum", "maximum", "standard_deviation", "median"]
    where: Where = ()

    gives = "number"
    nulls = "where fewer than two rows count (a deviation needs three)"
    formula = "the statistic of the gaps in days; the standard deviation is the sample's (n - 1)"
    source = GAPS
    example = '{"time": "at", "function": "standard_deviation"}'

    def compile(self, entities: Entities) -> Expression:
        """Aggregate the gaps."""
        days = entities.sql(":gap / :day", gap=gap(entities, self.time, self.where), day=DAY)
        return entities.rows(STATISTICS[self.function], self.where, x=days)


class LastGap(SequenceOperation, frozen=True, tag="last_gap"):
    """Days between the entity's last two rows."""

    time: TimeColumn
    where: Where = ()

    gives = "number"
    nulls = "where fewer than two rows count"
    formula = "(time of the last row - time of the one before) / 24 h"
    source = GAPS
    example = '{"time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Take the gap before the last row."""
        place = entities.sequence("COUNT(*) OVER all_rows - ROW_NUMBER() OVER earlier", self.time, self.where)
        last = entities.sql("CASE WHEN :place = 0 THEN :gap END", place=place, gap=gap(entities, self.time, self.where))
        return entities.sql(":gap / :day", gap=entities.rows("MAX(:g)", self.where, g=last), day=DAY)


class GapTrend(SequenceOperation, frozen=True, tag="gap_trend"):
    """Whether the entity's gaps grow: least-squares slope of the gap over its number, in days a row."""

    time: TimeColumn
    where: Where = ()

    gives = "number"
    nulls = "where fewer than three rows count"
    formula = "cov(k, gap of row k) / var(k)"
    source = "ordinary least squares (SQL:2003's REGR_SLOPE)"
    example = '{"time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Fit a line to the gaps."""
        days = entities.sql(":gap / :day", gap=gap(entities, self.time, self.where), day=DAY)
        place = number(entities, self.time, self.where)
        known = entities.rows("COUNT(:days)", self.where, days=days)
        slope = entities.rows("SLOPE(:days, :place)", self.where, days=days, place=place)
        return entities.sql("CASE WHEN :known > 1 THEN :slope END", known=known, slope=slope)


class SessionStatistic(SequenceOperation, frozen=True, tag="session_statistic"):
    """Sessions of the entity (rows with no longer pause than some minutes): how many, how long, of how many rows."""

    time: TimeColumn
    gap_minutes: Annotated[float, Meta(gt=0, le=525_600)]
    function: Literal["count", "mean_rows", "maximum_rows", "mean_minutes", "maximum_minutes"]
    where: Where = ()

    gives = "number"
    nulls = f"{NO_TIME}; a count never"
    formula = "a row opens a session when it is the first or comes more than the gap after the previous"
    source = "sessions by inactivity, as in web analytics"
    example = '{"time": "at", "gap_minutes": 30, "function": "mean_rows"}'

    def compile(self, entities: Entities) -> Expression:
        """Mark the rows that open a session, then count them, or measure how far the other rows are from them."""
        pause = gap(entities, self.time, self.where)
        limit = round(self.gap_minutes * MINUTE)
        opens = entities.sql("CASE WHEN :pause IS NULL OR :pause > :limit THEN 1 END", pause=pause, limit=limit)
        if self.function in {"maximum_rows", "maximum_minutes"}:
            return self._longest(entities, opens)
        opened = entities.sql("CASE WHEN NOT :i IS NULL THEN :opens END", i=entities.instant(self.time), opens=opens)
        sessions = entities.rows("COUNT(:x)", self.where, x=opened)
        if self.function == "count":
            return entities.sql("CAST(:sessions AS DOUBLE)", sessions=sessions)
        if self.function == "mean_rows":
            return share(entities, entities.rows("COUNT(:i)", self.where, i=entities.instant(self.time)), sessions)
        within = entities.sql("CASE WHEN :pause <= :limit THEN :pause END", pause=pause, limit=limit)
        span = entities.rows("SUM(:x)", self.where, x=within)
        text = "COALESCE(:span, 0) / :minute / NULLIF(:sessions, 0)"
        return entities.sql(text, span=span, minute=MINUTE, sessions=sessions)

    def _longest(self, entities: Entities, opens: Expression) -> Expression:
        """The farthest that a row is from the one that opened its session, in rows (both counted) or in minutes."""
        if self.function == "maximum_rows":
            here = number(entities, self.time, self.where)
            text = "CAST(:here - :opening + 1 AS DOUBLE)"
        else:
            here = entities.instant(self.time)
            text = "(:here - :opening) / :minute"
        opening = entities.sql("CASE WHEN :opens = 1 THEN :here END", opens=opens, here=here)
        latest = entities.sequence("MAX(:opening) OVER so_far", self.time, self.where, opening=opening)
        farthest = entities.sql(text, here=here, opening=latest, minute=MINUTE)
        return entities.rows("MAX(:x)", self.where, x=farthest)


class LongestStreak(SequenceOperation, frozen=True, tag="longest_streak"):
    """Most rows of the entity in a row that meet the predicates, or how many the last rows are."""

    time: TimeColumn
    where: Annotated[Where, Meta(min_length=1)]
    current: bool = False

    gives = "integer"
    nulls = NO_TIME
    formula = "the longest run of rows that meet the predicates, or the run that ends in the last row; 0 for none"
    source = "run lengths"
    example = '{"time": "at", "where": [{"column": "returned", "comparison": "eq", "values": [true]}]}'

    def compile(self, entities: Entities) -> Expression:
        """Count the rows since the last one that breaks the run."""
        place = number(entities, self.time)
        met = entities.condition(self.where)
        broken = entities.sql("CASE WHEN COALESCE(:met, FALSE) THEN 0 ELSE :place END", met=met, place=place)
        run = entities.sql(
            ":place - :broken", place=place, broken=entities.sequence("MAX(:b) OVER so_far", self.time, b=broken)
        )
        if not self.current:
            return entities.rows("MAX(:run)", run=run)
        last = entities.sequence("COUNT(*) OVER all_rows", self.time)
        text = "CASE WHEN :place = :last THEN :run END"
        return entities.rows("MAX(:run)", run=entities.sql(text, place=place, last=last, run=run))


class TransitionShare(SequenceOperation, frozen=True, tag="transition_share"):
    """Of the entity's rows with one category that have a next row, the share whose next row has another category."""

    column: CategoryColumn
    time: TimeColumn
    first: CategoryValue
    then: CategoryValue

    gives = "number"
    nulls = "where no row with the first category has a next row with a category"
    formula = "rows `first` followed by `then` / rows `first` followed by any category"
    source = "the transition probability of a Markov chain, by counting"
    example = '{"column": "country", "time": "at", "first": "NL", "then": "DE"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the pairs."""
        x = entities.text(self.column)
        before = entities.sequence("LAG(:x) OVER earlier", self.time, x=x)
        pair = "CASE WHEN :before = :first AND NOT :x IS NULL {}THEN 1 END"
        counts = (
            entities.rows(
                "COUNT(:pair)",
                pair=entities.sql(pair.format(also), before=before, x=x, first=self.first, after=self.then),
            )
            for also in ("AND :x = :after ", "")
        )
        return share(entities, *counts)


class ChangeCount(SequenceOperation, frozen=True, tag="change_count"):
    """How often the column's value changes from one row of the entity to the next."""

    column: CategoryColumn
    time: TimeColumn

    gives = "integer"
    nulls = "never: a null is neither equal nor different"
    formula = "number of rows whose value differs from the previous row's"
    source = "counting"
    example = '{"column": "country", "time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Count the differences."""
        x = entities.raw(self.column)
        before = entities.sequence("LAG(:x) OVER earlier", self.time, x=x)
        return entities.rows("COUNT(CASE WHEN :x <> :before THEN 1 END)", x=x, before=before)


class Halves(SequenceOperation, frozen=True, tag="compare_halves"):
    """A statistic over the later half of the entity's history, beside that over the earlier half."""

    column: NumberColumn
    time: TimeColumn
    function: AggregateFunction
    comparison: Literal["difference", "ratio"] = "difference"

    gives = "number"
    nulls = "but for counts, where either half has no known value; for a ratio, where the earlier half's is 0"
    formula = "later - earlier or later / earlier; the earlier half has ⌊n / 2⌋ of the rows"
    source = "split-half comparison"
    example = '{"column": "amount", "time": "at", "function": "mean"}'

    def compile(self, entities: Entities) -> Expression:
        """Aggregate both halves."""
        x, place = entities.number(self.column), number(entities, self.time)
        last = entities.sequence("COUNT(*) OVER all_rows", self.time)
        halves = {
            name: entities.rows(
                STATISTICS[self.function],
                x=entities.sql(f"CASE WHEN :place {side} FLOOR(:last / 2) THEN :x END", place=place, last=last, x=x),
            )
            for name, side in (("early", "<="), ("late", ">"))
        }
        text = ":late - :early" if self.comparison == "difference" else ":late / NULLIF(:early, 0)"
        return entities.sql(text, **halves)


class Autocorrelation(SequenceOperation, frozen=True, tag="autocorrelation"):
    """Correlation of a numeric column with its value some rows earlier, within the entity."""

    column: NumberColumn
    time: TimeColumn
    lag: Annotated[int, Meta(ge=1, le=1000)] = 1

    gives = "number"
    nulls = "where fewer than two pairs are known, or either side of them does not vary"
    formula = "Pearson's r of (x, x `lag` rows before)"
    source = "pandas' `Series.autocorr`"
    example = '{"column": "amount", "time": "at", "lag": 1}'

    def compile(self, entities: Entities) -> Expression:
        """Correlate the column with its past."""
        x = entities.number(self.column)
        before = entities.sequence("LAG(:x, :lag) OVER earlier", self.time, x=x, lag=self.lag)
        return correlation(entities, x, before)


class SeriesShape(SequenceOperation, frozen=True, tag="series_shape"):
    """A figure of how a numeric column moves along the entity's rows."""

    column: NumberColumn
    time: TimeColumn
    figure: Literal["mean_change", "mean_absolute_change", "zero_crossings", "peaks", "energy", "maximum_drawdown"]

    gives = "number"
    nulls = "where no row, or pair of rows, has known values; counts never"
    formula = (
        "mean of x - x₋₁; mean of |x - x₋₁|; rows above 0 after one that is not, or the other way; rows above both "
        "neighbours; Σ x²; the least x / max(x so far) - 1 where that maximum is positive"
    )
    source = "tsfresh's mean_change, mean_abs_change, number_crossing_m(0), number_peaks(1), abs_energy"
    example = '{"column": "amount", "time": "at", "figure": "mean_absolute_change"}'

    def compile(self, entities: Entities) -> Expression:
        """Compare the rows with their neighbours."""
        if self.figure == "energy":
            x, instant = entities.number(self.column), entities.instant(self.time)
            return entities.rows("SUM(CASE WHEN NOT :i IS NULL THEN :x * :x END)", x=x, i=instant)
        if self.figure == "maximum_drawdown":
            return self._drawdown(entities)
        if self.figure == "peaks":
            return self._peaks(entities)
        x, before = earlier(entities, self.column, self.time)
        texts = {
            "mean_change": "AVG(:x - :before)",
            "mean_absolute_change": "AVG(ABS(:x - :before))",
            "zero_crossings": "COUNT(CASE WHEN (:x > 0) <> (:before > 0) THEN 1 END)",
        }
        return entities.sql("CAST(:figure AS DOUBLE)", figure=entities.rows(texts[self.figure], x=x, before=before))

    def _peaks(self, entities: Entities) -> Expression:
        x, before = earlier(entities, self.column, self.time)
        after = entities.sequence("LEAD(:x) OVER earlier", self.time, x=x)
        peaks = entities.rows(
            "COUNT(CASE WHEN :x > :before AND :x > :after THEN 1 END)", x=x, before=before, after=after
        )
        return entities.sql("CAST(:peaks AS DOUBLE)", peaks=peaks)

    def _drawdown(self, entities: Entities) -> Expression:
        x = entities.number(self.column)
        highest = entities.sequence("MAX(:x) OVER so_far", self.time, x=x)
        return entities.rows("MIN(CASE WHEN :high > 0 THEN :x / :high - 1 END)", x=x, high=highest)


class Seasonality(SequenceOperation, frozen=True, tag="seasonality"):
    """Share of a numeric column's variance within the entity that its hours, weekdays or months explain."""

    column: NumberColumn
    time: TimeColumn
    period: Literal["hour", "day_of_week", "month"]

    gives = "number"
    nulls = "where the known values with a time do not vary"
    formula = "η² = variance of the periods' means, weighed by rows / variance"
    source = "the correlation ratio (Fisher)"
    example = '{"column": "amount", "time": "at", "period": "day_of_week"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the variance of the means by that of the values."""
        parts = {"hour": "HOUR_OF_DAY(:t)", "day_of_week": "ISO_WEEKDAY(:t)", "month": "MONTH_OF_YEAR(:t)"}
        t = entities.raw(self.time)
        x = entities.sql("CASE WHEN NOT :t IS NULL THEN :x END", t=t, x=entities.number(self.column))
        mean = entities.grouped("AVG(:x)", entities.sql(parts[self.period], t=t), x=x)
        known = entities.sql("CASE WHEN NOT :x IS NULL THEN :mean END", x=x, mean=mean)
        text = ":explained / NULLIF(:whole, 0)"
        explained, whole = (entities.rows("VAR_POP(:v)", v=value) for value in (known, x))
        return entities.sql(text, explained=explained, whole=whole)

"""When and how often an entity acts: recency, tenure, gaps, pace, trend, hours and days.

"As of" is the dataset's latest instant; "the last days" is the span (as of - days, as of].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from service.features.operations.aggregates import AggregateOperation, share
from service.features.operations.expression import DAY, Entities, Expression
from service.features.operations.parameters import Days, NumberColumn, TimeColumn, Where

NO_TIME = "where no row of the entity has a time"
INSTANTS = "elementary arithmetic on instants, to the microsecond"


def first(entities: Entities, time: str) -> Expression:
    """The entity's first instant."""
    return entities.rows("MIN(:i)", i=entities.instant(time))


def last(entities: Entities, time: str, where: Where = ()) -> Expression:
    """The entity's last instant among the rows that meet the predicates."""
    return entities.rows("MAX(:i)", where, i=entities.instant(time))


def days_between(entities: Entities, start: Expression, end: Expression) -> Expression:
    """Days from one instant to another."""
    return entities.sql("(:end - :start) / :day", end=end, start=start, day=DAY)


def share_of_times(entities: Entities, time: str, condition: Expression) -> Expression:
    """Share of the entity's rows with a time that meet the condition."""
    met = entities.sql("CASE WHEN :condition THEN 1 END", condition=condition)
    return share(entities, entities.rows("COUNT(:x)", x=met), entities.rows("COUNT(:i)", i=entities.instant(time)))


class Recency(AggregateOperation, frozen=True, tag="recency"):
    """Days from the entity's last row (that meets the predicates) to the dataset's latest time."""

    time: TimeColumn
    where: Where = ()

    gives = "number"
    nulls = "where no row that counts has a time"
    formula = "(as of - last time) / 24 h"
    source = "the R of RFM analysis (Hughes 1994)"
    example = '{"time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Count the days since the last row."""
        return days_between(entities, last(entities, self.time, self.where), entities.as_of())


class Tenure(AggregateOperation, frozen=True, tag="tenure"):
    """Days from the entity's first row to the dataset's latest time."""

    time: TimeColumn

    gives = "number"
    nulls = NO_TIME
    formula = "(as of - first time) / 24 h"
    source = "the T of the BG/NBD model (Fader, Hardie and Lee 2005)"
    example = '{"time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Count the days since the first row."""
        return days_between(entities, first(entities, self.time), entities.as_of())


class ActiveSpan(AggregateOperation, frozen=True, tag="active_span"):
    """Days from the entity's first row to its last."""

    time: TimeColumn

    gives = "number"
    nulls = NO_TIME
    formula = "(last time - first time) / 24 h"
    source = "the recency of the BG/NBD model (Fader, Hardie and Lee 2005)"
    example = '{"time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Count the days from first to last."""
        return days_between(entities, first(entities, self.time), last(entities, self.time))


class MeanGap(AggregateOperation, frozen=True, tag="mean_gap"):
    """Mean days between consecutive rows of the entity; null for fewer than two rows."""

    time: TimeColumn
    where: Where = ()

    gives = "number"
    nulls = "where fewer than two rows that count have a time"
    formula = "(last time - first time) / 24 h / (rows - 1): consecutive gaps add up to the span"
    source = INSTANTS
    example = '{"time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the span by the number of gaps."""
        instant = entities.instant(self.time)
        return entities.sql(
            "(:end - :start) / :day / NULLIF(:rows - 1, 0)",
            end=entities.rows("MAX(:i)", self.where, i=instant),
            start=entities.rows("MIN(:i)", self.where, i=instant),
            rows=entities.rows("COUNT(:i)", self.where, i=instant),
            day=DAY,
        )


class EventsPerDay(AggregateOperation, frozen=True, tag="events_per_day"):
    """Rows over the days between the entity's first row and the dataset's latest time (at least one day)."""

    time: TimeColumn
    where: Where = ()

    gives = "number"
    nulls = NO_TIME
    formula = "rows with a time that meet the predicates / max(tenure, 1 day)"
    source = "the rate of a Poisson process, estimated over the time observed"
    example = '{"time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the rows by the days observed."""
        return entities.sql(
            "CASE WHEN NOT :start IS NULL THEN :rows / GREATEST((:end - :start) / :day, 1) END",
            rows=entities.rows("COUNT(:i)", self.where, i=entities.instant(self.time)),
            end=entities.as_of(),
            start=first(entities, self.time),
            day=DAY,
        )


class Trend(AggregateOperation, frozen=True, tag="trend"):
    """Least-squares slope of a numeric column over time, in units a day; null without two distinct times."""

    column: NumberColumn
    time: TimeColumn

    gives = "number"
    nulls = "where the known values have fewer than two distinct times"
    formula = "cov(time, x) / var(time), with time in days"
    source = "ordinary least squares (SQL:2003's REGR_SLOPE)"
    example = '{"column": "amount", "time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Fit a line."""
        x, instant = entities.number(self.column), entities.instant(self.time)
        days = entities.sql("CASE WHEN NOT :x IS NULL THEN :i / :day END", x=x, i=instant, day=DAY)
        return entities.sql(
            "CASE WHEN :first < :last THEN :slope END",
            first=entities.rows("MIN(:days)", days=days),
            last=entities.rows("MAX(:days)", days=days),
            slope=entities.rows("SLOPE(:x, :days)", x=x, days=days),
        )


class RecentShare(AggregateOperation, frozen=True, tag="recent_share"):
    """Share of the entity's rows (that meet the predicates) that fall in the dataset's last `days`."""

    time: TimeColumn
    days: Days
    where: Where = ()

    gives = "number"
    nulls = "where no row that counts has a time"
    formula = "rows in (as of - days, as of] / rows with a time"
    source = "the ratio of counts"
    example = '{"time": "at", "days": 30}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the recent rows by all."""
        recent = entities.sql("CASE WHEN :recent THEN 1 END", recent=entities.is_recent(self.time, self.days))
        rows = entities.rows("COUNT(:i)", self.where, i=entities.instant(self.time))
        return share(entities, entities.rows("COUNT(:x)", self.where, x=recent), rows)


class HourShare(AggregateOperation, frozen=True, tag="hour_share"):
    """Share of the entity's rows whose hour lies in [from_hour, to_hour), wrapping over midnight."""

    time: TimeColumn
    from_hour: Annotated[int, Meta(ge=0, le=23)]
    to_hour: Annotated[int, Meta(ge=0, le=24)]

    gives = "number"
    nulls = NO_TIME
    formula = "rows whose hour (UTC) lies in the span / rows with a time"
    source = "the ratio of counts"
    example = '{"time": "at", "from_hour": 22, "to_hour": 6}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """An empty span."""
        if self.from_hour == self.to_hour:
            yield "to_hour", "an empty span of hours: from_hour and to_hour are equal"

    def compile(self, entities: Entities) -> Expression:
        """Divide the rows in the span by all."""
        wraps = self.from_hour > self.to_hour
        text = f"HOUR_OF_DAY(:t) >= :start {'OR' if wraps else 'AND'} HOUR_OF_DAY(:t) < :end"
        condition = entities.sql(text, t=entities.raw(self.time), start=self.from_hour, end=self.to_hour)
        return share_of_times(entities, self.time, condition)


class WeekendShare(AggregateOperation, frozen=True, tag="weekend_share"):
    """Share of the entity's rows on Saturday or Sunday."""

    time: TimeColumn

    gives = "number"
    nulls = NO_TIME
    formula = "rows with day_of_week ≥ 6 / rows with a time"
    source = "the ratio of counts; ISO 8601 days of the week"
    example = '{"time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the rows of weekends by all."""
        condition = entities.sql("ISO_WEEKDAY(:t) >= 6", t=entities.raw(self.time))
        return share_of_times(entities, self.time, condition)


class ActiveDays(AggregateOperation, frozen=True, tag="active_days"):
    """Distinct calendar days on which the entity has a row."""

    time: TimeColumn

    gives = "integer"
    cost = "sort"
    nulls = "never"
    formula = "number of distinct dates (UTC)"
    source = "counting"
    example = '{"time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Count the dates."""
        return entities.rows("COUNT(DISTINCT DATE_OF(:t))", t=entities.raw(self.time))

"""Events of kinds within an entity: days since and between them, funnels, what sessions hold, active periods, decay.

A kind is given by predicates. Rows are in order of (time, row id); those without a time are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.activity import NO_TIME, days_between
from service.features.operations.aggregates import share
from service.features.operations.expression import DAY, Entities, Expression
from service.features.operations.groups import STATISTICS
from service.features.operations.parameters import (
    CategoryColumn,
    Days,
    NumberColumn,
    PublishedColumn,
    TimeColumn,
    Where,
)
from service.features.operations.sequences import (
    GAPS,
    IN_TIME,
    MINUTE,
    CategoryValue,
    RowNumber,
    SequenceOperation,
    gap,
    number,
)

Kind = Annotated[Where, Meta(min_length=1)]
Minutes = Annotated[float, Meta(gt=0, le=525_600)]
Period = Literal["day", "week", "month"]
PERIODS: dict[Period, str] = {
    "day": "FLOOR(:i / 86400000000)",
    "week": "FLOOR((:i / 86400000000 + 3) / 7)",
    "month": "YEAR_OF(:t) * 12 + MONTH_OF_YEAR(:t)",
}
"""Number of the calendar period (UTC) that holds a time; weeks begin on Monday."""
PERIOD_SOURCE = "calendar periods in UTC; ISO 8601 weeks"


def period(entities: Entities, time: str, kind: Period) -> Expression:
    """The number of the row's period."""
    return entities.sql(PERIODS[kind], i=entities.instant(time), t=entities.raw(time))


def met(entities: Entities, where: Where, value: Expression | int = 1) -> Expression:
    """The value where the predicates hold, else null."""
    return entities.sql("CASE WHEN :met THEN :value END", met=entities.condition(where), value=value)


class DaysSinceEvent(SequenceOperation, frozen=True, tag="days_since_event"):
    """Days from the entity's nth row of a kind, from the first or from the last, to the dataset's latest time."""

    time: TimeColumn
    n: RowNumber = 1
    from_end: bool = False
    where: Where = ()

    gives = "number"
    nulls = "where fewer than n rows count"
    formula = "(as of - time of the row at place n) / 24 h"
    source = GAPS
    example = '{"time": "at", "n": 2, "from_end": true}'

    def compile(self, entities: Entities) -> Expression:
        """Subtract the instant of the place."""
        text = (
            "COUNT(*) OVER all_rows - ROW_NUMBER() OVER earlier + 1" if self.from_end else "ROW_NUMBER() OVER earlier"
        )
        place = entities.sequence(text, self.time, self.where)
        instant = entities.sql(
            "CASE WHEN :place = :n THEN :i END", place=place, n=self.n, i=entities.instant(self.time)
        )
        return days_between(entities, entities.rows("MAX(:i)", self.where, i=instant), entities.as_of())


class DaysBetweenKinds(SequenceOperation, frozen=True, tag="days_between_kinds"):
    """Days from the entity's first row of one kind to its first later row of another (sign-up to first purchase)."""

    time: TimeColumn
    first: Kind
    then: Kind

    gives = "number"
    nulls = "where no row of the first kind, or none of the second after it"
    formula = (
        "(time of the first `then` row after the first `first` row - time of that) / 24 h, in (time, row id) order"
    )
    source = GAPS
    example = (
        '{"time": "at", "first": [{"column": "items", "comparison": "gt", "values": [1]}], '
        '"then": [{"column": "returned", "comparison": "eq", "values": [true]}]}'
    )

    def compile(self, entities: Entities) -> Expression:
        """Find both ends."""
        place, i = number(entities, self.time), entities.instant(self.time)
        place_of = entities.grouped("MIN(:p)", entities.sql("1"), p=met(entities, self.first, place))
        begins = entities.rows(
            "MIN(:i)", i=entities.sql("CASE WHEN :p = :first THEN :i END", p=place, first=place_of, i=i)
        )
        later = entities.sql(
            "CASE WHEN :p > :first THEN :i END", p=place, first=place_of, i=met(entities, self.then, i)
        )
        return days_between(entities, begins, entities.rows("MIN(:i)", i=later))


class ResponseTime(SequenceOperation, frozen=True, tag="response_time"):
    """A statistic of the days from a row of one kind to the entity's next row of another (ticket to answer)."""

    time: TimeColumn
    first: Kind
    then: Kind
    function: Literal["mean", "minimum", "maximum", "standard_deviation", "median"] = "mean"

    gives = "number"
    nulls = "where no row of the first kind is followed by one of the second (a deviation needs two)"
    formula = "the statistic over the `first` rows of (time of the next `then` row - time) / 24 h, if there is one"
    source = GAPS
    example = (
        '{"time": "at", "first": [{"column": "items", "comparison": "gt", "values": [1]}], '
        '"then": [{"column": "returned", "comparison": "eq", "values": [true]}]}'
    )

    def compile(self, entities: Entities) -> Expression:
        """Measure the way to the next row of the kind."""
        i = entities.instant(self.time)
        following = entities.sequence("MIN(:i) OVER after", self.time, i=met(entities, self.then, i))
        days = entities.sql("(:following - :i) / :day", following=following, i=i, day=DAY)
        return entities.rows(STATISTICS[self.function], x=met(entities, self.first, days))


class FollowedShare(SequenceOperation, frozen=True, tag="followed_share"):
    """Of the entity's rows of one kind, the share followed by a row of another within some days (readmission)."""

    time: TimeColumn
    first: Kind
    then: Kind
    days: Days

    gives = "number"
    nulls = "where the entity has no row of the first kind with a time"
    formula = "`first` rows whose next `then` row, in (time, row id) order, comes at most `days` later / `first` rows"
    source = "the ratio of counts"
    example = (
        '{"time": "at", "first": [{"column": "items", "comparison": "gt", "values": [1]}], '
        '"then": [{"column": "returned", "comparison": "eq", "values": [true]}], "days": 30}'
    )

    def compile(self, entities: Entities) -> Expression:
        """Divide the followed rows by all of the kind."""
        i = entities.instant(self.time)
        following = entities.sequence("MIN(:i) OVER after", self.time, i=met(entities, self.then, i))
        near = entities.sql(":following - :i <= :span", following=following, i=i, span=round(self.days * DAY))
        followed = entities.sql("CASE WHEN :near THEN :start END", near=near, start=met(entities, self.first))
        rows = entities.rows("COUNT(:x)", x=met(entities, self.first, i))
        return share(entities, entities.rows("COUNT(:x)", x=followed), rows)


class FunnelStep(SequenceOperation, frozen=True, tag="funnel_step"):
    """How many steps of a funnel the entity has taken in order, other rows between them allowed."""

    column: CategoryColumn
    time: TimeColumn
    steps: Annotated[tuple[CategoryValue, ...], Meta(min_length=2, max_length=6)]

    gives = "integer"
    nulls = "never"
    formula = "greatest k such that rows with the first k values, as text, follow one another in (time, row id) order"
    source = "funnel analysis of web analytics"
    example = '{"column": "country", "time": "at", "steps": ["NL", "DE", "BE"]}'

    def compile(self, entities: Entities) -> Expression:
        """Find the first row of each step after the one before."""
        x, place = entities.text(self.column), number(entities, self.time)
        reached, counted = entities.sql("0"), entities.sql("0")
        for step in self.steps:
            text = "CASE WHEN :x = :step AND :p > :reached THEN :p END"
            here = entities.sql(text, x=x, step=step, p=place, reached=reached)
            reached = entities.grouped("MIN(:here)", entities.sql("1"), here=here)
            counted = entities.sql(":n + CASE WHEN :r IS NULL THEN 0 ELSE 1 END", n=counted, r=reached)
        return entities.sql("CAST(:n AS BIGINT)", n=entities.rows("MAX(:n)", n=counted))


class PathCount(SequenceOperation, frozen=True, tag="path_count"):
    """How often the entity's rows have some categories one right after the other (search, view, cart)."""

    column: CategoryColumn
    time: TimeColumn
    path: Annotated[tuple[CategoryValue, ...], Meta(min_length=2, max_length=6)]

    gives = "integer"
    nulls = "never"
    formula = "places where consecutive rows in (time, row id) order have the values, as text"
    source = "n-grams of events"
    example = '{"column": "country", "time": "at", "path": ["NL", "DE"]}'

    def compile(self, entities: Entities) -> Expression:
        """Compare each row and its predecessors with the path."""
        x, last = entities.text(self.column), len(self.path) - 1
        found = {
            f"x{back}": entities.sequence("LAG(:x, :k) OVER earlier", self.time, x=x, k=back)
            for back in range(1, last + 1)
        }
        timed = entities.sql("CASE WHEN NOT :i IS NULL THEN :x END", i=entities.instant(self.time), x=x)
        wanted = {f"v{back}": self.path[last - back] for back in range(last + 1)}
        text = " AND ".join(f":x{back} = :v{back}" for back in range(last + 1))
        return entities.rows(f"COUNT(CASE WHEN {text} THEN 1 END)", (), None, x0=timed, **found, **wanted)


class MostFrequentPath(SequenceOperation, frozen=True, tag="most_frequent_path"):
    """The entity's most frequent run of consecutive categories, joined by >."""

    column: CategoryColumn
    time: TimeColumn
    length: Annotated[int, Meta(ge=2, le=5)] = 2

    gives = "string"
    publishes_values = True
    nulls = "where no such run of rows has only known categories"
    formula = "v₁>v₂… with the most places, the smallest of equals"
    source = "n-grams of events; the statistical mode"
    example = '{"column": "country", "time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Count the runs."""
        x = entities.text(self.column)
        back = [entities.sequence("LAG(:x, :k) OVER earlier", self.time, x=x, k=k) for k in range(1, self.length)]
        names = {f"x{place}": part for place, part in enumerate([*reversed(back), x])}
        path = entities.sql(" || '>' || ".join(f":{name}" for name in names), **names)
        count = entities.grouped("COUNT(:p)", path, p=path)
        most = entities.grouped("MAX(:n)", entities.sql("1"), n=count)
        return entities.rows("MIN(CASE WHEN :n = :most THEN :p END)", n=count, most=most, p=path)


class SessionRate(SequenceOperation, frozen=True, tag="session_rate"):
    """Share of the entity's sessions of which any, the first or the last row meets the predicates (conversion)."""

    time: TimeColumn
    gap_minutes: Minutes
    where: Kind
    at: Literal["any", "first", "last"] = "any"

    gives = "number"
    nulls = NO_TIME
    formula = "sessions with such a row / sessions; a row opens one when it comes more than the gap after the previous"
    source = "sessions by inactivity, as in web analytics"
    example = (
        '{"time": "at", "gap_minutes": 30, "where": [{"column": "returned", "comparison": "eq", "values": [true]}]}'
    )

    def compile(self, entities: Entities) -> Expression:
        """Number the sessions, then count those that hold such a row."""
        opens, closes, session = sessions(entities, self.time, self.gap_minutes)
        edge = {"any": session, "first": opens, "last": closes}[self.at]
        found = entities.sql("CASE WHEN NOT :edge IS NULL THEN :s END", edge=edge, s=met(entities, self.where, session))
        return share(entities, entities.rows("COUNT(DISTINCT :s)", s=found), entities.rows("COUNT(:o)", o=opens))


class SessionEdge(SequenceOperation, frozen=True, tag="session_edge"):
    """The column's value in the first or last row of the entity's first or last session, or the most frequent such."""

    column: PublishedColumn
    time: TimeColumn
    gap_minutes: Minutes
    edge: Literal["first", "last"] = "first"
    session: Literal["first", "last", "most_frequent"] = "last"

    gives = None
    publishes_values = True
    nulls = f"{NO_TIME}, or that row's value is null; for the most frequent, where all are"
    formula = "x of the session's first or last row (landing or exit page); equal counts go to the smallest value"
    source = "sessions by inactivity, as in web analytics"
    example = '{"column": "country", "time": "at", "gap_minutes": 30}'

    def compile(self, entities: Entities) -> Expression:
        """Take the value at the edge."""
        opens, closes, session = sessions(entities, self.time, self.gap_minutes)
        edge, x = (opens if self.edge == "first" else closes), entities.raw(self.column)
        value = entities.derived(entities.sql("CASE WHEN :edge = 1 THEN :x END", edge=edge, x=x))
        one = entities.sql("1")
        if self.session == "most_frequent":
            count = entities.grouped("COUNT(:x)", value, x=value)
            most = entities.grouped("MAX(:n)", one, n=count)
            return entities.rows("MIN(CASE WHEN :n = :most THEN :x END)", n=count, most=most, x=value)
        wanted = entities.grouped("MIN(:s)" if self.session == "first" else "MAX(:s)", one, s=session)
        return entities.rows("MAX(CASE WHEN :s = :wanted THEN :x END)", s=session, wanted=wanted, x=value)


def sessions(entities: Entities, time: str, gap_minutes: float) -> tuple[Expression, Expression, Expression]:
    """1 in rows that open a session, 1 in rows that close one, and the number of the row's session, as columns."""
    pause, limit = gap(entities, time), round(gap_minutes * MINUTE)
    i = entities.instant(time)
    after = entities.sequence("LEAD(:instant) OVER earlier - :instant", time)
    text = "CASE WHEN NOT :i IS NULL AND (:pause IS NULL OR :pause > :limit) THEN 1 END"
    opens = entities.derived(entities.sql(text, i=i, pause=pause, limit=limit))
    closes = entities.derived(entities.sql(text, i=i, pause=after, limit=limit))
    return opens, closes, entities.sequence("SUM(:o) OVER so_far", time, o=opens)


class ActivePeriods(SequenceOperation, frozen=True, tag="active_periods"):
    """Calendar days, weeks or months with a row of the entity: how many, what share, how many one after the other."""

    time: TimeColumn
    period: Period
    figure: Literal["count", "share", "longest_run", "current_run"] = "longest_run"
    where: Where = ()

    gives = "number"
    nulls = "where no row that counts has a time; a count never"
    formula = (
        "distinct periods; those / periods from the first to the last; most consecutive ones; consecutive ones up to "
        "the entity's last"
    )
    source = PERIOD_SOURCE
    example = '{"time": "at", "period": "week", "figure": "longest_run"}'

    def compile(self, entities: Entities) -> Expression:
        """Number the periods; consecutive ones keep their distance from their place."""
        p = period(entities, self.time, self.period)
        if self.figure in {"count", "share"}:
            text = {"count": "COUNT(DISTINCT :p)", "share": "COUNT(DISTINCT :p) / (MAX(:p) - MIN(:p) + 1)"}[self.figure]
            return entities.sql("CAST(:n AS DOUBLE)", n=entities.rows(text, self.where, p=p))
        before = entities.sequence("LAG(:p) OVER earlier", self.time, self.where, p=p)
        counted = number(entities, self.time, self.where)
        text = "CASE WHEN NOT :counted IS NULL AND (:before IS NULL OR :before <> :p) THEN 1 END"
        opens = entities.derived(entities.sql(text, counted=counted, before=before, p=p))
        place = entities.sequence("SUM(:o) OVER so_far", self.time, self.where, o=opens)
        island = entities.derived(entities.sql(":p - :place", p=p, place=place))
        size = entities.grouped("COUNT(:o)", island, o=opens)
        if self.figure == "longest_run":
            return entities.sql(
                "CAST(:n AS DOUBLE)",
                n=entities.rows(
                    "MAX(:size)",
                    self.where,
                    size=entities.sql("CASE WHEN NOT :c IS NULL THEN :size END", c=counted, size=size),
                ),
            )
        last = entities.grouped(
            "MAX(:p)", entities.sql("1"), p=entities.sql("CASE WHEN NOT :c IS NULL THEN :p END", c=counted, p=p)
        )
        found = entities.rows(
            "MAX(CASE WHEN NOT :c IS NULL AND :p = :last THEN :size END)", c=counted, p=p, last=last, size=size
        )
        return entities.sql("CAST(:n AS DOUBLE)", n=found)


class PeriodTotals(SequenceOperation, frozen=True, tag="period_totals"):
    """A statistic over the entity's active days, weeks or months of the rows or the sum in each (spend a month)."""

    time: TimeColumn
    period: Period
    function: Literal["mean", "minimum", "maximum", "standard_deviation", "median"]
    column: NumberColumn | None = None
    where: Where = ()

    gives = "number"
    nulls = "where no row that counts has a time (a deviation needs two periods)"
    formula = "the statistic over the periods with a row of its rows, or of Σ x (0 where none is known)"
    source = PERIOD_SOURCE
    example = '{"time": "at", "period": "month", "function": "mean", "column": "amount"}'

    def compile(self, entities: Entities) -> Expression:
        """Sum each period, then aggregate one row of each."""
        counted = number(entities, self.time, self.where)
        p = entities.derived(
            entities.sql("CASE WHEN NOT :c IS NULL THEN :p END", c=counted, p=period(entities, self.time, self.period))
        )
        x = entities.number(self.column) if self.column is not None else entities.sql("1.0")
        total = entities.grouped("SUM(:x)", p, x=x)
        text = "CASE WHEN :first = 1 AND NOT :p IS NULL THEN CAST(COALESCE(:total, 0) AS DOUBLE) END"
        once = entities.sql(text, first=entities.first_of(p), p=p, total=total)
        return entities.rows(STATISTICS[self.function], x=once)


class DecayedSum(SequenceOperation, frozen=True, tag="decayed_sum"):
    """Rows of the entity, or the sum of a column, each weighed by half for every half-life before the latest time."""

    time: TimeColumn
    half_life_days: Days
    column: NumberColumn | None = None
    where: Where = ()

    cost = "scan"
    gives = "number"
    nulls = "never: a sum over none is 0"
    formula = "Σ x · 2^(-(as of - time) / half-life), with x = 1 without a column"
    source = "exponential decay"
    example = '{"time": "at", "half_life_days": 30, "column": "amount"}'

    def compile(self, entities: Entities) -> Expression:
        """Weigh the rows by their age."""
        x = entities.number(self.column) if self.column is not None else entities.sql("1.0")
        span = self.half_life_days * DAY
        text = "SUM(:x * POWER(0.5, (:as_of - :i) / :span))"
        total = entities.rows(text, self.where, x=x, as_of=entities.as_of(), i=entities.instant(self.time), span=span)
        return entities.sql("COALESCE(:total, 0)", total=total)


class OverdueRatio(SequenceOperation, frozen=True, tag="overdue_ratio"):
    """Days since the entity's last row over its mean gap: above 1 where it is later than it uses to be."""

    time: TimeColumn
    where: Where = ()

    cost = "scan"
    gives = "number"
    nulls = "where fewer than two rows count, or all are at one time"
    formula = "(as of - last time) · (rows - 1) / (last time - first time)"
    source = GAPS
    example = '{"time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the recency by the mean gap."""
        parts = {
            name: entities.rows(text, self.where, i=entities.instant(self.time))
            for name, text in (("first", "MIN(:i)"), ("last", "MAX(:i)"), ("n", "COUNT(:i)"))
        }
        text = "(:as_of - :last) * (:n - 1) / NULLIF(:last - :first, 0)"
        return entities.sql(f"CAST({text} AS DOUBLE)", as_of=entities.as_of(), **parts)


class TimeInState(SequenceOperation, frozen=True, tag="time_in_state"):
    """Days, or share of the entity's time, in which the latest row met the predicates, up to the last row."""

    time: TimeColumn
    where: Kind
    figure: Literal["days", "share"] = "share"

    gives = "number"
    nulls = f"{NO_TIME}; for a share, where all rows are at one time"
    formula = "Σ (time of the next row - time) over the rows that meet the predicates, in days; that / (last - first)"
    source = "the time-weighted share of a step function"
    example = '{"time": "at", "where": [{"column": "returned", "comparison": "eq", "values": [true]}]}'

    def compile(self, entities: Entities) -> Expression:
        """Sum the time to the next row."""
        spans = entities.sequence("LEAD(:instant) OVER earlier - :instant", self.time)
        total = entities.rows("SUM(:x)", x=met(entities, self.where, spans))
        i = entities.instant(self.time)
        first, last = entities.rows("MIN(:i)", i=i), entities.rows("MAX(:i)", i=i)
        divisor = entities.sql(":day", day=DAY)
        if self.figure == "share":
            divisor = entities.sql("NULLIF(:last - :first, 0)", last=last, first=first)
        text = "CASE WHEN NOT :first IS NULL THEN COALESCE(:total, 0) / :divisor END"
        return entities.sql(text, first=first, total=total, divisor=divisor)


class TimeWeightedMean(SequenceOperation, frozen=True, tag="time_weighted_mean"):
    """Mean of a numeric column within the entity, each value weighed by the time until the next row (a meter)."""

    column: NumberColumn
    time: TimeColumn

    gives = "number"
    nulls = "where no row with a known value is followed by a row at a later time"
    formula = "Σ x · (time of the next row - time) / Σ (time of the next row - time), over rows with known x"
    source = "the mean of a step function"
    example = '{"column": "amount", "time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Weigh the values."""
        spans = entities.sequence("(LEAD(:instant) OVER earlier - :instant) / 1000000.0", self.time)
        x = entities.number(self.column)
        weighed = entities.rows("SUM(:x * :span)", x=x, span=spans)
        known = entities.sql("CASE WHEN NOT :x IS NULL THEN :span END", x=x, span=spans)
        return share(entities, weighed, entities.rows("SUM(:s)", s=known))


class ValueAtExtreme(SequenceOperation, frozen=True, tag="value_at_extreme"):
    """A column's value in the entity's row where another is greatest or least (category of the dearest purchase)."""

    column: PublishedColumn
    other: NumberColumn
    extreme: Literal["maximum", "minimum"] = "maximum"

    gives = None
    publishes_values = True
    nulls = "where no row has both values known"
    formula = "v where x is extreme among the rows with known v; the smallest v of equals"
    source = "SQL's MAX_BY"
    example = '{"column": "country", "other": "amount"}'

    def compile(self, entities: Entities) -> Expression:
        """Take the value beside the extreme."""
        v = entities.raw(self.column)
        x = entities.sql("CASE WHEN NOT :v IS NULL THEN :x END", v=v, x=entities.number(self.other))
        aggregate = "MAX(:x)" if self.extreme == "maximum" else "MIN(:x)"
        extreme = entities.grouped(aggregate, entities.sql("1"), x=x)
        return entities.rows("MIN(CASE WHEN :x = :extreme THEN :v END)", x=x, extreme=extreme, v=v)


class DaysSinceExtreme(SequenceOperation, frozen=True, tag="days_since_extreme"):
    """Days from the entity's latest row with its greatest or least value to the dataset's latest time."""

    column: NumberColumn
    time: TimeColumn
    extreme: Literal["maximum", "minimum"] = "maximum"

    gives = "number"
    nulls = "where no row has a known value and a time"
    formula = "(as of - latest time of the extreme) / 24 h"
    source = GAPS
    example = '{"column": "amount", "time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Subtract the instant of the extreme."""
        i = entities.instant(self.time)
        x = entities.sql("CASE WHEN NOT :i IS NULL THEN :x END", i=i, x=entities.number(self.column))
        aggregate = "MAX(:x)" if self.extreme == "maximum" else "MIN(:x)"
        extreme = entities.grouped(aggregate, entities.sql("1"), x=x)
        at = entities.rows("MAX(CASE WHEN :x = :extreme THEN :i END)", x=x, extreme=extreme, i=i)
        return days_between(entities, at, entities.as_of())


class StateBefore(SequenceOperation, frozen=True, tag="value_days_ago"):
    """The column's latest value known some days before the dataset's latest time (balance a month ago)."""

    column: PublishedColumn
    time: TimeColumn
    days: Annotated[float, Meta(ge=0, le=36_525)]
    where: Where = ()

    gives = None
    publishes_values = True
    nulls = "where no row that counts has a value and a time that long ago"
    formula = "x at the greatest (time, row id) with time ≤ as of - days"
    source = IN_TIME
    example = '{"column": "amount", "time": "at", "days": 30}'

    def compile(self, entities: Entities) -> Expression:
        """Take the latest value up to the moment."""
        return entities.last_value(self.column, self.time, until(entities, self.time, self.days, self.where))


class StateChange(SequenceOperation, frozen=True, tag="change_since"):
    """The entity's latest value less, or over, its latest value some days before the dataset's latest time."""

    column: NumberColumn
    time: TimeColumn
    days: Days
    comparison: Literal["difference", "ratio"] = "difference"

    gives = "number"
    nulls = "where no value is known that long ago; for a ratio, where it is 0"
    formula = "x now less, or over, x at the greatest (time, row id) with time ≤ as of - days"
    source = IN_TIME
    example = '{"column": "amount", "time": "at", "days": 30}'

    def compile(self, entities: Entities) -> Expression:
        """Compare both states."""
        now = entities.last_value(self.column, self.time)
        before = entities.last_value(self.column, self.time, until(entities, self.time, self.days, ()))
        text = "CAST(:now AS DOUBLE) - CAST(:before AS DOUBLE)"
        if self.comparison == "ratio":
            text = "CAST(:now AS DOUBLE) / NULLIF(CAST(:before AS DOUBLE), 0)"
        return entities.sql(text, now=now, before=before)


def until(entities: Entities, time: str, days: float, where: Where) -> Expression:
    """Whether the row lies at or before as of - days, and meets the predicates."""
    parts = {"i": entities.instant(time), "as_of": entities.as_of()}
    past = entities.sql(":i <= :as_of - :span", **parts, span=round(days * DAY))
    return entities.sql(":past AND :met", past=past, met=entities.condition(where)) if where else past


class WindowStatistic(SequenceOperation, frozen=True, tag="aggregate_between"):
    """A count or statistic of the entity's rows between two numbers of days before the dataset's latest time."""

    time: TimeColumn
    from_days: Days
    to_days: Annotated[float, Meta(ge=0, le=36_525)]
    function: Literal["count", "sum", "mean", "minimum", "maximum", "standard_deviation", "median"]
    column: NumberColumn | None = None
    where: Where = ()

    cost = "sort for a median"
    gives = "number"
    nulls = "but for a count or sum, where no row that counts has a known value (a deviation needs two)"
    formula = "the statistic over (as of - from_days, as of - to_days]; a sum over none is 0"
    source = "descriptive statistics over a window"
    example = '{"time": "at", "from_days": 60, "to_days": 30, "function": "sum", "column": "amount"}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """A statistic of no column, or an empty window."""
        if self.function != "count" and self.column is None:
            yield "column", "every statistic but the count is of a column: name it"
        if self.from_days <= self.to_days:
            yield "from_days", "the window must begin before it ends: from_days above to_days"

    def compile(self, entities: Entities) -> Expression:
        """Aggregate the rows in the window."""
        inside = entities.lies_between(self.time, self.from_days, self.to_days)
        if self.function == "count":
            count = entities.rows("COUNT(CASE WHEN :inside THEN 1 END)", self.where, inside=inside)
            return entities.sql("CAST(:n AS DOUBLE)", n=count)
        x = entities.sql("CASE WHEN :inside THEN :x END", inside=inside, x=entities.number(self.column or ""))
        found = entities.rows(STATISTICS[self.function], self.where, x=x)
        return entities.sql("COALESCE(:v, 0)", v=found) if self.function == "sum" else found

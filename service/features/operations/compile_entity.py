"""Entity grain: one value for each entity, from all its rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from service.features.operations import types as op
from service.features.operations.entity_scope import EntityScope
from service.features.operations.sql import DAY, ROW_ID, STATISTICS, column, number, template
from service.features.operations.types import Where

LAST_IN_ORDER = "CAST(EPOCH_US(:t) AS HUGEINT) * 1099511627776 + :row"
"""Orders by time, then row id, in one number: datasets have fewer than 2^40 rows."""


def _share(part: exp.Expr, whole: exp.Expr) -> exp.Expr:
    return template(":part / NULLIF(:whole, 0)", part=part, whole=whole)


def _count(o: op.Count, s: EntityScope) -> exp.Expr:
    return s.rows("COUNT(*)", o.where, o.last_days)


def _count_distinct(o: op.CountDistinct, s: EntityScope) -> exp.Expr:
    return s.rows("COUNT(DISTINCT :x)", o.where, o.last_days, x=s.raw(o.column))


def _aggregate(o: op.Aggregate, s: EntityScope) -> exp.Expr:
    if o.function == "sum":
        return template("COALESCE(:sum, 0)", sum=s.rows("SUM(:x)", o.where, o.last_days, x=s.number(o.column)))
    return s.rows(STATISTICS[o.function], o.where, o.last_days, x=s.number(o.column))


def _quantile(o: op.Quantile, s: EntityScope) -> exp.Expr:
    return s.rows("QUANTILE_CONT(:x, :q)", o.where, x=s.number(o.column), q=number(o.q))


def _rate(o: op.Rate, s: EntityScope) -> exp.Expr:
    numerator = s.rows("COUNT(*)", o.numerator, o.last_days)
    return _share(numerator, s.rows("COUNT(*)", o.denominator, o.last_days))


def _ratio_of_sums(o: op.RatioOfSums, s: EntityScope) -> exp.Expr:
    numerator = s.rows("SUM(:x)", (), x=s.number(o.numerator))
    return _share(numerator, s.rows("SUM(:x)", (), x=s.number(o.denominator)))


def _missing_share(o: op.MissingShare, s: EntityScope) -> exp.Expr:
    rows, known = s.rows("COUNT(*)", ()), s.rows("COUNT(:x)", (), x=s.raw(o.column))
    return template("(:rows - :known) / :rows", rows=rows, known=known)


def _first(s: EntityScope, time: str) -> exp.Expr:
    return s.rows("MIN(:i)", (), i=s.instant(time))


def _last(s: EntityScope, time: str, where: Where = ()) -> exp.Expr:
    return s.rows("MAX(:i)", where, i=s.instant(time))


def _recency(o: op.Recency, s: EntityScope) -> exp.Expr:
    return template("(:end - :start) / :day", end=s.as_of(), start=_last(s, o.time, o.where), day=DAY)


def _tenure(o: op.Tenure, s: EntityScope) -> exp.Expr:
    return template("(:end - :start) / :day", end=s.as_of(), start=_first(s, o.time), day=DAY)


def _active_span(o: op.ActiveSpan, s: EntityScope) -> exp.Expr:
    return template("(:end - :start) / :day", end=_last(s, o.time), start=_first(s, o.time), day=DAY)


def _mean_gap(o: op.MeanGap, s: EntityScope) -> exp.Expr:
    """The gaps between consecutive rows add up to the span from the first to the last."""
    instant = s.instant(o.time)
    figures = {
        "end": s.rows("MAX(:i)", o.where, i=instant),
        "start": s.rows("MIN(:i)", o.where, i=instant),
        "rows": s.rows("COUNT(:i)", o.where, i=instant),
    }
    return template("(:end - :start) / :day / NULLIF(:rows - 1, 0)", day=DAY, **figures)


def _events_per_day(o: op.EventsPerDay, s: EntityScope) -> exp.Expr:
    rows = s.rows("COUNT(:i)", o.where, i=s.instant(o.time))
    text = "CASE WHEN NOT :start IS NULL THEN :rows / GREATEST((:end - :start) / :day, 1) END"
    return template(text, rows=rows, end=s.as_of(), start=_first(s, o.time), day=DAY)


def _trend(o: op.Trend, s: EntityScope) -> exp.Expr:
    x = s.number(o.column)
    days = template("CASE WHEN NOT :x IS NULL THEN :i / :day END", x=x, i=s.instant(o.time), day=DAY)
    figures = {
        "first": s.rows("MIN(:days)", (), days=days),
        "last": s.rows("MAX(:days)", (), days=days),
        "slope": s.rows("REGR_SLOPE(:x, :days)", (), x=x, days=days),
    }
    return template("CASE WHEN :first < :last THEN :slope END", **figures)


def _recent_share(o: op.RecentShare, s: EntityScope) -> exp.Expr:
    instant = s.instant(o.time)
    recent = template("CASE WHEN :recent THEN 1 END", recent=s.recent(o.time, o.days))
    return _share(s.rows("COUNT(:x)", o.where, x=recent), s.rows("COUNT(:i)", o.where, i=instant))


def _share_of_times(s: EntityScope, time: str, condition: exp.Expr) -> exp.Expr:
    """Share of the entity's rows that have a time."""
    met = template("CASE WHEN :condition THEN 1 END", condition=condition)
    return _share(s.rows("COUNT(:x)", (), x=met), s.rows("COUNT(:i)", (), i=s.instant(time)))


def _hour_share(o: op.HourShare, s: EntityScope) -> exp.Expr:
    wraps = o.from_hour > o.to_hour
    text = ":hour >= :start OR :hour < :end" if wraps else ":hour >= :start AND :hour < :end"
    hour = template("EXTRACT(HOUR FROM :t)", t=s.raw(o.time))
    condition = template(text, hour=hour, start=number(o.from_hour), end=number(o.to_hour))
    return _share_of_times(s, o.time, condition)


def _weekend_share(o: op.WeekendShare, s: EntityScope) -> exp.Expr:
    return _share_of_times(s, o.time, template("ISODOW(:t) >= 6", t=s.raw(o.time)))


def _active_days(o: op.ActiveDays, s: EntityScope) -> exp.Expr:
    return s.rows("COUNT(DISTINCT CAST(:t AS DATE))", (), t=s.raw(o.time))


def _most_frequent(o: op.MostFrequent, s: EntityScope) -> exp.Expr:
    return s.mode(o.column)


def _top_share(o: op.TopShare, s: EntityScope) -> exp.Expr:
    return template(":top / :rows", top=s.tally(o.column, "top"), rows=s.rows("COUNT(*)", ()))


def _entropy(o: op.Entropy, s: EntityScope) -> exp.Expr:
    return s.tally(o.column, "entropy")


def _last_value(o: op.LastValue, s: EntityScope) -> exp.Expr:
    return _extreme_in_time(s, f"ARG_MAX(:x, {LAST_IN_ORDER})", o.column, o.time)


def _first_value(o: op.FirstValue, s: EntityScope) -> exp.Expr:
    return _extreme_in_time(s, f"ARG_MIN(:x, {LAST_IN_ORDER})", o.column, o.time)


def _extreme_in_time(s: EntityScope, text: str, name: str, time: str) -> exp.Expr:
    known = f"{text} FILTER (WHERE NOT :x IS NULL AND NOT EPOCH_US(:t) IS NULL)"
    return s.rows(known, (), x=s.raw(name), t=s.raw(time), row=column(ROW_ID))


ENTITY_COMPILERS: dict[type, Callable[[Any, EntityScope], exp.Expr]] = {
    op.Count: _count,
    op.CountDistinct: _count_distinct,
    op.Aggregate: _aggregate,
    op.Quantile: _quantile,
    op.Rate: _rate,
    op.RatioOfSums: _ratio_of_sums,
    op.MissingShare: _missing_share,
    op.Recency: _recency,
    op.Tenure: _tenure,
    op.ActiveSpan: _active_span,
    op.MeanGap: _mean_gap,
    op.EventsPerDay: _events_per_day,
    op.Trend: _trend,
    op.RecentShare: _recent_share,
    op.HourShare: _hour_share,
    op.WeekendShare: _weekend_share,
    op.ActiveDays: _active_days,
    op.MostFrequent: _most_frequent,
    op.TopShare: _top_share,
    op.Entropy: _entropy,
    op.LastValue: _last_value,
    op.FirstValue: _first_value,
}

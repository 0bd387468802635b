"""Row grain: one value for each row, seen beside other rows.

Statistics of the whole dataset are one row of `totals`, joined to every row; statistics of a group come from one
aggregation a grouping column, joined by its value. A row whose group is null belongs to none and gets null. Windows
over an entity's history see earlier rows only: those before in (time, row id), or, where the frame is a span of time,
those at an earlier instant. A row without entity or time has no history, and is in nobody's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from service.features.operations import types as op
from service.features.operations.row_scope import RowScope
from service.features.operations.sql import DAY, STATISTICS, microseconds, number, template

IN_ORDER = "PARTITION BY :entity ORDER BY :instant, :row"
EARLIER = "PARTITION BY :entity ORDER BY :instant RANGE BETWEEN :span PRECEDING AND 1 PRECEDING"


def _z_score(o: op.ZScore, s: RowScope) -> exp.Expr:
    x = s.number(o.column)
    mean = s.over(o.group, template("AVG(:x)", x=x))
    deviation = s.over(o.group, template("STDDEV_SAMP(:x)", x=x))
    return template("(:x - :mean) / NULLIF(:deviation, 0)", x=x, mean=mean, deviation=deviation)


def _min_max_scale(o: op.MinMaxScale, s: RowScope) -> exp.Expr:
    x = s.number(o.column)
    least, most = s.total(template("MIN(:x)", x=x)), s.total(template("MAX(:x)", x=x))
    return template("(:x - :least) / NULLIF(:most - :least, 0)", x=x, least=least, most=most)


def _quantile_bin(o: op.QuantileBin, s: RowScope) -> exp.Expr:
    """Equal values share a bin (NTILE would tear them apart), so bins are of equal count only without ties."""
    x = s.number(o.column)
    rank = template("RANK() OVER (PARTITION BY :x IS NULL ORDER BY :x)", x=x)
    text = "CASE WHEN NOT :x IS NULL THEN CAST(FLOOR((:rank - 1) * :bins / :known) AS BIGINT) + 1 END"
    known = s.total(template("COUNT(:x)", x=x))
    return template(text, x=x, rank=rank, bins=number(o.bins), known=known)


def _percent_rank(o: op.PercentRank, s: RowScope) -> exp.Expr:
    x = s.number(o.column)
    if o.group is None:
        text = "CASE WHEN NOT :x IS NULL THEN PERCENT_RANK() OVER (PARTITION BY :x IS NULL ORDER BY :x) END"
        return template(text, x=x)
    ranked = "PERCENT_RANK() OVER (PARTITION BY :group, :x IS NULL ORDER BY :x)"
    return template(f"CASE WHEN NOT :x IS NULL AND NOT :group IS NULL THEN {ranked} END", x=x, group=s.raw(o.group))


def _frequency(o: op.FrequencyEncoding, s: RowScope) -> exp.Expr:
    rows = template("COUNT(*)")
    return template(":x / :rows", x=s.grouped(o.column, rows), rows=s.total(rows))


def _group_statistic(o: op.GroupStatistic, s: RowScope) -> exp.Expr:
    return s.grouped(o.group, template(STATISTICS[o.function], x=s.number(o.column)))


def _group_count(o: op.GroupCount, s: RowScope) -> exp.Expr:
    return s.grouped(o.group, template("COUNT(*)"))


# ------------------------------------------------------------------- one value a row, from the entity's earlier rows


def _previous_value(o: op.PreviousValue, s: RowScope) -> exp.Expr:
    steps = number(o.steps)
    return s.history("LAG(:x, :steps) OVER @window", o.entity, o.time, IN_ORDER, x=s.raw(o.column), steps=steps)


def _change(o: op.ChangeFromPrevious, s: RowScope) -> exp.Expr:
    return s.history(":x - LAG(:x) OVER @window", o.entity, o.time, IN_ORDER, x=s.number(o.column))


def _days_since_previous(o: op.DaysSincePrevious, s: RowScope) -> exp.Expr:
    return s.history("(:instant - LAG(:instant) OVER @window) / :day", o.entity, o.time, IN_ORDER, day=DAY)


def _rolling_statistic(o: op.RollingStatistic, s: RowScope) -> exp.Expr:
    value = ROLLING[o.function]
    return s.history(value, o.entity, o.time, EARLIER, x=s.number(o.column), span=microseconds(o.days))


def _rolling_count(o: op.RollingCount, s: RowScope) -> exp.Expr:
    span = microseconds(o.days)
    if not o.where:
        return s.history("COUNT(*) OVER @window", o.entity, o.time, EARLIER, span=span)
    value = "COUNT(CASE WHEN :condition THEN 1 END) OVER @window"
    return s.history(value, o.entity, o.time, EARLIER, span=span, condition=s.condition(o.where))


def _cumulative_count(o: op.CumulativeCount, s: RowScope) -> exp.Expr:
    return s.history("ROW_NUMBER() OVER @window - 1", o.entity, o.time, IN_ORDER)


ROLLING: dict[str, str] = {
    "sum": "COALESCE(SUM(:x) OVER @window, 0)",
    "mean": "AVG(:x) OVER @window",
    "minimum": "MIN(:x) OVER @window",
    "maximum": "MAX(:x) OVER @window",
    "standard_deviation": "STDDEV_SAMP(:x) OVER @window",
}

WINDOW_COMPILERS: dict[type, Callable[[Any, RowScope], exp.Expr]] = {
    op.ZScore: _z_score,
    op.MinMaxScale: _min_max_scale,
    op.QuantileBin: _quantile_bin,
    op.PercentRank: _percent_rank,
    op.FrequencyEncoding: _frequency,
    op.GroupStatistic: _group_statistic,
    op.GroupCount: _group_count,
    op.PreviousValue: _previous_value,
    op.ChangeFromPrevious: _change,
    op.DaysSincePrevious: _days_since_previous,
    op.RollingStatistic: _rolling_statistic,
    op.RollingCount: _rolling_count,
    op.CumulativeCount: _cumulative_count,
}

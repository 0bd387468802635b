"""Operations equal plain Python on made-up rows: nulls, ties, duplicates, missing times, a leap day, one row, none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, get_args

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from service.engines.sql.compile import compile_plan
from service.engines.sql.dialects import render
from service.features import operations as op
from service.features.operations import Operation, Predicate
from tests.operations import oracles
from tests.operations.engines import fetch, plan, table
from tests.operations.oracles import ENTITIES, MODULES, ROWS, Row
from tests.operations.test_properties import COLUMNS, profile

NL = (Predicate("country", "eq", ("NL",)),)
BACK = (Predicate("returned", "eq", (True,)),)
NUMBERS = ("amount", "items", "returned")
SERIES = [("amount", "user", "at"), ("amount", None, "at")]
ROW_VARIANTS: list[Operation] = [
    *(
        op.AcrossColumns(NUMBERS, function)
        for function in ("sum", "mean", "minimum", "maximum", "range", "standard_deviation")
    ),
    op.ColumnOfMaximum(NUMBERS),
    op.MissingCount(("amount", "note", "at")),
    op.MissingPattern(("amount", "note", "at")),
    op.EqualCount(("country", "items", "returned"), "NL"),
    op.EqualCount(("country", "items"), "1"),
    *(op.CompareColumns("amount", comparison, "items") for comparison in ("lt", "le", "eq", "ne", "ge", "gt")),
    op.CompareColumns("at", "lt", "delivered_at"),
    op.CompareColumns("country", "eq", "note"),
    op.CombinedCategory(("country", "items", "returned")),
    op.LargestShare(("amount", "items")),
    op.DistanceFromColumns("amount", ("items", "returned")),
    op.SquareRoot("amount"),
    op.Clip("amount", 0.0, 2.5),
    op.Clip("items", None, 1.0),
    op.BinByEdges("amount", (-2.5, 0.0, 0.25, 7.0)),
    op.IsRound("amount", 0.5),
    *(
        op.CalendarFlag("at", day)
        for day in (
            "month_start",
            "month_end",
            "quarter_start",
            "quarter_end",
            "year_start",
            "year_end",
            "business_day",
        )
    ),
    op.Season("at"),
    op.Season("at", "south"),
    op.PartOfDay("at"),
    op.DaysToDate("at", date(2024, 3, 31)),
    op.DaysToMonthEnd("at"),
    op.Distance("amount", "items", "items", "amount"),
    op.DistanceToPoint("amount", "items", 52.37, 4.9),
    op.Bearing("amount", "items", "items", "amount"),
    op.GridCell("amount", "items", 0.5),
    op.TermCount("note", "Ab"),
    op.UrlHost("note"),
    op.UrlPathDepth("note"),
    op.EmailDomain("note"),
    op.TextSimilarity("note", "country"),
    op.TermWeight("note", "ab"),
    op.RobustScale("amount"),
    op.Winsorize("amount", 0.1, 0.8),
    *(op.OutlierFlag("amount", method, 1.2) for method in ("iqr", "mad", "z_score")),
    op.FrequentCategory("items", 2),
    op.FrequentCategory("country", 5, 2),
    *(
        op.CombinedGroupStatistic("amount", ("country", "returned"), function)
        for function in get_args(op.AggregateFunction)
    ),
    op.CombinedGroupCount(("country", "returned")),
    op.DifferenceFromGroup("amount", "country"),
    op.DifferenceFromGroup("amount", "country", "median", "ratio"),
    *(op.LogReturn(*keys) for keys in SERIES),
    *(
        op.CumulativeStatistic(*keys, function, include)
        for keys in SERIES
        for include in (False, True)
        for function in ("sum", "mean", "minimum", "maximum", "standard_deviation")
    ),
    *(
        op.RollingRows(*keys, 3, function, include)
        for keys in SERIES
        for include in (False, True)
        for function in ("sum", "mean", "minimum", "maximum", "standard_deviation")
    ),
    *(
        op.ExponentialMean(*keys, half_life, include)
        for keys in SERIES
        for half_life in (0.1, 1.5)
        for include in (False, True)
    ),
    *(op.Drawdown(*keys) for keys in SERIES),
    op.Streak("user", "at", BACK),
    op.Streak(None, "at", NL),
    op.DaysSinceMatching("user", "at", NL),
    op.DaysSinceFirst("user", "at"),
    op.FirstOccurrence("country", "user", "at"),
    op.CategoryChanged("country", "user", "at"),
]
ENTITY_VARIANTS: list[Operation] = [
    *(
        op.Spread("amount", figure, where)
        for figure in ("range", "interquartile_range", "coefficient_of_variation")
        for where in ((), NL)
    ),
    *(op.Shape("amount", figure, where) for figure in ("skewness", "kurtosis") for where in ((), NL)),
    op.Correlation("amount", "items"),
    op.WeightedMean("amount", "items"),
    op.WeightedMean("amount", "items", NL),
    op.Herfindahl("country"),
    op.Gini("amount"),
    op.MostFrequentPair("country", "items"),
    op.NthValue("amount", "at", 2),
    op.NthValue("country", "at", 1, from_end=True),
    op.NthValue("amount", "at", 1, where=NL),
    op.DaysBetweenEvents("at"),
    op.DaysBetweenEvents("at", 1, 3, BACK),
    *(
        op.GapStatistic("at", function, where)
        for function in ("mean", "minimum", "maximum", "standard_deviation", "median")
        for where in ((), NL)
    ),
    op.LastGap("at"),
    op.LastGap("at", NL),
    op.GapTrend("at"),
    *(
        op.SessionStatistic("at", 3000.0, function, where)
        for function in ("count", "mean_rows", "maximum_rows", "mean_minutes", "maximum_minutes")
        for where in ((), NL)
    ),
    op.LongestStreak("at", BACK),
    op.LongestStreak("at", NL, current=True),
    op.TransitionShare("country", "at", "NL", "DE"),
    op.TransitionShare("items", "at", "1", "-1"),
    op.ChangeCount("country", "at"),
    *(
        op.Halves("amount", "at", function, comparison)
        for function in get_args(op.AggregateFunction)
        for comparison in ("difference", "ratio")
    ),
    op.Autocorrelation("amount", "at"),
    op.Autocorrelation("amount", "at", 2),
    *(
        op.SeriesShape("amount", "at", figure)
        for figure in ("mean_change", "mean_absolute_change", "zero_crossings", "peaks", "energy", "maximum_drawdown")
    ),
    *(op.Seasonality("amount", "at", period) for period in ("hour", "day_of_week", "month")),
    *(
        op.CompareWindows("at", 14.0, function, "amount", None, comparison)
        for function in ("sum", "mean", "maximum")
        for comparison in ("difference", "ratio")
    ),
    op.CompareWindows("at", 20.0, "count", None, 30.0, "ratio", NL),
    *(op.AmongEntities("sum", place, "amount") for place in ("rank", "percent_rank", "share_of_total", "z_score")),
    op.AmongEntities("count", "rank"),
    op.AmongEntities("mean", "percent_rank", "amount", NL),
    op.AtTimes("at", "day_of_week", (6, 7), "sum", "amount"),
    op.AtTimes("at", "month", (3,), "count"),
    op.AtTimes("at", "hour", (0, 12, 13), "median", "amount", NL),
]
START = datetime(2024, 2, 28, 12, tzinfo=UTC)
AT = st.one_of(st.none(), st.integers(0, 60).map(lambda step: START + timedelta(hours=19 * step)))
TEXTS = ["ab Abab x", "", "https://u:p@www.Shop.example:8/a//b?c=/d#e", "/a/b/", "x@y.example", "x@y", None]
ROW = st.tuples(
    st.sampled_from(["a", "b", None]),
    AT,
    st.one_of(st.none(), st.integers(-40, 40).map(lambda quarter: quarter / 4)),
    st.one_of(st.none(), st.integers(-3, 3)),
    st.sampled_from(["NL", "DE", None]),
    st.sampled_from([True, False, None]),
    st.sampled_from(TEXTS),
    AT,
)
RARE = [("a", START, 1.0, 1, "NL", True, "x@y.example", None)] * 5
TIES = [("a", START, x, 1, "NL", True, "ab", START) for x in (3.0, None, 1.0)]


TRIED = settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
"""Failing rows are few and are not shrunk: each try computes all operations."""


@cache
def statement(grain: str) -> str:
    """All the operations' features f0 … in one statement."""
    operations = ROW_VARIANTS if grain == "row" else ENTITY_VARIANTS
    return render(compile_plan(plan(operations, operations[0].grain), profile()).statement(), "duckdb")


def computed(grain: str, rows: Sequence[Any]) -> dict[str, list[Any]]:
    """The features of the operations of a grain."""
    with table(rows, COLUMNS) as connection:
        return fetch(statement(grain), connection)


def as_rows(rows: Sequence[Any]) -> list[Row]:
    """The rows by column, each with its id."""
    return [dict(zip(COLUMNS, row, strict=True)) | {"id": place} for place, row in enumerate(rows)]


def same(found: Any, expected: Any) -> bool:
    """Whether both are null, equal, or equal to nine digits."""
    numbers = isinstance(expected, float | int) and isinstance(found, float | int)
    if numbers and not isinstance(expected, bool) and not isinstance(found, bool):
        return math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-6)
    return type(found) is type(expected) and found == expected


def test_every_oracle_is_used() -> None:
    """Each operation with an oracle is tried."""
    here = {kind for kind, module in MODULES.items() if module == oracles.__name__}
    assert {type(one) for one in ROW_VARIANTS} == ROWS.keys() & here
    assert {type(one) for one in ENTITY_VARIANTS} == ENTITIES.keys() & here


@TRIED
@given(st.lists(ROW, max_size=9))
@example(RARE)
@example(TIES)
def test_row_operations(rows: list[Any]) -> None:
    """Every row operation gives for every row what plain Python gives."""
    found, plain = computed("row", rows), as_rows(rows)
    for place, one in enumerate(ROW_VARIANTS):
        expected = ROWS[type(one)](one, plain)
        assert all(map(same, found[f"f{place}"], expected)), (one, found[f"f{place}"], expected)


@TRIED
@given(st.lists(ROW, max_size=12))
@example(TIES)
def test_entity_operations(rows: list[Any]) -> None:
    """Every entity operation gives for every entity what plain Python gives."""
    found, plain = computed("entity", rows), as_rows(rows)
    entities = sorted({row["user"] for row in plain} - {None})
    for place, one in enumerate(ENTITY_VARIANTS):
        expected = [ENTITIES[type(one)](one, [row for row in plain if row["user"] == who], plain) for who in entities]
        assert all(map(same, found[f"f{place}"], expected)), (one, found[f"f{place}"], expected)

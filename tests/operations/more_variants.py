"""Instances of operations that are held to their oracles by `test_more_oracles`, for the table of orders."""

from __future__ import annotations

from datetime import date
from typing import get_args

from service.features import operations as op
from service.features.operations import Operation, Predicate

NL = (Predicate("country", "eq", ("NL",)),)
BACK = (Predicate("returned", "eq", (True,)),)
SERIES = [("user", "at"), (None, "at")]
DATES = (date(2024, 3, 1), date(2024, 2, 29), date(2024, 3, 29), date(2024, 4, 1), date(2024, 3, 2))
COUNTED = [((), None), (NL, None), ((), 20.0), (BACK, 20.0)]
FIVE = ("mean", "minimum", "maximum", "standard_deviation", "median")
FUNCTIONS = get_args(op.AggregateFunction)

ROW_VARIANTS: list[Operation] = [
    *(
        op.OutOfFoldMean(groups, target, folds, smoothing)
        for groups, target, folds, smoothing in [
            (("country",), "amount", 3, 0.0),
            (("country",), "returned", 5, 10.0),
            (("country", "items"), "amount", 2, 1.5),
        ]
    ),
    op.OutOfFoldFrequency(("country",), 3),
    op.OutOfFoldFrequency(("country", "returned"), 2),
    op.OrderedCategory("country", ("DE", "BE", "NL")),
    op.OrderedCategory("items", ("1", "-1", "3")),
    op.CategoryCode("country"),
    op.CategoryCode("items", "frequency"),
    op.ShareOfGroup("amount", "country"),
    op.ShareOfGroup("items"),
    *(
        op.RankInGroup("amount", group, order, dense)
        for group in (None, "country")
        for order in ("rising", "falling")
        for dense in (False, True)
    ),
    op.EqualWidthBin("amount", 4),
    op.GroupDistinct("user", "country"),
    op.GroupDistinct("amount", "returned"),
    op.GroupRate("country", BACK),
    op.IsDateIn("at", DATES),
    *(op.DaysToNearestDate("at", DATES, direction) for direction in ("next", "previous", "nearest")),
    op.BusinessDaysBetween("at", "delivered_at"),
    op.BusinessDaysBetween("delivered_at", "at", DATES),
    op.CompletedPeriods("at", "delivered_at", None, "months"),
    op.CompletedPeriods("at", "delivered_at", None, "years"),
    op.CompletedPeriods("at", None, date(2031, 3, 5)),
    op.CompletedPeriods("at", None, date(1999, 3, 5), "months"),
    *(
        op.DatePartIn("at", part, values)
        for part, values in [
            ("hour", (0, 7, 12)),
            ("day_of_week", (6, 7)),
            ("minute", (0, 30)),
            ("week_of_month", (1, 5)),
            ("half_year", (1,)),
            ("week", (9, 10)),
            ("month", (2,)),
        ]
    ),
    *(
        op.NumericFunction("amount", function)
        for function in (
            "reciprocal",
            "square",
            "cube",
            "log2",
            "log10",
            "sine",
            "cosine",
            "ln",
            "exponential",
            "logit",
            "sign",
            "floor",
            "ceiling",
            "fraction",
        )
    ),
    op.Remainder("amount", 0.75),
    op.RelativeDifference("amount", "items"),
    op.PowerProduct(("amount", "items"), (2, -1), 0.5),
    op.WeightedSum(("amount", "items", "returned"), (1.5, -2.0, 10.0), 3.0),
    *(op.WordStatistic("note", figure) for figure in ("distinct", "distinct_share", "mean_length", "longest")),
    op.TermsCount("note", ("ab", "X", "/")),
    op.TermsCount("note", ("ab", "X", "/"), "distinct"),
    *(op.TextPiece("note", piece, 2) for piece in ("first_word", "last_word", "first_characters", "last_characters")),
    op.TextField("note", "@", 2),
    op.TextField("note", " ", 1),
    op.DistanceToNearest("amount", "items", (52.37, -3.0, 8.0), (4.9, 1.0, -2.0)),
    op.PlaceDensity("amount", "items", 2.0),
    *(
        op.LastKnownValue(column, *keys, where)
        for column in ("amount", "country")
        for keys in SERIES
        for where in ((), BACK)
    ),
    *(
        op.DistanceFromHistory("amount", *keys, comparison, days)
        for keys in SERIES
        for days in (None, 9.5)
        for comparison in ("difference", "ratio", "z_score")
    ),
    *(
        op.ValueDaysBefore("amount", *keys, 3.0, 9.5, function)
        for keys in SERIES
        for function in ("mean", "sum", "maximum")
    ),
    op.ValueDaysBefore("amount", "user", "at", 19 / 24, 0.01),
    *(
        op.EarlierInGroup("country", "at", function, "amount", days, where)
        for function in ("count", "sum", "mean", "minimum")
        for days, where in [(None, ()), (9.5, BACK)]
    ),
    *(op.DistinctEarlier("country", *keys, 9.5) for keys in SERIES),
    op.DistinctEarlier("amount", "user", "at", 20.0),
    *(op.DistinctSoFar("country", *keys) for keys in SERIES),
    *(op.SessionSoFar(*keys, 3000.0, figure) for keys in SERIES for figure in ("session", "place", "minutes")),
    *(op.StateDuration("country", *keys, unit) for keys in SERIES for unit in ("rows", "days")),
    *(op.RollingTrend("amount", *keys, 4) for keys in SERIES),
    *(
        op.RollingComparison("amount", *keys, 5.0, 30.0, function, comparison)
        for keys in SERIES
        for function in ("sum", "mean", "maximum")
        for comparison in ("ratio", "difference")
    ),
    *(op.DistanceFromPrevious("amount", "items", *keys, figure) for keys in SERIES for figure in ("km", "km_per_hour")),
    *(op.CategoryPath("items", *keys, 3) for keys in SERIES),
]

ENTITY_VARIANTS: list[Operation] = [
    *(
        op.InventoryStatistic(column, figure, weight, *counted)
        for counted in COUNTED
        for figure in ("distinct", "entropy", "top_share", "concentration", "once_share")
        for column, weight in [("country", None), ("items", "amount")]
    ),
    *(
        op.InventoryOf(column, value, figure, weight, *counted)
        for counted in COUNTED
        for figure in ("amount", "share", "rank")
        for column, value, weight in [("country", "NL", None), ("items", "1", "amount")]
    ),
    *(
        op.NthCategory(column, n, weight, *counted)
        for counted in COUNTED
        for column, n, weight in [("country", 1, None), ("items", 2, "amount"), ("returned", 2, None)]
    ),
    op.InventoryChange("country", "at", 14.0),
    op.InventoryChange("items", "at", 20.0, BACK),
    op.InventoryAmongAll("country"),
    op.InventoryAmongAll("items", NL, 25.0),
    *(op.CategoryTurnover("items", "at", 14.0, figure) for figure in ("new", "gone", "kept")),
    *(op.BasketsWithBoth("items", NL, BACK, figure) for figure in ("count", "share", "lift")),
    *(op.BasketStatistic("items", function, weight) for function in FIVE for weight in (None, "amount")),
    op.BasketStatistic("items", "mean", "amount", NL),
    op.SumShare("amount", NL),
    op.SumShare("amount", BACK, 20.0),
    *(
        op.CompareConditions(function, NL, BACK, "amount", comparison)
        for function in ("count", "sum", "mean", "maximum")
        for comparison in ("ratio", "difference")
    ),
    op.CompareConditions("minimum", NL, (), "amount", "difference", 20.0),
    *(op.DaysSinceEvent("at", n, from_end, where) for n in (1, 2) for from_end in (False, True) for where in ((), NL)),
    op.DaysBetweenKinds("at", NL, BACK),
    op.DaysBetweenKinds("at", BACK, BACK),
    *(op.ResponseTime("at", NL, BACK, function) for function in FIVE),
    op.FollowedShare("at", NL, NL, 9.0),
    op.FollowedShare("at", NL, BACK, 9.0),
    op.FunnelStep("country", "at", ("NL", "DE", "NL")),
    op.FunnelStep("items", "at", ("1", "-1")),
    op.PathCount("country", "at", ("NL", "DE")),
    op.PathCount("items", "at", ("1", "1", "-1")),
    op.MostFrequentPath("country", "at"),
    op.MostFrequentPath("items", "at", 3),
    *(op.SessionRate("at", 3000.0, NL, at) for at in ("any", "first", "last")),
    *(
        op.SessionEdge("country", "at", 3000.0, edge, session)
        for edge in ("first", "last")
        for session in ("first", "last", "most_frequent")
    ),
    *(
        op.ActivePeriods("at", period, figure, where)
        for period in ("day", "week", "month")
        for figure in ("count", "share", "longest_run", "current_run")
        for where in ((), NL)
    ),
    *(
        op.PeriodTotals("at", period, function, column)
        for period in ("day", "week", "month")
        for function in FIVE
        for column in (None, "amount")
    ),
    op.PeriodTotals("at", "week", "maximum", "amount", NL),
    op.DecayedSum("at", 7.5),
    op.DecayedSum("at", 7.5, "amount", NL),
    op.OverdueRatio("at"),
    op.OverdueRatio("at", NL),
    *(op.TimeInState("at", where, figure) for where in (NL, BACK) for figure in ("days", "share")),
    op.TimeWeightedMean("amount", "at"),
    *(
        op.ValueAtExtreme(column, "amount", extreme)
        for column in ("country", "items")
        for extreme in ("maximum", "minimum")
    ),
    *(op.DaysSinceExtreme("amount", "at", extreme) for extreme in ("maximum", "minimum")),
    op.StateBefore("amount", "at", 9.5),
    op.StateBefore("country", "at", 0.0, BACK),
    *(op.StateChange("amount", "at", 9.5, comparison) for comparison in ("difference", "ratio")),
    *(op.WindowStatistic("at", 30.0, 9.5, function, "amount") for function in ("count", "sum", *FIVE)),
    op.WindowStatistic("at", 9.5, 0.0, "mean", "amount", NL),
    *(op.AggregatePair("amount", "items", combine, "sum") for combine in ("sum", "difference", "product", "ratio")),
    *(op.AggregatePair("amount", "items", "product", function, NL) for function in FUNCTIONS),
    *(op.AggregateElapsed("at", "delivered_at", function, (), 20.0) for function in FUNCTIONS),
    *(op.AggregateText("note", measure, function, NL) for measure in ("characters", "words") for function in FUNCTIONS),
    op.TermShare("note", "AB"),
    op.TermShare("note", "@", BACK),
    *(op.LargestValues("amount", 2, figure) for figure in ("sum", "mean", "share", "nth")),
    *(op.SpecialMean("amount", mean, where) for mean in ("geometric", "harmonic", "quadratic") for where in ((), NL)),
    *(
        op.Track("amount", "items", "at", figure)
        for figure in ("total_km", "mean_step_km", "maximum_step_km", "net_km", "maximum_from_first_km")
    ),
    *(op.SeriesStatistic("amount", "at", figure) for figure in get_args(op.SeriesFigure)),
    *(op.SeriesStatistic("items", "at", figure, NL) for figure in get_args(op.SeriesFigure)),
    op.SeriesCrossings("amount", "at"),
    op.SeriesCrossings("items", "at", 1.0, NL),
    op.SeriesPeaks("amount", "at"),
    op.SeriesPeaks("items", "at", 2),
    *(
        op.SeriesMemory("amount", "at", figure, lag)
        for lag in (1, 2)
        for figure in (
            "autocorrelation",
            "c3",
            "time_reversal_asymmetry",
            "mean_absolute_difference",
            "mean_difference",
        )
    ),
    op.SeriesBeyondSigma("amount", "at", 1.2),
    *(op.SeriesTrend("amount", "at", figure) for figure in ("slope", "intercept", "r_squared")),
    op.BinnedEntropy("amount", "at", 4),
    *(
        op.ChangeQuantiles("amount", "at", 0.1, 0.9, absolute, function)
        for absolute in (True, False)
        for function in ("mean", "variance")
    ),
    op.EnergyShare("amount", "at", 3, 2),
    op.EnergyShare("items", "at", 5, 5, NL),
    op.MassQuantile("amount", "at", 0.5),
]

"""Values of every operation worked out by hand: the one table that each engine is held to."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime
from typing import Any

from service.features import operations as op
from service.features.operations import AnyOperation, Predicate

LOGICAL = {
    "VARCHAR": "categorical",
    "TIMESTAMP": "datetime",
    "DOUBLE": "numeric",
    "BIGINT": "integer",
    "BOOLEAN": "boolean",
}
COLUMNS = {
    "user": "VARCHAR", "at": "TIMESTAMP", "x": "DOUBLE", "y": "BIGINT", "w": "DOUBLE", "c": "VARCHAR",
    "text": "VARCHAR", "b": "BOOLEAN", "until": "TIMESTAMP",
}  # fmt: skip
FRIDAY, SATURDAY, LATE, WEDNESDAY = (
    datetime(2024, 1, 5, 10, tzinfo=UTC),
    datetime(2024, 1, 6, 10, tzinfo=UTC),
    datetime(2024, 1, 5, 23, tzinfo=UTC),
    datetime(2024, 1, 10, 10, tzinfo=UTC),
)
ROWS: list[tuple[Any, ...]] = [
    ("u1", FRIDAY, 1.0, 2, -4.0, "a", "Hi, A b 1", True, LATE),
    ("u1", SATURDAY, 3.0, 0, 0.0, "b", "  ", False, FRIDAY),
    ("u2", LATE, None, 5, 4.0, "a", None, None, None),
    ("u2", None, 2.0, 5, None, None, "née 😀", None, FRIDAY),
    (None, WEDNESDAY, 2.0, 5, 1.5, "c", "", True, WEDNESDAY),
    ("u1", SATURDAY, 9.0, 3, -1.0, "b", "1É2", False, WEDNESDAY),
]
"""Nulls in every role, two rows of one entity at one instant, a group of one, a text of no character."""

IN_A = (Predicate("c", "eq", ("a",)),)
N = None
"""Null, in a word short enough for the table."""
ROW_CASES: list[tuple[AnyOperation, list[Any]]] = [
    (op.Value("x"), [1.0, 3.0, N, 2.0, 2.0, 9.0]),
    (op.Value("c"), ["a", "b", "a", N, "c", "b"]),
    (op.Value("b"), [True, False, N, N, True, False]),
    (op.Value("y"), [2, 0, 5, 5, 5, 3]),
    (op.Logarithm("w"), [-math.log(5), 0.0, math.log(5), N, math.log(2.5), -math.log(2)]),
    (op.AbsoluteValue("w"), [4.0, 0.0, 4.0, N, 1.5, 1.0]),
    (op.Difference("x", "y"), [-1.0, 3.0, N, -3.0, -3.0, 6.0]),
    (op.Product("x", "w"), [-4.0, 0.0, N, N, 3.0, -9.0]),
    (op.Product("x", "b"), [1.0, 0.0, N, N, 2.0, 0.0]),
    (op.Ratio("x", "y"), [0.5, N, N, 0.4, 0.4, 3.0]),
    (op.IsMissing("c"), [0, 0, 0, 1, 0, 0]),
    (op.Flag((Predicate("c", "in", ("a", "c")),)), [1, 0, 1, 0, 1, 0]),
    (op.Flag((Predicate("c", "not_in", ("a",)),)), [0, 1, 0, 0, 1, 1]),
    (op.Flag((Predicate("c", "ne", ("a",)),)), [0, 1, 0, 0, 1, 1]),
    (op.Flag((Predicate("c", "is_null"),)), [0, 0, 0, 1, 0, 0]),
    (op.Flag((Predicate("x", "gt", (1,)), Predicate("x", "le", (3.0,)))), [0, 1, 0, 1, 1, 0]),
    (op.Flag((Predicate("x", "lt", (2,)),)), [1, 0, 0, 0, 0, 0]),
    (op.Flag((Predicate("w", "ge", (-1,)), Predicate("c", "not_null"))), [0, 1, 1, 0, 1, 1]),
    (op.Flag((Predicate("b", "eq", ("true",)),)), [1, 0, 0, 0, 1, 0]),
    (op.Flag((Predicate("at", "gt", ("2024-01-05T12:00:00+02:00",)),)), [0, 1, 1, 0, 1, 1]),
    (op.DatePartOf("at", "hour"), [10, 10, 23, N, 10, 10]),
    (op.DatePartOf("at", "day_of_week"), [5, 6, 5, N, 3, 6]),
    (op.CyclicTime("at", "hour", "sine"), [0.5, 0.5, math.sin(math.tau * 23 / 24), N, 0.5, 0.5]),
    (op.CyclicTime("at", "month", "cosine"), [math.sqrt(3) / 2] * 3 + [N] + [math.sqrt(3) / 2] * 2),
    (op.IsWeekend("at"), [0, 1, 0, N, 0, 1]),
    (op.ElapsedDays("at", "until"), [13 / 24, -1.0, N, N, 0.0, 4.0]),
    (op.TextLength("text"), [9, 2, N, 5, 0, 3]),
    (op.WordCount("text"), [4, 0, N, 2, 0, 1]),
    (op.TextContains("text", "HI, a"), [1, 0, 0, 0, 0, 0]),
    (op.CharacterShare("text", "digit"), [1 / 9, 0.0, N, 0.0, N, 2 / 3]),
    (op.CharacterShare("text", "uppercase"), [2 / 9, 0.0, N, 0.0, N, 1 / 3]),
    (op.CharacterShare("text", "punctuation"), [1 / 9, 0.0, N, 1 / 5, N, 0.0]),
    (op.CharacterShare("text", "space"), [3 / 9, 1.0, N, 1 / 5, N, 0.0]),
    (op.ZScore("x"), [(x - 3.4) / math.sqrt(10.3) if x else N for x in (1, 3, N, 2, 2, 9)]),
    (op.ZScore("x", "c"), [N, -math.sqrt(0.5), N, N, N, math.sqrt(0.5)]),
    (op.MinMaxScale("x"), [0.0, 0.25, N, 0.125, 0.125, 1.0]),
    (op.QuantileBin("x", 4), [1, 3, N, 1, 1, 4]),
    (op.PercentRank("x"), [0.0, 0.75, N, 0.25, 0.25, 1.0]),
    (op.PercentRank("x", "c"), [0.0, 0.0, N, N, 0.0, 1.0]),
    (op.FrequencyEncoding("c"), [2 / 6, 2 / 6, 2 / 6, N, 1 / 6, 2 / 6]),
    (op.GroupStatistic("x", "c", "sum"), [1.0, 12.0, 1.0, N, 2.0, 12.0]),
    (op.GroupStatistic("x", "c", "mean"), [1.0, 6.0, 1.0, N, 2.0, 6.0]),
    (op.GroupStatistic("x", "c", "standard_deviation"), [N, math.sqrt(18), N, N, N, math.sqrt(18)]),
    (op.GroupStatistic("x", "c", "median"), [1.0, 6.0, 1.0, N, 2.0, 6.0]),
    (op.GroupCount("c"), [2, 2, 2, N, 1, 2]),
    (op.PreviousValue("c", "user", "at"), [N, "a", N, N, N, "b"]),
    (op.PreviousValue("x", "user", "at", 2), [N, N, N, N, N, 1.0]),
    (op.ChangeFromPrevious("y", "user", "at"), [N, -2.0, N, N, N, 3.0]),
    (op.PercentChange("x", "user", "at"), [N, 2.0, N, N, N, 2.0]),
    (op.PercentChange("y", "user", "at"), [N, -1.0, N, N, N, N]),
    (op.DaysSincePrevious("user", "at"), [N, 1.0, N, N, N, 0.0]),
    (op.RollingStatistic("x", "user", "at", 1, "sum"), [0.0, 1.0, 0.0, N, N, 1.0]),
    (op.RollingStatistic("x", "user", "at", 0.999, "sum"), [0.0, 0.0, 0.0, N, N, 0.0]),
    (op.RollingStatistic("x", "user", "at", 7, "mean"), [N, 1.0, N, N, N, 1.0]),
    (op.RollingStatistic("x", "user", "at", 7, "minimum"), [N, 1.0, N, N, N, 1.0]),
    (op.RollingStatistic("x", "user", "at", 7, "maximum"), [N, 1.0, N, N, N, 1.0]),
    (op.RollingStatistic("x", "user", "at", 7, "standard_deviation"), [N, N, N, N, N, N]),
    (op.RollingCount("user", "at", 7), [0, 1, 0, N, N, 1]),
    (op.RollingCount("user", "at", 7, (Predicate("c", "eq", ("b",)),)), [0, 0, 0, N, N, 0]),
    (op.CumulativeCount("user", "at"), [0, 1, 0, N, N, 2]),
]  # fmt: skip
"""Rows are those of `ROWS`; a tie in time is no earlier row to a window of days, but is one in (time, row id) order."""

ENTITY_CASES: list[tuple[AnyOperation, list[Any]]] = [
    (op.Count(), [3, 2]),
    (op.Count(IN_A), [1, 1]),
    (op.Count((), 5), [2, 1]),
    (op.CountDistinct("c"), [2, 1]),
    (op.CountDistinct("c", IN_A, 5), [0, 1]),
    (op.Aggregate("x", "sum"), [13.0, 2.0]),
    (op.Aggregate("x", "sum", IN_A), [1.0, 0.0]),
    (op.Aggregate("x", "mean"), [13 / 3, 2.0]),
    (op.Aggregate("b", "mean"), [1 / 3, N]),
    (op.Aggregate("x", "minimum"), [1.0, 2.0]),
    (op.Aggregate("x", "maximum", (), 5), [9.0, N]),
    (op.Aggregate("x", "standard_deviation"), [statistics.stdev([1, 3, 9]), N]),
    (op.Aggregate("x", "median"), [3.0, 2.0]),
    (op.Quantile("x", 0.9), [7.8, 2.0]),
    (op.Quantile("x", 0.9, IN_A), [1.0, N]),
    (op.Rate(IN_A), [1 / 3, 1 / 2]),
    (op.Rate(IN_A, (Predicate("c", "eq", ("b",)),)), [1 / 2, N]),
    (op.Rate(IN_A, (), 5), [0.0, 1.0]),
    (op.RatioOfSums("x", "y"), [13 / 5, 2 / 10]),
    (op.MissingShare("x"), [0.0, 0.5]),
    (op.Recency("at"), [4.0, 4 + 11 / 24]),
    (op.Recency("at", (Predicate("y", "gt", (3,)),)), [N, 4 + 11 / 24]),
    (op.Tenure("at"), [5.0, 4 + 11 / 24]),
    (op.ActiveSpan("at"), [1.0, 0.0]),
    (op.MeanGap("at"), [0.5, N]),
    (op.MeanGap("at", IN_A), [N, N]),
    (op.EventsPerDay("at"), [3 / 5, 1 / (4 + 11 / 24)]),
    (op.EventsPerDay("at", IN_A), [1 / 5, 1 / (4 + 11 / 24)]),
    (op.Trend("x", "at"), [5.0, N]),
    (op.RecentShare("at", 5), [2 / 3, 1.0]),
    (op.RecentShare("at", 5, IN_A), [0.0, 1.0]),
    (op.HourShare("at", 22, 6), [0.0, 1.0]),
    (op.HourShare("at", 10, 11), [1.0, 0.0]),
    (op.WeekendShare("at"), [2 / 3, 0.0]),
    (op.ActiveDays("at"), [2, 1]),
    (op.MostFrequent("c"), ["b", "a"]),
    (op.TopShare("c"), [2 / 3, 1 / 2]),
    (op.Entropy("c"), [math.log2(3) - 2 / 3, 0.0]),
    (op.LastValue("x", "at"), [9.0, N]),
    (op.FirstValue("c", "at"), ["a", "a"]),
    (op.FirstValue("b", "at"), [True, N]),
]
"""Entities u1 and u2; the dataset's latest time is the Wednesday of the row without entity."""

"""A row's value beside all rows, or beside those of its group: scaling, ranks, bins, frequencies, statistics.

A row whose group is null belongs to none.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from service.features.operations.expression import Expression, Rows
from service.features.operations.operation import RowOperation
from service.features.operations.parameters import AggregateFunction, CategoryColumn, NumberColumn

STATISTICS: dict[AggregateFunction, str] = {
    "sum": "SUM(:x)",
    "mean": "AVG(:x)",
    "minimum": "MIN(:x)",
    "maximum": "MAX(:x)",
    "standard_deviation": "STDDEV_SAMP(:x)",
    "median": "MEDIAN(:x)",
    "count": "CAST(COUNT(:x) AS DOUBLE)",
    "count_distinct": "CAST(COUNT(DISTINCT :x) AS DOUBLE)",
    "range": "MAX(:x) - MIN(:x)",
    "variance": "VAR_SAMP(:x)",
}
"""Aggregates by the name operations give them; deviation and variance are the sample's (n - 1)."""


def statistic(function: AggregateFunction, window: str = "") -> str:
    """The statistic as SQL; a sum over no values is 0: nothing was spent. A window suits what is one call."""
    text = STATISTICS[function] + window
    return f"COALESCE({text}, 0)" if function == "sum" else text


class GroupOperation(RowOperation, frozen=True):
    """Base of what depends on other rows of the dataset, whatever their time."""

    sees = "dataset"
    cost = "scan"
    publishes_values = False
    follows_calendar = False


class ZScore(GroupOperation, frozen=True, tag="z_score"):
    """(x - mean) / standard deviation, over the dataset or within a group."""

    column: NumberColumn
    group: CategoryColumn | None = None

    gives = "number"
    fits = "statistics"
    nulls = "where the column or the group is null, or the deviation is 0 or unknown"
    formula = "(x - mean) / s, with the sample's standard deviation s (n - 1)"
    source = "the standard score"
    example = '{"column": "amount", "group": "country"}'

    def compile(self, rows: Rows) -> Expression:
        """Measure the distance from the mean in deviations."""
        x = rows.number(self.column)
        mean = rows.over(self.group, "AVG(:x)", x=x)
        deviation = rows.over(self.group, "STDDEV_SAMP(:x)", x=x)
        return rows.sql("(:x - :mean) / NULLIF(:deviation, 0)", x=x, mean=mean, deviation=deviation)


class MinMaxScale(GroupOperation, frozen=True, tag="min_max_scale"):
    """(x - min) / (max - min) over the dataset."""

    column: NumberColumn

    gives = "number"
    fits = "statistics"
    nulls = "where the column is null, or all values are equal"
    formula = "(x - min) / (max - min)"
    source = "scikit-learn's `MinMaxScaler`"
    example = '{"column": "amount"}'

    def compile(self, rows: Rows) -> Expression:
        """Place the value between the extremes."""
        x = rows.number(self.column)
        least, most = rows.over(None, "MIN(:x)", x=x), rows.over(None, "MAX(:x)", x=x)
        return rows.sql("(:x - :least) / NULLIF(:most - :least, 0)", x=x, least=least, most=most)


class QuantileBin(GroupOperation, frozen=True, tag="quantile_bin"):
    """Number of the equal-count bin, 1 … bins."""

    column: NumberColumn
    bins: Annotated[int, Meta(ge=2, le=100)] = 4

    gives = "integer"
    fits = "ranks"
    cost = "sort"
    nulls = "where the column is null"
    formula = "⌊(rank - 1) · bins / n⌋ + 1 over the n known values; equal values share a bin"
    source = "SQL's NTILE, but by RANK, so that equal values share a bin"
    example = '{"column": "amount", "bins": 4}'

    def compile(self, rows: Rows) -> Expression:
        """Cut the ranks into bins."""
        x = rows.number(self.column)
        rank = rows.sql("RANK() OVER (PARTITION BY :x IS NULL ORDER BY :x)", x=x)
        text = "CASE WHEN NOT :x IS NULL THEN CAST(FLOOR((:rank - 1) * :bins / :known) AS BIGINT) + 1 END"
        return rows.sql(text, x=x, rank=rank, bins=self.bins, known=rows.over(None, "COUNT(:x)", x=x))


class PercentRank(GroupOperation, frozen=True, tag="percent_rank"):
    """Relative rank 0 … 1, over the dataset or within a group."""

    column: NumberColumn
    group: CategoryColumn | None = None

    gives = "number"
    fits = "ranks"
    cost = "sort"
    nulls = "where the column or the group is null"
    formula = "(rank - 1) / (n - 1) over the n known values; 0 for a single one"
    source = "SQL:2003's PERCENT_RANK"
    example = '{"column": "amount", "group": "country"}'

    def compile(self, rows: Rows) -> Expression:
        """Rank the known values."""
        x = rows.number(self.column)
        if self.group is None:
            ranked = "PERCENT_RANK() OVER (PARTITION BY :x IS NULL ORDER BY :x)"
            return rows.sql(f"CASE WHEN NOT :x IS NULL THEN {ranked} END", x=x)
        ranked = "PERCENT_RANK() OVER (PARTITION BY :group, :x IS NULL ORDER BY :x)"
        text = f"CASE WHEN NOT :x IS NULL AND NOT :group IS NULL THEN {ranked} END"
        return rows.sql(text, x=x, group=rows.raw(self.group))


class FrequencyEncoding(GroupOperation, frozen=True, tag="frequency_encoding"):
    """Share of the dataset's rows that hold this row's category."""

    column: CategoryColumn

    gives = "number"
    fits = "groups"
    nulls = "where the column is null"
    formula = "rows of the category / all rows"
    source = "feature-engine's `CountFrequencyEncoder`, with frequencies"
    example = '{"column": "country"}'

    def compile(self, rows: Rows) -> Expression:
        """Divide the category's rows by all."""
        text = "COUNT(*)"
        return rows.sql(":x / :rows", x=rows.over(self.column, text), rows=rows.over(None, text))


class GroupStatistic(GroupOperation, frozen=True, tag="group_statistic"):
    """A statistic of a numeric column over the row's group, written on each of its rows."""

    column: NumberColumn
    group: CategoryColumn
    function: AggregateFunction

    gives = "number"
    fits = "groups"
    cost = "sort for a median"
    nulls = (
        "where the group is null; but for counts and a sum, where the group has no known value (a deviation needs two)"
    )
    formula = "the statistic over the group's known values; a sum over none is 0"
    source = "descriptive statistics; the standard deviation is the sample's (n - 1)"
    example = '{"column": "amount", "group": "country", "function": "mean"}'

    def compile(self, rows: Rows) -> Expression:
        """Aggregate the group."""
        return rows.over(self.group, statistic(self.function), x=rows.number(self.column))


class GroupCount(GroupOperation, frozen=True, tag="group_count"):
    """Rows in the row's group."""

    group: CategoryColumn

    gives = "integer"
    fits = "groups"
    nulls = "where the group is null"
    formula = "number of rows of the group"
    source = "feature-engine's `CountFrequencyEncoder`, with counts"
    example = '{"group": "country"}'

    def compile(self, rows: Rows) -> Expression:
        """Count the group."""
        return rows.over(self.group, "COUNT(*)")

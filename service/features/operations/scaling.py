"""A row's value beside the spread of all: robust scaling, clipping to quantiles, outliers, categories by how common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.expression import Expression, Rows
from service.features.operations.groups import GroupOperation, statistic
from service.features.operations.parameters import AggregateFunction, CategoryColumn, CategoryColumns, NumberColumn
from service.features.operations.values import flag

MAD_TO_SIGMA = 1.4826
"""Median absolute deviation of a normal distribution, times this, is its standard deviation."""
Share = Annotated[float, Meta(ge=0, le=1)]


class RobustScale(GroupOperation, frozen=True, tag="robust_scale"):
    """(x - median) / interquartile range over the dataset."""

    column: NumberColumn

    gives = "number"
    fits = "statistics"
    cost = "sort"
    nulls = "where the column is null, or the quartiles are equal"
    formula = "(x - median) / (q75 - q25), with quantiles interpolated linearly"
    source = "scikit-learn's `RobustScaler`"
    example = '{"column": "amount"}'

    def compile(self, rows: Rows) -> Expression:
        """Measure the distance from the median in interquartile ranges."""
        x = rows.number(self.column)
        ends = {name: rows.over(None, "QUANTILE(:x, :q)", x=x, q=q) for name, q in (("low", 0.25), ("high", 0.75))}
        center = rows.over(None, "QUANTILE(:x, :q)", x=x, q=0.5)
        return rows.sql("(:x - :center) / NULLIF(:high - :low, 0)", x=x, center=center, **ends)


class Winsorize(GroupOperation, frozen=True, tag="winsorize"):
    """A numeric column held between two of its quantiles over the dataset."""

    column: NumberColumn
    lower: Share = 0.05
    upper: Share = 0.95

    gives = "number"
    fits = "statistics"
    cost = "sort"
    nulls = "where the column is null or no finite number"
    formula = "min(max(x, q_lower), q_upper), with quantiles interpolated linearly"
    source = "winsorising (Dixon 1960); feature-engine's `Winsorizer` with quantiles"
    example = '{"column": "amount"}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """Quantiles in the wrong order."""
        if self.lower >= self.upper:
            yield "upper", "the upper quantile must be above the lower"

    def compile(self, rows: Rows) -> Expression:
        """Replace what lies beyond the quantiles."""
        x = rows.finite(self.column)
        low = rows.over(None, "QUANTILE(:x, :q)", x=x, q=self.lower)
        high = rows.over(None, "QUANTILE(:x, :q)", x=x, q=self.upper)
        return rows.sql("CASE WHEN :x < :low THEN :low WHEN :x > :high THEN :high ELSE :x END", x=x, low=low, high=high)


class OutlierFlag(GroupOperation, frozen=True, tag="outlier_flag"):
    """1 for a value far from the rest of the dataset, else 0."""

    column: NumberColumn
    method: Literal["iqr", "mad", "z_score"] = "iqr"
    factor: Annotated[float, Meta(gt=0, le=100)] | None = None

    gives = "integer"
    fits = "statistics"
    cost = "sort"
    nulls = "where the column is null or no finite number"
    formula = (
        "iqr: x below q25 - f · IQR or above q75 + f · IQR, f = 1.5 by default; mad: |x - median| > f · 1.4826 · MAD, "
        "f = 3.5; z_score: |x - mean| > f · s, f = 3; where all values are equal, none lies far"
    )
    source = "Tukey's fences (1977); the modified z-score of Iglewicz and Hoaglin (1993); the rule of three deviations"
    example = '{"column": "amount", "method": "iqr"}'

    def compile(self, rows: Rows) -> Expression:
        """Test whether the value lies beyond the fences."""
        x = rows.finite(self.column)
        beyond = {"iqr": self._iqr, "mad": self._mad, "z_score": self._z_score}[self.method](rows, x)
        return rows.sql("CASE WHEN NOT :x IS NULL THEN :flag END", x=x, flag=flag(rows, beyond))

    @property
    def _factor(self) -> float:
        return self.factor or {"iqr": 1.5, "mad": 3.5, "z_score": 3.0}[self.method]

    def _iqr(self, rows: Rows, x: Expression) -> Expression:
        low = rows.over(None, "QUANTILE(:x, :q)", x=x, q=0.25)
        high = rows.over(None, "QUANTILE(:x, :q)", x=x, q=0.75)
        text = ":x < :low - :f * (:high - :low) OR :x > :high + :f * (:high - :low)"
        return rows.sql(text, x=x, low=low, high=high, f=self._factor)

    def _mad(self, rows: Rows, x: Expression) -> Expression:
        center = rows.over(None, "MEDIAN(:x)", x=x)
        deviation = rows.derived(rows.sql("ABS(:x - MEDIAN(:x) OVER ())", x=x))
        spread = rows.over(None, "MEDIAN(:d)", d=deviation)
        text = "ABS(:x - :center) > :f * :sigma * :spread"
        return rows.sql(text, x=x, center=center, f=self._factor, sigma=MAD_TO_SIGMA, spread=spread)

    def _z_score(self, rows: Rows, x: Expression) -> Expression:
        mean, spread = rows.over(None, "AVG(:x)", x=x), rows.over(None, "STDDEV_SAMP(:x)", x=x)
        ends = {
            end: rows.over(None, f"{end}(:x)", x=x) for end in ("MIN", "MAX")
        }  # a mean may differ by rounding alone
        text = ":MIN < :MAX AND ABS(:x - :mean) > :f * :spread"
        return rows.sql(text, x=x, mean=mean, f=self._factor, spread=spread, **ends)


class FrequentCategory(GroupOperation, frozen=True, tag="frequent_category"):
    """The category where it is one of the k most frequent of the dataset, in enough rows, else `other`."""

    column: CategoryColumn
    k: Annotated[int, Meta(ge=1, le=1000)] = 10
    least_rows: Annotated[int, Meta(ge=1, le=1_000_000)] = 1

    gives = "string"
    fits = "categories"
    cost = "sort"
    publishes_values = True
    nulls = "where the column is null"
    formula = "v if its rank by (rows falling, value) is at most k and it has `least_rows`, else `other`"
    source = "feature-engine's `RareLabelEncoder`, by rank"
    example = '{"column": "country", "k": 5}'

    def compile(self, rows: Rows) -> Expression:
        """Keep the category or name it other."""
        x = rows.text(self.column)
        count = rows.derived(rows.sql("COUNT(:x) OVER (PARTITION BY :x)", x=x))
        rank = "DENSE_RANK() OVER (ORDER BY :n DESC, :x)"
        text = f"CASE WHEN :x IS NULL THEN NULL WHEN {rank} <= :k AND :n >= :least THEN :x ELSE 'other' END"
        return rows.sql(text, x=x, n=count, k=self.k, least=self.least_rows)


class CombinedGroupStatistic(GroupOperation, frozen=True, tag="combined_group_statistic"):
    """A statistic of a numeric column over the rows that share the values of several columns."""

    column: NumberColumn
    groups: CategoryColumns
    function: AggregateFunction

    gives = "number"
    fits = "groups"
    cost = "sort for a median"
    nulls = "where a group is null; but for counts and a sum, where no row has a known value (a deviation needs two)"
    formula = "the statistic over the known values of the rows with the same values; a sum over none is 0"
    source = "descriptive statistics; the standard deviation is the sample's (n - 1)"
    example = '{"column": "amount", "groups": ["country", "items"], "function": "mean"}'

    def compile(self, rows: Rows) -> Expression:
        """Aggregate the rows with the same values."""
        return rows.over(self.groups, statistic(self.function), x=rows.number(self.column))


class CombinedGroupCount(GroupOperation, frozen=True, tag="combined_group_count"):
    """Rows of the dataset that share the row's values of several columns."""

    groups: CategoryColumns

    gives = "integer"
    fits = "groups"
    cost = "scan"
    nulls = "where any of the groups is null"
    formula = "number of rows with the same values"
    source = "counting"
    example = '{"groups": ["country", "items"]}'

    def compile(self, rows: Rows) -> Expression:
        """Count the rows with the same values."""
        return rows.over(self.groups, "COUNT(*)")


class DifferenceFromGroup(GroupOperation, frozen=True, tag="difference_from_group"):
    """The row's value less the mean or median of its group, or their ratio."""

    column: NumberColumn
    group: CategoryColumn
    function: Literal["mean", "median"] = "mean"
    comparison: Literal["difference", "ratio"] = "difference"

    gives = "number"
    fits = "groups"
    cost = "sort for a median"
    nulls = "where the column or the group is null; for a ratio, where the group's value is 0"
    formula = "x - m or x / m, with the mean or median m of the group's known values"
    source = "featuretools' relative transforms"
    example = '{"column": "amount", "group": "country"}'

    def compile(self, rows: Rows) -> Expression:
        """Compare the value with its group's."""
        x = rows.number(self.column)
        typical = rows.over(self.group, statistic(self.function), x=x)
        text = ":x - :m" if self.comparison == "difference" else ":x / NULLIF(:m, 0)"
        return rows.sql(text, x=x, m=typical)

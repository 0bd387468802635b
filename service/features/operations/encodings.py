"""Categories as numbers, and a row's place within its group: out-of-fold target means, codes, shares, ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.expression import Expression, Rows
from service.features.operations.groups import GroupOperation
from service.features.operations.parameters import (
    AnyColumn,
    CategoryColumn,
    FreeText,
    NumberColumn,
    TargetColumn,
    Where,
)
from service.features.operations.values import ValueOperation

Folds = Annotated[int, Meta(ge=2, le=20)]
Categories = Annotated[tuple[CategoryColumn, ...], Meta(min_length=1, max_length=10)]
FOLD = "MOD(MOD(:row * 48271, 2147483647), :folds)"
"""Fold of a row by its id: a step of Lehmer's generator, so that neighbours fall into different folds."""
OTHER_FOLDS = (
    "(COALESCE({0} OVER (PARTITION BY {1}ORDER BY :fold RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) + "
    "COALESCE({0} OVER (PARTITION BY {1}ORDER BY :fold RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING), 0))"
)
"""An aggregate over the rows of the other folds. Nothing is subtracted: the row's own fold is never read."""


def fold_of(rows: Rows, folds: int) -> Expression:
    """The row's fold, 0 … folds - 1."""
    return rows.derived(rows.sql(FOLD, row=rows.row_id(), folds=folds))


class OutOfFoldMean(GroupOperation, frozen=True, tag="out_of_fold_mean"):
    """Mean of the target over the other folds' rows with the row's categories, drawn toward the mean of those folds."""

    groups: Categories
    target: TargetColumn
    folds: Folds = 5
    smoothing: Annotated[float, Meta(ge=0, le=10_000)] = 10.0

    gives = "number"
    fits = "folds"
    cost = "sort"
    nulls = "where a group is null, or the other folds hold no known target (without smoothing: in the row's group)"
    formula = (
        "(Σ y + m · ȳ) / (n + m) over the n known targets y of the group in the other folds, with smoothing m and the "
        "mean ȳ of all their known targets; the fold of a row is (row id · 48271 mod (2³¹ - 1)) mod k"
    )
    source = "Micci-Barreca (2001), cross-fitted as in scikit-learn's `TargetEncoder`"
    example = '{"groups": ["country"], "target": "returned", "folds": 5, "smoothing": 10}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """A target among the groups: the group would give it away."""
        if self.target in self.groups:
            yield "groups", "the target cannot be one of the groups"

    def compile(self, rows: Rows) -> Expression:
        """Average the target over the other folds."""
        keys = {f"g{place}": rows.raw(name) for place, name in enumerate(self.groups)}
        by = ", ".join(f":{key}" for key in keys)
        y, fold = rows.number(self.target), fold_of(rows, self.folds)

        def over(aggregate: str, partition: str) -> Expression:
            return rows.sql(OTHER_FOLDS.format(aggregate, partition), **keys, y=y, fold=fold)

        total, known = over("SUM(:y)", by + " "), over("COUNT(:y)", by + " ")
        everything, everyone = over("SUM(:y)", "TRUE "), over("COUNT(:y)", "TRUE ")
        smooth = rows.sql(
            ":total + :m * :sum / NULLIF(:all, 0)", total=total, m=self.smoothing, sum=everything, all=everyone
        )
        text = (
            f"CASE WHEN {' AND '.join(f'NOT :{key} IS NULL' for key in keys)} THEN :smooth / NULLIF(:known + :m, 0) END"
        )
        return rows.sql(text, **keys, smooth=smooth, known=known, m=self.smoothing)


class OutOfFoldFrequency(GroupOperation, frozen=True, tag="out_of_fold_frequency"):
    """Share of the rows of the other folds that have the row's categories."""

    groups: Categories
    folds: Folds = 5

    gives = "number"
    fits = "folds"
    cost = "sort"
    nulls = "where a group is null, or the other folds are empty"
    formula = (
        "rows of the group in the other folds / rows of the other folds; the fold of a row is "
        "(row id · 48271 mod (2³¹ - 1)) mod k"
    )
    source = "frequency encoding, cross-fitted"
    example = '{"groups": ["country"], "folds": 5}'

    def compile(self, rows: Rows) -> Expression:
        """Divide the counts of the other folds."""
        keys = {f"g{place}": rows.raw(name) for place, name in enumerate(self.groups)}
        by = ", ".join(f":{key}" for key in keys)
        counts = f"{OTHER_FOLDS.format('COUNT(*)', by + ' ')} / NULLIF({OTHER_FOLDS.format('COUNT(*)', 'TRUE ')}, 0)"
        text = f"CASE WHEN {' AND '.join(f'NOT :{key} IS NULL' for key in keys)} THEN {counts} END"
        return rows.sql(text, **keys, fold=fold_of(rows, self.folds))


class OrderedCategory(ValueOperation, frozen=True, tag="ordered_category"):
    """Place of the category in a given order (low, medium, high → 0, 1, 2)."""

    column: CategoryColumn
    order: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256), FreeText()], ...], Meta(min_length=2, max_length=100)
    ]

    gives = "integer"
    nulls = "where the column is null, or its value is not in the order"
    formula = "place of the value, as text, from 0"
    source = "scikit-learn's `OrdinalEncoder` with categories"
    example = '{"column": "country", "order": ["BE", "DE", "NL"]}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """A category at two places."""
        if len({*self.order}) < len(self.order):
            yield "order", "each category has one place"

    def compile(self, rows: Rows) -> Expression:
        """Number the categories."""
        names = {f"v{place}": value for place, value in enumerate(self.order)}
        cases = " ".join(f"WHEN :{name} THEN {place}" for place, name in enumerate(names))
        return rows.sql(f"CAST(CASE :x {cases} END AS BIGINT)", x=rows.text(self.column), **names)


class CategoryCode(GroupOperation, frozen=True, tag="category_code"):
    """Number of the category among all of the dataset, in the order of their values or of how common they are."""

    column: CategoryColumn
    order: Literal["value", "frequency"] = "value"

    gives = "integer"
    fits = "categories"
    cost = "sort"
    nulls = "where the column is null"
    formula = "place from 0, by value as text rising, or by (rows falling, value)"
    source = "scikit-learn's `OrdinalEncoder`; feature-engine's `OrdinalEncoder` by count"
    example = '{"column": "country", "order": "frequency"}'

    def compile(self, rows: Rows) -> Expression:
        """Rank the categories."""
        x = rows.text(self.column)
        order = ":x"
        if self.order == "frequency":
            order = ":n DESC, :x"
        count = rows.derived(rows.sql("COUNT(:x) OVER (PARTITION BY :x)", x=x))
        ranked = f"DENSE_RANK() OVER (PARTITION BY :x IS NULL ORDER BY {order}) - 1"
        return rows.sql(f"CASE WHEN NOT :x IS NULL THEN CAST({ranked} AS BIGINT) END", x=x, n=count)


class ShareOfGroup(GroupOperation, frozen=True, tag="share_of_group"):
    """The row's value as a share of the sum over its group, or over the dataset."""

    column: NumberColumn
    group: CategoryColumn | None = None

    gives = "number"
    fits = "groups"
    nulls = "where the column or the group is null, or the sum is 0"
    formula = "x / Σ x over the group's known values"
    source = "pandas' `x / x.groupby(g).transform('sum')`"
    example = '{"column": "amount", "group": "country"}'

    def compile(self, rows: Rows) -> Expression:
        """Divide by the group's sum."""
        x = rows.number(self.column)
        return rows.sql(":x / NULLIF(:sum, 0)", x=x, sum=rows.over(self.group, "SUM(:x)", x=x))


class RankInGroup(GroupOperation, frozen=True, tag="rank"):
    """The row's rank by a numeric column, over the dataset or within a group, from 1; equal values share a rank."""

    column: NumberColumn
    group: CategoryColumn | None = None
    order: Literal["rising", "falling"] = "falling"
    dense: bool = False

    gives = "integer"
    fits = "ranks"
    cost = "sort"
    nulls = "where the column or the group is null"
    formula = "1 + rows that come before, or, where dense, 1 + distinct values that do"
    source = "pandas' `rank` with the methods min and dense"
    example = '{"column": "amount", "group": "country", "order": "falling"}'

    def compile(self, rows: Rows) -> Expression:
        """Rank the known values."""
        x = rows.number(self.column)
        call = "DENSE_RANK()" if self.dense else "RANK()"
        direction = "DESC" if self.order == "falling" else ""
        group = rows.raw(self.group) if self.group is not None else rows.sql("TRUE")
        ranked = f"CAST({call} OVER (PARTITION BY :g, :x IS NULL ORDER BY :x {direction}) AS BIGINT)"
        return rows.sql(f"CASE WHEN NOT :x IS NULL AND NOT :g IS NULL THEN {ranked} END", x=x, g=group)


class EqualWidthBin(GroupOperation, frozen=True, tag="equal_width_bin"):
    """Number of the bin of equal width between the column's extremes that holds the value, 1 … bins."""

    column: NumberColumn
    bins: Annotated[int, Meta(ge=2, le=100)] = 10

    gives = "integer"
    fits = "statistics"
    nulls = "where the column is null or no finite number, or all finite values are equal"
    formula = "min(⌊(x - min) · bins / (max - min)⌋, bins - 1) + 1"
    source = "scikit-learn's `KBinsDiscretizer` with the strategy uniform"
    example = '{"column": "amount", "bins": 10}'

    def compile(self, rows: Rows) -> Expression:
        """Cut the range into bins."""
        x = rows.finite(self.column)
        ends = {"low": rows.over(None, "MIN(:x)", x=x), "high": rows.over(None, "MAX(:x)", x=x)}
        place = rows.sql("FLOOR((:x - :low) * :bins / NULLIF(:high - :low, 0))", x=x, bins=self.bins, **ends)
        last = "CASE WHEN :place >= :bins THEN :bins - 1 ELSE :place END"
        text = f"CASE WHEN NOT :place IS NULL THEN CAST({last} AS BIGINT) + 1 END"
        return rows.sql(text, place=place, bins=self.bins)


class GroupDistinct(GroupOperation, frozen=True, tag="group_distinct"):
    """Distinct values of a column over the row's group (users of a device, cards at an address)."""

    column: AnyColumn
    group: CategoryColumn

    gives = "integer"
    fits = "groups"
    cost = "sort"
    nulls = "where the group is null"
    formula = "number of distinct known values among the group's rows"
    source = "counting"
    example = '{"column": "user", "group": "country"}'

    def compile(self, rows: Rows) -> Expression:
        """Count the distinct values."""
        return rows.over(self.group, "COUNT(DISTINCT :x)", x=rows.raw(self.column))


class GroupRate(GroupOperation, frozen=True, tag="group_rate"):
    """Share of the rows of the row's group that meet the predicates."""

    group: CategoryColumn
    where: Annotated[Where, Meta(min_length=1)]

    gives = "number"
    fits = "groups"
    nulls = "where the group is null"
    formula = "rows of the group that meet the predicates / rows of the group"
    source = "the ratio of counts"
    example = '{"group": "country", "where": [{"column": "returned", "comparison": "eq", "values": [true]}]}'

    def compile(self, rows: Rows) -> Expression:
        """Divide the counts."""
        met = rows.condition(self.where)
        return rows.over(self.group, "COUNT(CASE WHEN :met THEN 1 END) / COUNT(*)", met=met)

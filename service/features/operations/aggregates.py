"""Counts, statistics and ratios over all rows of an entity."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from service.features.operations.expression import Columns, Entities, Expression
from service.features.operations.groups import STATISTICS
from service.features.operations.operation import EntityOperation
from service.features.operations.parameters import AggregateFunction, AnyColumn, Days, NumberColumn, Where


class AggregateOperation(EntityOperation, frozen=True):
    """Base of what is counted or summed over an entity's rows."""

    cost = "scan"
    publishes_values = False


def share(columns: Columns, part: Expression, whole: Expression) -> Expression:
    """The part of the whole; null where the whole is 0."""
    return columns.sql(":part / NULLIF(:whole, 0)", part=part, whole=whole)


class Count(AggregateOperation, frozen=True, tag="count"):
    """Rows of the entity that meet the predicates."""

    where: Where = ()
    last_days: Days | None = None

    gives = "integer"
    nulls = "never"
    formula = "number of rows"
    source = "counting"
    example = '{"where": [{"column": "country", "comparison": "eq", "values": ["NL"]}], "last_days": 30}'

    def compile(self, entities: Entities) -> Expression:
        """Count the rows."""
        return entities.rows("COUNT(*)", self.where, self.last_days)


class CountDistinct(AggregateOperation, frozen=True, tag="count_distinct"):
    """Distinct values of the column within the entity."""

    column: AnyColumn
    where: Where = ()
    last_days: Days | None = None

    gives = "integer"
    cost = "sort"
    nulls = "never: nulls are not counted"
    formula = "number of distinct known values"
    source = "counting"
    example = '{"column": "country"}'

    def compile(self, entities: Entities) -> Expression:
        """Count the distinct values."""
        return entities.rows("COUNT(DISTINCT :x)", self.where, self.last_days, x=entities.raw(self.column))


class Aggregate(AggregateOperation, frozen=True, tag="aggregate"):
    """A statistic of a numeric column within the entity."""

    column: NumberColumn
    function: AggregateFunction
    where: Where = ()
    last_days: Days | None = None

    gives = "number"
    cost = "sort for a median"
    nulls = "but for a sum, where no row that counts has a known value (a deviation needs two)"
    formula = "the statistic over the known values; a sum over none is 0"
    source = "descriptive statistics; the standard deviation is the sample's (n - 1)"
    example = '{"column": "amount", "function": "sum", "last_days": 30}'

    def compile(self, entities: Entities) -> Expression:
        """Aggregate the column."""
        text = STATISTICS[self.function]
        value = entities.rows(text, self.where, self.last_days, x=entities.number(self.column))
        return entities.sql("COALESCE(:sum, 0)", sum=value) if self.function == "sum" else value


class Quantile(AggregateOperation, frozen=True, tag="quantile"):
    """A continuous quantile of a numeric column within the entity."""

    column: NumberColumn
    q: Annotated[float, Meta(gt=0, lt=1)]
    where: Where = ()

    gives = "number"
    cost = "sort"
    nulls = "where no row that counts has a known value"
    formula = "the value at position (n - 1) · q of the sorted known values, interpolated linearly"
    source = "type 7 of Hyndman and Fan (1996), NumPy's default"
    example = '{"column": "amount", "q": 0.9}'

    def compile(self, entities: Entities) -> Expression:
        """Take the quantile."""
        return entities.rows("QUANTILE(:x, :q)", self.where, x=entities.number(self.column), q=self.q)


class Rate(AggregateOperation, frozen=True, tag="rate"):
    """Rows that meet `numerator` over rows that meet `denominator` (click-through, conversion); null over 0."""

    numerator: Annotated[Where, Meta(min_length=1)]
    denominator: Where = ()
    last_days: Days | None = None

    gives = "number"
    nulls = "where no row meets the denominator"
    formula = "rows that meet the numerator / rows that meet the denominator"
    source = "the ratio of counts, as in a click-through rate"
    example = '{"numerator": [{"column": "returned", "comparison": "eq", "values": [true]}]}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the counts."""
        numerator = entities.rows("COUNT(*)", self.numerator, self.last_days)
        return share(entities, numerator, entities.rows("COUNT(*)", self.denominator, self.last_days))


class RatioOfSums(AggregateOperation, frozen=True, tag="ratio_of_sums"):
    """sum(numerator) / sum(denominator) within the entity; null over 0."""

    numerator: NumberColumn
    denominator: NumberColumn

    gives = "number"
    nulls = "where either column has no known value, or the denominators sum to 0"
    formula = "Σ numerator / Σ denominator, each over its known values"
    source = "the ratio estimator of survey statistics (Cochran 1977)"
    example = '{"numerator": "amount", "denominator": "items"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the sums."""
        numerator = entities.rows("SUM(:x)", x=entities.number(self.numerator))
        return share(entities, numerator, entities.rows("SUM(:x)", x=entities.number(self.denominator)))


class MissingShare(AggregateOperation, frozen=True, tag="missing_share"):
    """Share of the entity's rows where the column is null."""

    column: AnyColumn

    gives = "number"
    nulls = "never"
    formula = "rows with a null / rows"
    source = "counting"
    example = '{"column": "note"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the nulls by the rows."""
        rows, known = entities.rows("COUNT(*)"), entities.rows("COUNT(:x)", x=entities.raw(self.column))
        return entities.sql("(:rows - :known) / :rows", rows=rows, known=known)

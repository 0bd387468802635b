"""Counts, statistics and ratios over all rows of an entity."""

from __future__ import annotations

from typing import Annotated, Literal

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
    nulls = "but for counts and a sum, where no row that counts has a known value (a deviation needs two)"
    formula = "the statistic over the known values; a count or sum over none is 0"
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
    last_days: Days | None = None

    gives = "number"
    cost = "sort"
    nulls = "where no row that counts has a known value"
    formula = "the value at position (n - 1) · q of the sorted known values, interpolated linearly"
    source = "type 7 of Hyndman and Fan (1996), NumPy's default"
    example = '{"column": "amount", "q": 0.9}'

    def compile(self, entities: Entities) -> Expression:
        """Take the quantile."""
        x = entities.number(self.column)
        return entities.rows("QUANTILE(:x, :q)", self.where, self.last_days, x=x, q=self.q)


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
    where: Where = ()
    last_days: Days | None = None

    gives = "number"
    nulls = "where either column has no known value, or the denominators sum to 0"
    formula = "Σ numerator / Σ denominator, each over its known values"
    source = "the ratio estimator of survey statistics (Cochran 1977)"
    example = '{"numerator": "amount", "denominator": "items"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the sums."""
        sums = (
            entities.rows("SUM(:x)", self.where, self.last_days, x=entities.number(name))
            for name in (self.numerator, self.denominator)
        )
        return share(entities, *sums)


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


class Spread(AggregateOperation, frozen=True, tag="spread"):
    """How far a numeric column's values lie apart within the entity."""

    column: NumberColumn
    figure: Literal["range", "interquartile_range", "coefficient_of_variation"]
    where: Where = ()

    gives = "number"
    cost = "sort"
    nulls = "where no row that counts has a known value; for the coefficient, with fewer than two or a mean of 0"
    formula = "max - min; q75 - q25, interpolated linearly; s / |mean|, with the sample's s (n - 1)"
    source = "descriptive statistics"
    example = '{"column": "amount", "figure": "interquartile_range"}'

    def compile(self, entities: Entities) -> Expression:
        """Measure the distance."""
        x = entities.number(self.column)
        if self.figure == "coefficient_of_variation":
            deviation = entities.rows("STDDEV_SAMP(:x)", self.where, x=x)
            mean = entities.rows("AVG(:x)", self.where, x=x)
            return entities.sql(":s / NULLIF(ABS(:m), 0)", s=deviation, m=mean)
        if self.figure == "range":
            high, low = (entities.rows(text, self.where, x=x) for text in ("MAX(:x)", "MIN(:x)"))
            return entities.sql(":high - :low", high=high, low=low)
        high, low = (entities.rows("QUANTILE(:x, :q)", self.where, x=x, q=q) for q in (0.75, 0.25))
        return entities.sql(":high - :low", high=high, low=low)


class Shape(AggregateOperation, frozen=True, tag="shape"):
    """Skewness or kurtosis of a numeric column within the entity."""

    column: NumberColumn
    figure: Literal["skewness", "kurtosis"]
    where: Where = ()

    gives = "number"
    cost = "sort"
    nulls = "with fewer than three known values (four for kurtosis), or where they do not vary"
    formula = "m₃ / m₂^1.5; m₄ / m₂² - 3, with central moments m over the known values"
    source = "scipy.stats' `skew` and `kurtosis` with bias=True"
    example = '{"column": "amount", "figure": "skewness"}'

    def compile(self, entities: Entities) -> Expression:
        """Average the powers of the distance from the mean."""
        x = entities.number(self.column)
        if self.where:
            x = entities.sql("CASE WHEN :met THEN :x END", met=entities.condition(self.where), x=x)
        mean = entities.grouped("AVG(:x)", entities.sql("1"), x=x)
        away = entities.derived(entities.sql(":x - :mean", x=x, mean=mean))
        power, least = (3, 3) if self.figure == "skewness" else (4, 4)
        moment = entities.rows(f"AVG({' * '.join([':d'] * power)})", d=away)
        text = ":m / POWER(:v, 1.5)" if self.figure == "skewness" else ":m / (:v * :v) - 3"
        known, variance = entities.rows("COUNT(:d)", d=away), entities.rows("AVG(:d * :d)", d=away)
        ends = {
            end: entities.rows(f"{end}(:x)", x=x) for end in ("MIN", "MAX")
        }  # equal values may differ from their mean
        guarded = f"CASE WHEN :n >= :least AND :MIN < :MAX THEN {text} END"
        return entities.sql(guarded, n=known, least=least, m=moment, v=variance, **ends)


class Correlation(AggregateOperation, frozen=True, tag="correlation"):
    """Pearson's correlation of two numeric columns within the entity."""

    column: NumberColumn
    other: NumberColumn

    gives = "number"
    nulls = "where fewer than two rows have both values, or either does not vary"
    formula = "cov(x, y) / (s_x · s_y)"
    source = "Pearson (1895)"
    example = '{"column": "amount", "other": "items"}'

    def compile(self, entities: Entities) -> Expression:
        """Correlate the columns."""
        return correlation(entities, entities.number(self.column), entities.number(self.other))


class WeightedMean(AggregateOperation, frozen=True, tag="weighted_mean"):
    """Mean of a numeric column within the entity, weighed by another (price by quantity)."""

    column: NumberColumn
    weight: NumberColumn
    where: Where = ()

    gives = "number"
    nulls = "where the weights of the rows with both values known sum to 0, or there are none"
    formula = "Σ w x / Σ w over the rows with both values known"
    source = "NumPy's `average` with weights"
    example = '{"column": "amount", "weight": "items"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the weighed sum by the weights."""
        x, w = entities.number(self.column), entities.number(self.weight)
        product = entities.rows("SUM(:x * :w)", self.where, x=x, w=w)
        used = entities.rows("SUM(CASE WHEN NOT :x IS NULL THEN :w END)", self.where, x=x, w=w)
        return share(entities, product, used)


def correlation(entities: Entities, x: Expression, y: Expression) -> Expression:
    """Pearson's correlation of two expressions over the entity's rows; null where one of them does not vary."""
    a = entities.sql("CASE WHEN NOT :y IS NULL THEN :x END", x=x, y=y)
    b = entities.sql("CASE WHEN NOT :x IS NULL THEN :y END", x=x, y=y)
    ends = {
        f"{name}_{end}": entities.rows(f"{end}(:v)", v=value)
        for name, value in (("a", a), ("b", b))
        for end in ("MIN", "MAX")
    }
    found = entities.rows("CORR(:a, :b)", a=a, b=b)
    return entities.sql("CASE WHEN :a_MIN < :a_MAX AND :b_MIN < :b_MAX THEN :r END", r=found, **ends)

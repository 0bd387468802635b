"""Statistics within an entity of what rows say together: two columns, two times, texts, places; the largest values."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.aggregates import AggregateOperation, share
from service.features.operations.expression import DAY, Entities, Expression
from service.features.operations.groups import STATISTICS
from service.features.operations.parameters import (
    AggregateFunction,
    Days,
    NumberColumn,
    Predicate,
    Term,
    TextColumn,
    TimeColumn,
    Where,
)
from service.features.operations.places import distance
from service.features.operations.sequences import SequenceOperation

NOTHING_KNOWN = "but for counts and a sum, where no row that counts has a known value (deviation and variance need two)"


def statistic_of(
    entities: Entities, function: AggregateFunction, x: Expression, where: Where, last_days: Days | None
) -> Expression:
    """The statistic of an expression; a sum over none is 0."""
    value = entities.rows(STATISTICS[function], where, last_days, x=x)
    return entities.sql("COALESCE(:v, 0)", v=value) if function == "sum" else value


class AggregatePair(AggregateOperation, frozen=True, tag="aggregate_pair"):
    """A statistic within the entity of two numeric columns, combined row by row (revenue: price times quantity)."""

    left: NumberColumn
    right: NumberColumn
    combine: Literal["sum", "difference", "product", "ratio"]
    function: AggregateFunction
    where: Where = ()
    last_days: Days | None = None

    gives = "number"
    cost = "sort for a median"
    nulls = NOTHING_KNOWN
    formula = "the statistic of left ∘ right over the rows where both are known (a ratio: and right is not 0)"
    source = "descriptive statistics; deviation and variance are the sample's (n - 1)"
    example = '{"left": "amount", "right": "items", "combine": "product", "function": "sum"}'

    def compile(self, entities: Entities) -> Expression:
        """Combine, then aggregate."""
        text = {"sum": ":a + :b", "difference": ":a - :b", "product": ":a * :b", "ratio": ":a / NULLIF(:b, 0)"}
        x = entities.sql(text[self.combine], a=entities.number(self.left), b=entities.number(self.right))
        return statistic_of(entities, self.function, x, self.where, self.last_days)


class AggregateElapsed(AggregateOperation, frozen=True, tag="aggregate_elapsed"):
    """A statistic within the entity of the days from one datetime column to another (delivery time, length of stay)."""

    start: TimeColumn
    end: TimeColumn
    function: AggregateFunction
    where: Where = ()
    last_days: Days | None = None

    gives = "number"
    cost = "sort for a median"
    nulls = NOTHING_KNOWN
    formula = "the statistic of (end - start) / 24 h over the rows where both are known"
    source = "descriptive statistics; deviation and variance are the sample's (n - 1)"
    example = '{"start": "at", "end": "delivered_at", "function": "mean"}'

    def compile(self, entities: Entities) -> Expression:
        """Subtract, then aggregate."""
        ends = {"a": entities.instant(self.start), "b": entities.instant(self.end)}
        days = entities.sql("(:b - :a) / :day", **ends, day=DAY)
        return statistic_of(entities, self.function, days, self.where, self.last_days)


class AggregateText(AggregateOperation, frozen=True, tag="aggregate_text"):
    """A statistic within the entity of its texts' characters, words, or occurrences of a term."""

    column: TextColumn
    measure: Literal["characters", "words"]
    function: AggregateFunction
    where: Where = ()
    last_days: Days | None = None

    gives = "number"
    cost = "sort for a median"
    nulls = NOTHING_KNOWN
    formula = "the statistic of the number of code points, or of runs of characters that are no white space"
    source = "descriptive statistics; deviation and variance are the sample's (n - 1)"
    example = '{"column": "note", "measure": "words", "function": "mean"}'

    def compile(self, entities: Entities) -> Expression:
        """Measure the texts, then aggregate."""
        text = "CAST(TEXT_LENGTH(:x) AS DOUBLE)" if self.measure == "characters" else "CAST(WORD_COUNT(:x) AS DOUBLE)"
        x = entities.sql(text, x=entities.text(self.column))
        return statistic_of(entities, self.function, x, self.where, self.last_days)


class TermShare(AggregateOperation, frozen=True, tag="term_share"):
    """Share of the entity's texts that contain a term, letter case aside."""

    column: TextColumn
    term: Term
    where: Where = ()

    gives = "number"
    nulls = "where no row that counts has a text"
    formula = "texts that contain the term / texts"
    source = "the ratio of counts"
    example = '{"column": "note", "term": "gift"}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the counts."""
        x = entities.text(self.column)
        holding = entities.rows("COUNT(CASE WHEN CONTAINS_TEXT(:x, :t) THEN 1 END)", self.where, x=x, t=self.term)
        return share(entities, holding, entities.rows("COUNT(:x)", self.where, x=x))


class LargestValues(SequenceOperation, frozen=True, tag="largest_values"):
    """The sum, mean or share of the entity's n largest values, or the nth largest itself."""

    column: NumberColumn
    n: Annotated[int, Meta(ge=1, le=1000)]
    figure: Literal["sum", "mean", "share", "nth"]

    gives = "number"
    nulls = "where the entity has no known value; the nth, where it has fewer; a share, where the sum is 0"
    formula = "Σ, mean or Σ / Σ of all over the n largest known values (all where there are fewer)"
    source = "order statistics"
    example = '{"column": "amount", "n": 3, "figure": "share"}'

    def compile(self, entities: Entities) -> Expression:
        """Rank the values from the largest."""
        x = entities.number(self.column)
        rank = entities.ranked(entities.sql("-:x", x=x))
        text = {"sum": "SUM({0})", "share": "SUM({0})", "mean": "AVG({0})", "nth": "MAX({0})"}[self.figure]
        sign = "=" if self.figure == "nth" else "<="
        top = entities.rows(text.format(f"CASE WHEN :rank {sign} :n THEN :x END"), rank=rank, n=self.n, x=x)
        return share(entities, top, entities.rows("SUM(:x)", x=x)) if self.figure == "share" else top


class SpecialMean(AggregateOperation, frozen=True, tag="special_mean"):
    """Geometric, harmonic or quadratic mean of a numeric column within the entity."""

    column: NumberColumn
    mean: Literal["geometric", "harmonic", "quadratic"]
    where: Where = ()

    gives = "number"
    nulls = "where no row that counts has a known value; for the first two, where one is not positive"
    formula = "exp(mean ln x); n / Σ 1 / x; √(mean x²)"
    source = "SciPy's `gmean` and `hmean`; the root mean square"
    example = '{"column": "amount", "mean": "geometric"}'

    def compile(self, entities: Entities) -> Expression:
        """Average the transformed values."""
        x = entities.number(self.column)
        if self.mean == "quadratic":
            return entities.sql("SQRT(:m)", m=entities.rows("AVG(:x * :x)", self.where, x=x))
        positive = {"geometric": "EXP(:m)", "harmonic": "1 / :m"}[self.mean]
        inner = {"geometric": "LN(:x)", "harmonic": "1 / :x"}[self.mean]
        mean = entities.rows(f"AVG(CASE WHEN :x > 0 THEN {inner} END)", self.where, x=x)
        least = entities.rows("MIN(:x)", self.where, x=x)
        return entities.sql(f"CASE WHEN :least > 0 THEN {positive} END", least=least, m=mean)


class Track(SequenceOperation, frozen=True, tag="track"):
    """How the entity moves over the Earth from row to row: kilometres in all, steps, how far from first and centre."""

    latitude: NumberColumn
    longitude: NumberColumn
    time: TimeColumn
    figure: Literal["total_km", "mean_step_km", "maximum_step_km", "net_km", "maximum_from_first_km"]

    gives = "number"
    nulls = "where no row, or for steps no two rows, have a place and a time"
    formula = "Σ, mean and max of the steps; first place to last; max from the first place; great circles"
    source = "the haversine formula on a sphere of 6371.0088 km (IUGG)"
    example = '{"latitude": "amount", "longitude": "items", "time": "at", "figure": "total_km"}'

    def compile(self, entities: Entities) -> Expression:
        """Measure from place to place."""
        where = (Predicate(self.latitude, "not_null"), Predicate(self.longitude, "not_null"))
        lat, lon = entities.number(self.latitude), entities.number(self.longitude)
        other = {"net_km": "LAST_VALUE(:x) OVER all_rows", "maximum_from_first_km": "FIRST_VALUE(:x) OVER all_rows"}
        text = other.get(self.figure, "LAG(:x) OVER earlier")
        place = entities.sequence("ROW_NUMBER() OVER earlier", self.time, where)
        there = [entities.sequence(text, self.time, where, x=x) for x in (lat, lon)]
        far = entities.sql(
            "CASE WHEN NOT :place IS NULL THEN :far END",
            place=place,
            far=distance(entities, (lat, lon), (there[0], there[1])),
        )
        if self.figure == "net_km":
            far = entities.sql("CASE WHEN :place = 1 THEN :far END", place=place, far=far)
        return entities.rows({"total_km": "SUM(:x)", "mean_step_km": "AVG(:x)"}.get(self.figure, "MAX(:x)"), x=far)

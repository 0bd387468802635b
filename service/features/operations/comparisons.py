"""An entity beside itself at another time, or beside all entities; rows of some hours, days or months alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.aggregates import AggregateOperation
from service.features.operations.calendar import PARTS, RANGES
from service.features.operations.expression import Entities, Expression
from service.features.operations.groups import STATISTICS
from service.features.operations.parameters import (
    AggregateFunction,
    DatePart,
    Days,
    NumberColumn,
    TimeColumn,
    Where,
)

NO_COLUMN = "every statistic but the count is of a column: name it"


class CompareWindows(AggregateOperation, frozen=True, tag="compare_windows"):
    """A count or statistic of the dataset's last days, beside that of as many days at an earlier time."""

    time: TimeColumn
    days: Days
    function: Literal["count", "sum", "mean", "minimum", "maximum"]
    column: NumberColumn | None = None
    days_before: Days | None = None
    comparison: Literal["difference", "ratio"] = "difference"
    where: Where = ()

    gives = "number"
    nulls = "but for counts and sums, where either window has no known value; for a ratio, where the earlier is 0"
    formula = (
        "f(as of - days, as of] less, or over, f of the same span `days_before` earlier (by default `days`: the span "
        "just before; 365 compares with the year before); a count or sum over none is 0"
    )
    source = "period-over-period comparison"
    example = '{"time": "at", "days": 30, "function": "sum", "column": "amount"}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """A statistic of no column."""
        if self.function != "count" and self.column is None:
            yield "column", NO_COLUMN

    def compile(self, entities: Entities) -> Expression:
        """Aggregate both windows."""
        before = self.days_before or self.days
        late, early = (self._window(entities, back) for back in (0.0, before))
        text = ":late - :early" if self.comparison == "difference" else ":late / NULLIF(:early, 0)"
        return entities.sql(f"CAST({text} AS DOUBLE)", late=late, early=early)

    def _window(self, entities: Entities, back: float) -> Expression:
        """The statistic of the span that ends so many days back."""
        inside = entities.lies_between(self.time, back + self.days, back)
        if self.function == "count":
            return entities.rows("COUNT(CASE WHEN :inside THEN 1 END)", self.where, inside=inside)
        value = entities.number(self.column or "")
        x = entities.sql("CASE WHEN :inside THEN :x END", inside=inside, x=value)
        return _or_zero(entities, self.function, entities.rows(STATISTICS[self.function], self.where, x=x))


class AmongEntities(AggregateOperation, frozen=True, tag="among_entities"):
    """Where the entity's count or statistic stands among those of all entities: rank, percentile, share or z-score."""

    function: Literal["count", "sum", "mean", "minimum", "maximum"]
    place: Literal["rank", "percent_rank", "share_of_total", "z_score"]
    column: NumberColumn | None = None
    where: Where = ()

    gives = "number"
    sees = "dataset"
    fits = "ranks"
    cost = "sort"
    nulls = "where the entity's statistic is null; for a share or z-score, where the total or deviation is 0"
    formula = (
        "rank: 1 for the greatest, equal ones share the better place; percent_rank: (rank from below - 1) / (n - 1); "
        "share_of_total: v / Σ v; z_score: (v - mean) / s"
    )
    source = "SQL:2003's RANK and PERCENT_RANK over the entities"
    example = '{"function": "sum", "column": "amount", "place": "percent_rank"}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """A statistic of no column."""
        if self.function != "count" and self.column is None:
            yield "column", NO_COLUMN

    def compile(self, entities: Entities) -> Expression:
        """Aggregate the entity, then compare it with all."""
        if self.function == "count":
            value = entities.rows("COUNT(*)", self.where)
        else:
            x = entities.number(self.column or "")
            value = _or_zero(entities, self.function, entities.rows(STATISTICS[self.function], self.where, x=x))
        texts = {
            "rank": "RANK() OVER (PARTITION BY :v IS NULL ORDER BY :v DESC)",
            "percent_rank": "PERCENT_RANK() OVER (PARTITION BY :v IS NULL ORDER BY :v)",
            "share_of_total": ":v / NULLIF(SUM(:v) OVER (), 0)",
            "z_score": "(:v - AVG(:v) OVER ()) / NULLIF(STDDEV_SAMP(:v) OVER (), 0)",
        }
        return entities.sql(f"CASE WHEN NOT :v IS NULL THEN CAST({texts[self.place]} AS DOUBLE) END", v=value)


class AtTimes(AggregateOperation, frozen=True, tag="aggregate_at"):
    """A count or statistic of the entity's rows on some hours, days or months (weekend spend, a column per month)."""

    time: TimeColumn
    part: DatePart
    values: Annotated[tuple[Annotated[int, Meta(ge=0, le=9999)], ...], Meta(min_length=1, max_length=366)]
    function: Literal["count", "sum", "mean", "minimum", "maximum", "standard_deviation", "median"]
    column: NumberColumn | None = None
    where: Where = ()

    gives = "number"
    cost = "sort for a median"
    nulls = "but for a count or sum, where no row that counts has a known value (a deviation needs two)"
    formula = "the statistic over the rows whose part of the time (UTC) is one of the values; over none 0 for sums"
    source = "conditional aggregation; ISO 8601 for weeks and days of the week (6 and 7 are the weekend)"
    example = '{"time": "at", "part": "day_of_week", "values": [6, 7], "function": "sum", "column": "amount"}'

    def faults(self) -> Iterator[tuple[str, str]]:
        """A statistic of no column; values that the part never has."""
        if self.function != "count" and self.column is None:
            yield "column", NO_COLUMN
        least, greatest = RANGES[self.part]
        if any(not least <= value <= greatest for value in self.values):
            yield "values", f"the part {self.part} lies between {least} and {greatest}"

    def compile(self, entities: Entities) -> Expression:
        """Aggregate the rows at those times."""
        t = entities.raw(self.time)
        values = ", ".join(str(value) for value in self.values)
        met = entities.sql(f"{PARTS[self.part]} IN ({values})", t=t)
        if self.function == "count":
            count = entities.rows("COUNT(CASE WHEN :met THEN 1 END)", self.where, met=met)
            return entities.sql("CAST(:n AS DOUBLE)", n=count)
        x = entities.sql("CASE WHEN :met THEN :x END", met=met, x=entities.number(self.column or ""))
        return _or_zero(entities, self.function, entities.rows(STATISTICS[self.function], self.where, x=x))


def _or_zero(entities: Entities, function: AggregateFunction, value: Expression) -> Expression:
    """The value; a sum over none is 0."""
    return entities.sql("COALESCE(:v, 0)", v=value) if function == "sum" else value

"""What an entity's rows hold of each category in some window: counts or sums by category, and what they say.

An inventory is a number for each category: the rows that hold it, or the sum of a numeric column over them. Rows
without a category are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.aggregates import share
from service.features.operations.categories import CategoryOperation
from service.features.operations.expression import Entities, Expression
from service.features.operations.groups import STATISTICS
from service.features.operations.parameters import CategoryColumn, Days, FreeText, NumberColumn, TimeColumn, Where

NO_ROW = "where no row that counts has a category"
ROWS = "COUNT(*)"
WEIGHTS = "GREATEST(COALESCE(SUM(:w), 0), 0)"
PLACE = "ROW_NUMBER() OVER (PARTITION BY :k ORDER BY {n} DESC, :v)"
"""Place of a category among the entity's, the smallest of equals first."""
CategoryName = Annotated[str, Meta(min_length=1, max_length=256), FreeText()]
COSINE = "SUM(:a * :b) / NULLIF(SQRT(SUM(:a * :a)) * SQRT(SUM(:b * :b)), 0)"


class InventoryStatistic(CategoryOperation, frozen=True, tag="inventory_statistic"):
    """How the entity's rows, or the sums of a column, spread over the categories in a window."""

    column: CategoryColumn
    figure: Literal["distinct", "entropy", "top_share", "concentration", "once_share"]
    weight: NumberColumn | None = None
    where: Where = ()
    last_days: Days | None = None

    gives = "number"
    nulls = f"{NO_ROW}, or no weight is positive; a distinct count never"
    formula = (
        "with shares p of the rows or of the weights (negative sums count as 0): categories; -Σ p log₂ p; max p; Σ p²; "
        "of the categories, the share that one row alone holds"
    )
    source = "Shannon (1948); the Berger-Parker and Herfindahl-Hirschman indices; tsfresh for what occurs once"
    example = '{"column": "country", "figure": "entropy", "weight": "amount", "last_days": 30}'

    def compile(self, entities: Entities) -> Expression:
        """Aggregate the inventory."""
        texts = {
            "distinct": "CAST(COUNT(*) AS DOUBLE)",
            "entropy": "GREATEST(LN(SUM(:n)) - SUM(CASE WHEN :n > 0 THEN :n * LN(:n) END) / SUM(:n), 0) / LN(2)",
            "top_share": "MAX(:n) / SUM(:n)",
            "concentration": "SUM(:n * :n) / (SUM(:n) * SUM(:n))",
            "once_share": "COUNT(CASE WHEN :rows = 1 THEN 1 END) / COUNT(*)",
        }
        text = texts[self.figure]
        if self.figure in {"distinct", "once_share"}:
            found = entities.inventory(self.column, text, {"rows": ROWS}, self.where, self.last_days)
            return entities.sql("COALESCE(:n, 0)", n=found) if self.figure == "distinct" else found
        guarded = f"CASE WHEN SUM(:n) > 0 THEN {text} END"
        if self.weight is None:
            return entities.inventory(self.column, guarded, {"n": ROWS}, self.where, self.last_days)
        w = entities.number(self.weight)
        return entities.inventory(self.column, guarded, {"n": WEIGHTS}, self.where, self.last_days, w=w)


class InventoryOf(CategoryOperation, frozen=True, tag="inventory_of"):
    """What the entity's inventory holds of one category: count or sum, share, or rank among the entity's categories."""

    column: CategoryColumn
    value: CategoryName
    figure: Literal["amount", "share", "rank"]
    weight: NumberColumn | None = None
    where: Where = ()
    last_days: Days | None = None

    gives = "number"
    nulls = f"a share or rank {NO_ROW}, or the total is 0; a rank where the category is not among them; an amount never"
    formula = "n of the category; n / Σ n; 1 + categories with a greater n. The value is compared as text"
    source = "counting"
    example = '{"column": "country", "value": "NL", "figure": "share"}'

    def compile(self, entities: Entities) -> Expression:
        """Pick the category out of the inventory."""
        n = ROWS if self.weight is None else "COALESCE(SUM(:w), 0)"
        measures = {"n": n, "rank": f"RANK() OVER (PARTITION BY :k ORDER BY {n} DESC)"}
        weight = entities.number(self.weight) if self.weight is not None else 0
        texts = {
            "amount": "SUM(CASE WHEN CAST(:v AS VARCHAR) = :value THEN :n END)",
            "share": "COALESCE(SUM(CASE WHEN CAST(:v AS VARCHAR) = :value THEN :n END), 0) / NULLIF(SUM(:n), 0)",
            "rank": "MAX(CASE WHEN CAST(:v AS VARCHAR) = :value THEN :rank END)",
        }
        found = entities.inventory(
            self.column, texts[self.figure], measures, self.where, self.last_days, w=weight, value=self.value
        )
        text = "CAST(COALESCE(:n, 0) AS DOUBLE)" if self.figure == "amount" else "CAST(:n AS DOUBLE)"
        return entities.sql(text, n=found)


class NthCategory(CategoryOperation, frozen=True, tag="nth_category"):
    """The entity's nth most frequent category in a window, or the one with the nth greatest sum."""

    column: CategoryColumn
    n: Annotated[int, Meta(ge=1, le=100)] = 1
    weight: NumberColumn | None = None
    where: Where = ()
    last_days: Days | None = None

    gives = None
    publishes_values = True
    nulls = "where fewer than n categories are among the rows that count"
    formula = "the category at place n by (count or sum falling, value)"
    source = "order statistics"
    example = '{"column": "country", "n": 2, "last_days": 90}'

    def compile(self, entities: Entities) -> Expression:
        """Take the category at the place."""
        n = ROWS if self.weight is None else "COALESCE(SUM(:w), 0)"
        weight = entities.number(self.weight) if self.weight is not None else 0
        text = "MAX(CASE WHEN :place = :nth THEN :v END)"
        measures = {"place": PLACE.format(n=n)}
        return entities.inventory(self.column, text, measures, self.where, self.last_days, w=weight, nth=self.n)


class InventoryChange(CategoryOperation, frozen=True, tag="inventory_similarity"):
    """Cosine similarity of the entity's inventory in the dataset's last days and in as many days before them."""

    column: CategoryColumn
    time: TimeColumn
    days: Days
    where: Where = ()

    gives = "number"
    nulls = "where either window has no row with a category"
    formula = "Σ a b / (√Σ a² √Σ b²), the rows a of a category in (as of - days, as of] and b in the days before"
    source = "the cosine similarity of count vectors"
    example = '{"column": "country", "time": "at", "days": 30}'

    def compile(self, entities: Entities) -> Expression:
        """Compare the counts of both windows."""
        late, early = (entities.lies_between(self.time, back + self.days, back) for back in (0.0, self.days))
        measures = {name: f"COUNT(CASE WHEN :{inside} THEN 1 END)" for name, inside in (("a", "late"), ("b", "early"))}
        return entities.inventory(self.column, COSINE, measures, self.where, late=late, early=early)


class InventoryAmongAll(CategoryOperation, frozen=True, tag="inventory_typicality"):
    """Cosine similarity of the entity's inventory and that of all entities together: how usual its mix is."""

    column: CategoryColumn
    where: Where = ()
    last_days: Days | None = None

    gives = "number"
    sees = "dataset"
    fits = "groups"
    nulls = NO_ROW
    formula = "Σ a b / (√Σ a² √Σ b²), the entity's rows a of a category and all entities' b, over all categories"
    source = "the cosine similarity of count vectors"
    example = '{"column": "country"}'

    def compile(self, entities: Entities) -> Expression:
        """Compare the entity's counts with those of all."""
        measures = {
            "a": ROWS,
            "b": "SUM(COUNT(*)) OVER (PARTITION BY :v)",
        }
        dot = entities.inventory(self.column, "SUM(:a * :b) / SQRT(SUM(:a * :a))", measures, self.where, self.last_days)
        counts = {"a": ROWS, "b": measures["b"], "place": "ROW_NUMBER() OVER (PARTITION BY :v ORDER BY :k)"}
        squares = entities.inventory(
            self.column, "SUM(CASE WHEN :place = 1 THEN :b * :b END)", counts, self.where, self.last_days
        )
        return entities.sql(":dot / SQRT(SUM(:squares) OVER ())", dot=dot, squares=squares)


class CategoryTurnover(CategoryOperation, frozen=True, tag="category_turnover"):
    """How many of the entity's categories are new, gone or kept in the dataset's last days."""

    column: CategoryColumn
    time: TimeColumn
    days: Days
    figure: Literal["new", "gone", "kept"]

    gives = "integer"
    nulls = "never"
    formula = "new: first seen in (as of - days, as of]; gone: last seen before it; kept: seen both in it and before it"
    source = "counting"
    example = '{"column": "country", "time": "at", "days": 30, "figure": "new"}'

    def compile(self, entities: Entities) -> Expression:
        """Compare each category's first and last time with the beginning of the window."""
        recent = entities.is_recent(self.time, self.days)
        measures = {
            "late": "COUNT(CASE WHEN :recent THEN 1 END)",
            "early": "COUNT(:i) - COUNT(CASE WHEN :recent THEN 1 END)",
        }
        tests = {
            "new": ":late > 0 AND :early = 0",
            "gone": ":late = 0 AND :early > 0",
            "kept": ":late > 0 AND :early > 0",
        }
        text = f"COUNT(CASE WHEN {tests[self.figure]} THEN 1 END)"
        found = entities.inventory(self.column, text, measures, recent=recent, i=entities.instant(self.time))
        return entities.sql("CAST(COALESCE(:n, 0) AS BIGINT)", n=found)


class BasketsWithBoth(CategoryOperation, frozen=True, tag="baskets_with_both"):
    """Baskets of the entity (orders, visits, sessions by their id) that hold a row of one kind and a row of another."""

    column: CategoryColumn
    first: Annotated[Where, Meta(min_length=1)]
    second: Annotated[Where, Meta(min_length=1)]
    figure: Literal["count", "share", "lift"] = "count"

    gives = "number"
    nulls = "a share where no row has a basket, a lift where either kind is in no basket; a count never"
    formula = "baskets with both kinds; that over all baskets; N · n_both / (n_first · n_second)"
    source = "support and lift of association rules (Agrawal 1993)"
    example = (
        '{"column": "country", "first": [{"column": "items", "comparison": "gt", "values": [1]}], '
        '"second": [{"column": "returned", "comparison": "eq", "values": [true]}]}'
    )

    def compile(self, entities: Entities) -> Expression:
        """Count the baskets by what they hold."""
        met = {"p": entities.condition(self.first), "q": entities.condition(self.second)}
        measures = {"a": "COUNT(CASE WHEN :p THEN 1 END)", "b": "COUNT(CASE WHEN :q THEN 1 END)"}
        both = "COUNT(CASE WHEN :a > 0 AND :b > 0 THEN 1 END)"
        held = "(COUNT(CASE WHEN :a > 0 THEN 1 END) * COUNT(CASE WHEN :b > 0 THEN 1 END))"
        texts = {"count": both, "share": f"{both} / COUNT(*)", "lift": f"COUNT(*) * {both} / NULLIF({held}, 0)"}
        found = entities.inventory(self.column, texts[self.figure], measures, p=met["p"], q=met["q"])
        return entities.sql("CAST(COALESCE(:n, 0) AS DOUBLE)", n=found) if self.figure == "count" else found


class BasketStatistic(CategoryOperation, frozen=True, tag="basket_statistic"):
    """A statistic of the entity's baskets (orders, visits, days by their id): rows or sum of each, then over them."""

    column: CategoryColumn
    function: Literal["mean", "minimum", "maximum", "standard_deviation", "median"]
    weight: NumberColumn | None = None
    where: Where = ()

    gives = "number"
    nulls = f"{NO_ROW} (a deviation needs two baskets)"
    formula = "the statistic over baskets of their rows, or of the sum of the column (0 where none is known)"
    source = "two-level aggregation"
    example = '{"column": "country", "function": "mean", "weight": "amount"}'

    def compile(self, entities: Entities) -> Expression:
        """Aggregate the baskets."""
        text = {
            "mean": "AVG(:n)", "minimum": "MIN(:n)", "maximum": "MAX(:n)", "standard_deviation": "STDDEV_SAMP(:n)",
            "median": "MEDIAN(:n)",
        }[self.function]  # fmt: skip
        n, weight = "CAST(COUNT(*) AS DOUBLE)", entities.sql("0")
        if self.weight is not None:
            n, weight = "COALESCE(SUM(:w), 0)", entities.number(self.weight)
        return entities.inventory(self.column, text, {"n": n}, self.where, w=weight)


class SumShare(CategoryOperation, frozen=True, tag="sum_share"):
    """Share of a numeric column's sum within the entity that the rows meeting the predicates have."""

    column: NumberColumn
    where: Annotated[Where, Meta(min_length=1)]
    last_days: Days | None = None

    cost = "scan"
    gives = "number"
    nulls = "where the sum over all rows is 0, or no row has a known value"
    formula = "Σ x over the rows that meet the predicates / Σ x"
    source = "the ratio of sums"
    example = '{"column": "amount", "where": [{"column": "country", "comparison": "eq", "values": ["NL"]}]}'

    def compile(self, entities: Entities) -> Expression:
        """Divide the sums."""
        x = entities.number(self.column)
        part = entities.rows("SUM(:x)", self.where, self.last_days, x=x)
        whole = entities.rows("SUM(:x)", (), self.last_days, x=x)
        return share(entities, entities.sql("COALESCE(:part, 0)", part=part), whole)


class CompareConditions(CategoryOperation, frozen=True, tag="compare_conditions"):
    """A count or statistic of the entity's rows of one kind beside that of its rows of another kind."""

    function: Literal["count", "sum", "mean", "minimum", "maximum"]
    numerator: Annotated[Where, Meta(min_length=1)]
    denominator: Where = ()
    column: NumberColumn | None = None
    comparison: Literal["difference", "ratio"] = "ratio"
    last_days: Days | None = None

    cost = "scan"
    gives = "number"
    nulls = "but for counts and sums, where either kind has no known value; for a ratio, where the denominator's is 0"
    formula = "f(rows that meet the numerator) less, or over, f(rows that meet the denominator); no sum is 0"
    source = "conditional aggregation"
    example = (
        '{"function": "mean", "column": "amount", '
        '"numerator": [{"column": "returned", "comparison": "eq", "values": [true]}]}'
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        """A statistic of no column."""
        if self.function != "count" and self.column is None:
            yield "column", "every statistic but the count is of a column: name it"

    def compile(self, entities: Entities) -> Expression:
        """Aggregate both kinds."""
        top, bottom = (self._of(entities, where) for where in (self.numerator, self.denominator))
        text = ":a - :b" if self.comparison == "difference" else ":a / NULLIF(:b, 0)"
        return entities.sql(f"CAST({text} AS DOUBLE)", a=top, b=bottom)

    def _of(self, entities: Entities, where: Where) -> Expression:
        if self.function == "count":
            return entities.rows("COUNT(*)", where, self.last_days)
        text = STATISTICS[self.function]
        value = entities.rows(text, where, self.last_days, x=entities.number(self.column or ""))
        return entities.sql("COALESCE(:v, 0)", v=value) if self.function == "sum" else value

"""A row beside the earlier rows of its entity, or of the whole dataset: lags, changes, windows, counters.

No row sees its future.

Earlier rows are those before in (time, row id), or, where the window is a span of time, those at an earlier instant.
A row without entity or time has no history, and belongs to that of no other row.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.expression import DAY, Expression, Part, Rows
from service.features.operations.groups import statistic
from service.features.operations.operation import RowOperation
from service.features.operations.parameters import (
    CategoryColumn,
    Days,
    EntityColumn,
    NumberColumn,
    PublishedColumn,
    TimeColumn,
    Where,
)

SeriesColumn = EntityColumn | None
"""The entity whose rows are one series; null where all rows of the dataset are one."""
WindowFunction = Literal["sum", "mean", "minimum", "maximum", "standard_deviation", "median"]
NO_PREVIOUS = "where the entity has no earlier row, or the row has no entity or time"
NO_HISTORY = "where the row has no entity or time"
LAG = "SQL:2003's LAG over the entity's rows in order of time, then row id"
RANGE = (
    "SQL:2003's RANGE window, from `days` before the row's instant up to the instant, which is in it, with all rows of "
    "that instant, where `include_row`"
)


class HistoryOperation(RowOperation, frozen=True):
    """Base of what looks back from a row over its entity's rows."""

    sees = "history"
    fits = "nothing"
    cost = "sort"
    publishes_values = False
    follows_calendar = False


class PreviousValue(HistoryOperation, frozen=True, tag="previous_value"):
    """The entity's value `steps` rows earlier."""

    column: PublishedColumn
    entity: SeriesColumn
    time: TimeColumn
    steps: Annotated[int, Meta(ge=1, le=1000)] = 1

    gives = None
    publishes_values = True
    nulls = "where the entity has fewer than `steps` earlier rows, that row's value is null, or entity or time is"
    formula = "x of the row `steps` before"
    source = LAG
    example = '{"column": "amount", "entity": "user", "time": "at", "steps": 1}'

    def compile(self, rows: Rows) -> Expression:
        """Look `steps` rows back."""
        text = "LAG(:x, :steps) OVER earlier"
        return rows.history(text, self.entity, self.time, x=rows.raw(self.column), steps=self.steps)


class ChangeFromPrevious(HistoryOperation, frozen=True, tag="change_from_previous"):
    """The row's value less the entity's previous one."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn

    gives = "number"
    nulls = f"{NO_PREVIOUS}; where either value is null"
    formula = "x - x of the previous row"
    source = LAG
    example = '{"column": "amount", "entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract the previous value."""
        return rows.history(":x - LAG(:x) OVER earlier", self.entity, self.time, x=rows.number(self.column))


class PercentChange(HistoryOperation, frozen=True, tag="percent_change"):
    """Change since the entity's previous row as a share of the previous value; null where that is 0."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn

    gives = "number"
    nulls = f"{NO_PREVIOUS}; where either value is null, or the previous one is 0"
    formula = "(x - x of the previous row) / x of the previous row"
    source = "pandas' `pct_change`, with null in place of an infinity"
    example = '{"column": "amount", "entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Divide the change by the previous value."""
        text = "(:x - LAG(:x) OVER earlier) / NULLIF(LAG(:x) OVER earlier, 0)"
        return rows.history(text, self.entity, self.time, x=rows.number(self.column))


class DaysSincePrevious(HistoryOperation, frozen=True, tag="days_since_previous"):
    """Days since the entity's previous row."""

    entity: SeriesColumn
    time: TimeColumn

    gives = "number"
    nulls = NO_PREVIOUS
    formula = "(time - time of the previous row) / 24 h"
    source = LAG
    example = '{"entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract the previous instant."""
        text = "(:instant - LAG(:instant) OVER earlier) / :day"
        return rows.history(text, self.entity, self.time, day=DAY)


class RollingStatistic(HistoryOperation, frozen=True, tag="rolling_statistic"):
    """A statistic over the entity's rows in the `days` before this row, with or without those at its own instant."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn
    days: Days
    function: WindowFunction
    include_row: bool = False

    gives = "number"
    nulls = f"{NO_HISTORY}; but for a sum, where the window has no known value (a deviation needs two)"
    formula = (
        "the statistic over the window's known values; a sum over none is 0; both ends are in it where the row is: of "
        "daily rows a week has `days` 6"
    )
    source = RANGE
    example = '{"column": "amount", "entity": "user", "time": "at", "days": 30, "function": "mean"}'

    def compile(self, rows: Rows) -> Expression:
        """Aggregate the window."""
        text, x = statistic(self.function, " OVER earlier"), rows.number(self.column)
        return rows.recent(text, self.entity, self.time, self.days, include_row=self.include_row, x=x)


class RollingCount(HistoryOperation, frozen=True, tag="rolling_count"):
    """The entity's rows in the `days` before this row, with or without those at its own instant."""

    entity: SeriesColumn
    time: TimeColumn
    days: Days
    where: Where = ()
    include_row: bool = False

    gives = "integer"
    nulls = NO_HISTORY
    formula = "number of rows of the window that meet the predicates"
    source = RANGE
    example = '{"entity": "user", "time": "at", "days": 30}'

    def compile(self, rows: Rows) -> Expression:
        """Count the window."""
        text = "COUNT(CASE WHEN :met THEN 1 END) OVER earlier" if self.where else "COUNT(*) OVER earlier"
        met = rows.condition(self.where) if self.where else 1
        return rows.recent(text, self.entity, self.time, self.days, include_row=self.include_row, met=met)


class CumulativeCount(HistoryOperation, frozen=True, tag="cumulative_count"):
    """The entity's rows before this one."""

    entity: SeriesColumn
    time: TimeColumn

    gives = "integer"
    follows_calendar = True
    nulls = NO_HISTORY
    formula = "position of the row among its entity's rows, from 0"
    source = "SQL:2003's ROW_NUMBER over the entity's rows in order of time, then row id, less 1"
    example = '{"entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Number the entity's rows."""
        return rows.history("ROW_NUMBER() OVER earlier - 1", self.entity, self.time)


class LogReturn(HistoryOperation, frozen=True, tag="log_return"):
    """Logarithm of the row's value over the previous one; null where either is not positive."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn

    gives = "number"
    nulls = f"{NO_PREVIOUS}; where either value is null, 0 or negative"
    formula = "ln x - ln x of the previous row"
    source = "the continuously compounded return"
    example = '{"column": "amount", "entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract the logarithms: the quotient may be too small for a number."""
        text = "CASE WHEN :x > 0 AND LAG(:x) OVER earlier > 0 THEN LN(:x) - LN(LAG(:x) OVER earlier) END"
        return rows.history(text, self.entity, self.time, x=rows.number(self.column))


class CumulativeStatistic(HistoryOperation, frozen=True, tag="cumulative_statistic"):
    """A statistic over all earlier rows of the entity, with or without the row itself."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn
    function: WindowFunction
    include_row: bool = False

    gives = "number"
    follows_calendar = True
    nulls = f"{NO_HISTORY}; but for a sum, where no row that counts has a known value (a deviation needs two)"
    formula = "the statistic over the known values up to the row; a sum over none is 0"
    source = "pandas' `expanding`, shifted by a row unless the row is included"
    example = '{"column": "amount", "entity": "user", "time": "at", "function": "sum"}'

    def compile(self, rows: Rows) -> Expression:
        """Aggregate the rows so far."""
        window = " OVER so_far" if self.include_row else " OVER before"
        text = statistic(self.function, window)
        return rows.history(text, self.entity, self.time, x=rows.number(self.column))


class RollingRows(HistoryOperation, frozen=True, tag="rolling_rows"):
    """A statistic over the entity's last `rows` rows, with or without the row itself."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn
    rows: Annotated[int, Meta(ge=2, le=10_000)]
    function: WindowFunction
    include_row: bool = False

    gives = "number"
    nulls = f"{NO_HISTORY}; but for a sum, where the window has no known value (a deviation needs two)"
    formula = (
        "the statistic over the window's known values; the window is shorter at the beginning; a sum over none is 0"
    )
    source = "pandas' `rolling` with min_periods=1, shifted by a row unless the row is included"
    example = '{"column": "amount", "entity": "user", "time": "at", "rows": 3, "function": "mean"}'

    def compile(self, rows: Rows) -> Expression:
        """Aggregate the last rows."""
        window, steps = (" OVER last_so_far", self.rows - 1) if self.include_row else (" OVER last_before", self.rows)
        text = statistic(self.function, window)
        return rows.history(text, self.entity, self.time, x=rows.number(self.column), steps=steps)


class ExponentialMean(HistoryOperation, frozen=True, tag="exponential_mean"):
    """Exponentially weighted mean of the entity's earlier rows, with or without the row itself."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn
    half_life: Annotated[float, Meta(ge=0.1, le=10_000)]
    include_row: bool = False

    gives = "number"
    nulls = f"{NO_HISTORY}; where no row that counts has a known value"
    formula = (
        "Σ wᵏ x / Σ wᵏ over the known values, k rows back, w = 2^(-1 / half_life), k up to 100 half-lives at least"
    )
    source = "pandas' `ewm(halflife=…, adjust=True, ignore_na=False).mean()`"
    example = '{"column": "amount", "entity": "user", "time": "at", "half_life": 2}'

    def compile(self, rows: Rows) -> Expression:
        """Sum the values of the row's block of rows and of the block before, weighed from the block's beginning.

        The weights grow within a block, so that sums serve all its rows; blocks keep them within the range of a number.
        What they have in common falls out of the quotient.
        """
        reach = math.ceil(100 * self.half_life)
        place = rows.derived(rows.history("ROW_NUMBER() OVER earlier - 1", self.entity, self.time))
        block = rows.derived(rows.sql("CAST(FLOOR(:place / :reach) AS BIGINT)", place=place, reach=reach))
        weight = rows.sql(
            "CASE WHEN NOT :x IS NULL THEN POWER(2, (:place - :block * :reach) / :half_life) END",
            x=rows.number(self.column), place=place, block=block, reach=reach, half_life=self.half_life,
        )  # fmt: skip
        weight = rows.derived(weight)
        value = rows.sql(":x * :weight", x=rows.number(self.column), weight=weight)
        total, weights = (self._decayed(rows, one, place, block, reach) for one in (value, weight))
        return rows.sql(":total / NULLIF(:weights, 0)", total=total, weights=weights)

    def _decayed(self, rows: Rows, value: Expression, place: Expression, block: Expression, reach: int) -> Expression:
        """The sum of the block so far, and of the block before as much smaller as it is farther away."""
        who: dict[str, Part] = {} if self.entity is None else {"who": rows.raw(self.entity)}
        keys, end = "".join(f":{key}, " for key in who), "CURRENT ROW" if self.include_row else "1 PRECEDING"
        here = f"PARTITION BY {keys}:block ORDER BY :place ROWS BETWEEN UNBOUNDED PRECEDING AND {end}"
        before = f"{'PARTITION BY :who ' if who else ''}ORDER BY :block RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING"
        sums = f"COALESCE(SUM(:v) OVER ({here}), 0) + COALESCE(SUM(:v) OVER ({before}), 0) * :decay"
        decay = 0.5 ** (reach / self.half_life)
        text = f"CASE WHEN NOT :place IS NULL THEN {sums} END"
        return rows.sql(text, **who, v=value, place=place, block=block, decay=decay)


class Drawdown(HistoryOperation, frozen=True, tag="drawdown"):
    """How far the row's value lies below the entity's highest so far, as a share of that."""

    column: NumberColumn
    entity: SeriesColumn
    time: TimeColumn

    gives = "number"
    nulls = f"{NO_HISTORY}; where the value is null, or the highest so far is not positive"
    formula = "x / max(x so far) - 1"
    source = "the drawdown of a price series"
    example = '{"column": "amount", "entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Compare with the highest value so far."""
        text = "CASE WHEN MAX(:x) OVER so_far > 0 THEN :x / MAX(:x) OVER so_far - 1 END"
        return rows.history(text, self.entity, self.time, x=rows.number(self.column))


class Streak(HistoryOperation, frozen=True, tag="streak"):
    """How many of the entity's rows in a row, up to and with this one, meet the predicates."""

    entity: SeriesColumn
    time: TimeColumn
    where: Annotated[Where, Meta(min_length=1)]

    gives = "integer"
    nulls = NO_HISTORY
    formula = "rows since the last one that does not meet the predicates; 0 in such a row"
    source = "run lengths"
    example = (
        '{"entity": "user", "time": "at", "where": [{"column": "returned", "comparison": "eq", "values": [true]}]}'
    )

    def compile(self, rows: Rows) -> Expression:
        """Count the rows since the last break."""
        met = rows.sql("CASE WHEN :condition THEN 1 ELSE 0 END", condition=rows.condition(self.where))
        number = rows.derived(rows.history("ROW_NUMBER() OVER earlier", self.entity, self.time))
        broken = rows.sql("CASE WHEN :met = 0 THEN :number END", met=met, number=number)
        text = "CAST(:number - COALESCE(MAX(:broken) OVER so_far, 0) AS BIGINT)"
        return rows.history(text, self.entity, self.time, number=number, broken=broken)


class DaysSinceMatching(HistoryOperation, frozen=True, tag="days_since_matching"):
    """Days since the entity's last earlier row that meets the predicates."""

    entity: SeriesColumn
    time: TimeColumn
    where: Annotated[Where, Meta(min_length=1)]

    gives = "number"
    nulls = f"{NO_HISTORY}; where no earlier row meets the predicates"
    formula = "(time - time of that row) / 24 h"
    source = "elementary arithmetic on instants, to the microsecond"
    example = (
        '{"entity": "user", "time": "at", "where": [{"column": "returned", "comparison": "eq", "values": [true]}]}'
    )

    def compile(self, rows: Rows) -> Expression:
        """Subtract the instant of the last matching row."""
        text = "(:instant - MAX(CASE WHEN :met THEN :instant END) OVER before) / :day"
        return rows.history(text, self.entity, self.time, met=rows.condition(self.where), day=DAY)


class DaysSinceFirst(HistoryOperation, frozen=True, tag="days_since_first"):
    """Days since the entity's first row; 0 in the first."""

    entity: SeriesColumn
    time: TimeColumn

    gives = "number"
    follows_calendar = True
    nulls = NO_HISTORY
    formula = "(time - time of the first row) / 24 h"
    source = "elementary arithmetic on instants, to the microsecond"
    example = '{"entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Subtract the first instant."""
        return rows.history("(:instant - MIN(:instant) OVER so_far) / :day", self.entity, self.time, day=DAY)


class FirstOccurrence(HistoryOperation, frozen=True, tag="first_occurrence"):
    """1 where the entity has the row's category for the first time, else 0."""

    column: CategoryColumn
    entity: EntityColumn
    time: TimeColumn

    gives = "integer"
    nulls = f"{NO_HISTORY}; where the category is null"
    formula = "1 if no earlier row of the entity has the category, else 0"
    source = "novelty of a value"
    example = '{"column": "country", "entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Look whether it is the category's first row."""
        x = rows.raw(self.column)
        order = "PARTITION BY :who, :x, :instant IS NULL ORDER BY :instant, :row"
        text = f"CASE WHEN ROW_NUMBER() OVER ({order}) = 1 THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END"
        known = f"CASE WHEN NOT :x IS NULL THEN {text} END"
        return rows.history(known, self.entity, self.time, x=x, who=rows.raw(self.entity))


class CategoryChanged(HistoryOperation, frozen=True, tag="category_changed"):
    """1 where the row's category differs from the entity's previous one, else 0."""

    column: CategoryColumn
    entity: SeriesColumn
    time: TimeColumn

    gives = "integer"
    nulls = f"{NO_PREVIOUS}; where either category is null"
    formula = "1 if v ≠ v of the previous row, else 0"
    source = LAG
    example = '{"column": "country", "entity": "user", "time": "at"}'

    def compile(self, rows: Rows) -> Expression:
        """Compare with the previous category."""
        text = (
            "CASE WHEN :x <> LAG(:x) OVER earlier THEN CAST(1 AS BIGINT) "
            "WHEN :x = LAG(:x) OVER earlier THEN CAST(0 AS BIGINT) END"
        )
        return rows.history(text, self.entity, self.time, x=rows.raw(self.column))

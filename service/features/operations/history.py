"""A row beside the earlier rows of its entity: lags, changes, rolling windows, counters. No row sees its future.

Earlier rows are those before in (time, row id), or, where the window is a span of time, those at an earlier instant.
A row without entity or time has no history, and is in nobody's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from service.features.operations.expression import DAY, Expression, Rows
from service.features.operations.groups import statistic
from service.features.operations.operation import RowOperation
from service.features.operations.parameters import (
    Days,
    EntityColumn,
    NumberColumn,
    PublishedColumn,
    TimeColumn,
    Where,
)

NO_PREVIOUS = "where the entity has no earlier row, or the row has no entity or time"
NO_HISTORY = "where the row has no entity or time"
LAG = "SQL:2003's LAG over the entity's rows in order of time, then row id"
RANGE = "SQL:2003's RANGE window, from `days` before the row's instant up to, and without, the instant itself"


class HistoryOperation(RowOperation, frozen=True):
    """Base of what looks back from a row over its entity's rows."""

    sees = "history"
    cost = "sort"
    publishes_values = False
    follows_calendar = False


class PreviousValue(HistoryOperation, frozen=True, tag="previous_value"):
    """The entity's value `steps` rows earlier."""

    column: PublishedColumn
    entity: EntityColumn
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
    entity: EntityColumn
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
    entity: EntityColumn
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

    entity: EntityColumn
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
    """A statistic over the entity's rows in the `days` before this row, this row's own instant excluded."""

    column: NumberColumn
    entity: EntityColumn
    time: TimeColumn
    days: Days
    function: Literal["sum", "mean", "minimum", "maximum", "standard_deviation"]

    gives = "number"
    nulls = f"{NO_HISTORY}; but for a sum, where the window has no known value (a deviation needs two)"
    formula = "the statistic over the window's known values; a sum over none is 0"
    source = RANGE
    example = '{"column": "amount", "entity": "user", "time": "at", "days": 30, "function": "mean"}'

    def compile(self, rows: Rows) -> Expression:
        """Aggregate the window."""
        text = statistic(self.function, " OVER earlier")
        return rows.recent(text, self.entity, self.time, self.days, x=rows.number(self.column))


class RollingCount(HistoryOperation, frozen=True, tag="rolling_count"):
    """The entity's rows in the `days` before this row, this row's own instant excluded."""

    entity: EntityColumn
    time: TimeColumn
    days: Days
    where: Where = ()

    gives = "integer"
    nulls = NO_HISTORY
    formula = "number of rows of the window that meet the predicates"
    source = RANGE
    example = '{"entity": "user", "time": "at", "days": 30}'

    def compile(self, rows: Rows) -> Expression:
        """Count the window."""
        if not self.where:
            return rows.recent("COUNT(*) OVER earlier", self.entity, self.time, self.days)
        text = "COUNT(CASE WHEN :condition THEN 1 END) OVER earlier"
        return rows.recent(text, self.entity, self.time, self.days, condition=rows.condition(self.where))


class CumulativeCount(HistoryOperation, frozen=True, tag="cumulative_count"):
    """The entity's rows before this one."""

    entity: EntityColumn
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

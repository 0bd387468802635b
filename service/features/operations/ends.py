"""The first and the last value of an entity's history."""

from __future__ import annotations

from service.features.operations.expression import Entities, Expression
from service.features.operations.operation import EntityOperation
from service.features.operations.parameters import PublishedColumn, TimeColumn

NO_VALUE = "where no row of the entity has both a value and a time"
IN_TIME = "order statistics in (time, row id)"


class EndOperation(EntityOperation, frozen=True):
    """Base of what is one row's value."""

    cost = "sort"
    publishes_values = True


class LastValue(EndOperation, frozen=True, tag="last_value"):
    """The column's latest non-null value by time."""

    column: PublishedColumn
    time: TimeColumn

    gives = None
    nulls = NO_VALUE
    formula = "x at the greatest (time, row id) among the known values"
    source = IN_TIME
    example = '{"column": "amount", "time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Take the latest value."""
        return entities.last_value(self.column, self.time)


class FirstValue(EndOperation, frozen=True, tag="first_value"):
    """The column's earliest non-null value by time."""

    column: PublishedColumn
    time: TimeColumn

    gives = None
    nulls = NO_VALUE
    formula = "x at the least (time, row id) among the known values"
    source = IN_TIME
    example = '{"column": "amount", "time": "at"}'

    def compile(self, entities: Entities) -> Expression:
        """Take the earliest value."""
        return entities.first_value(self.column, self.time)

"""Say which rows features are computed from: related tables, a moment in time, observations, and what an entity is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from service.features.operations.parameters import Days, Where

CalendarUnit = Literal["hour", "day", "week", "weekday", "month", "quarter", "year"]
"""`hour` is the hour of the day, 0 … 23, and `weekday` Monday 1 … Sunday 7; the others are periods, by their start."""
Name = Annotated[str, Meta(min_length=1, max_length=256)]
DatasetName = Annotated[str, Meta(min_length=1, max_length=100)]

MAX_RELATED = 8
"""Tables beside the dataset in one request."""
MAX_KEY_COLUMNS = 5


class EntityKey(Struct, frozen=True, forbid_unknown_fields=True):
    """Define entities that no single column identifies.

    Several columns: each combination of their values. With `by`, the last column is a datetime, of which the period or
    the part of the calendar counts (a store's months). No column: all rows together.
    """

    columns: Annotated[tuple[Name, ...], Meta(max_length=MAX_KEY_COLUMNS)] = ()
    by: CalendarUnit | None = None

    @property
    def name(self) -> str:
        """Return the name that plans and operations call the entity by."""
        return ", ".join(self.parts) or "all_rows"

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of what identifies an entity: columns, and the period or part of the calendar."""
        return (
            self.columns
            if self.by is None or not self.columns
            else (*self.columns[:-1], f"{self.columns[-1]}_{self.by}")
        )

    @property
    def published(self) -> tuple[str, ...]:
        """Return the parts that are published in place of the entity, where those are several."""
        return self.parts if len(self.parts) > 1 else ()


class RelatedTable(Struct, frozen=True, forbid_unknown_fields=True):
    """Join another dataset of the caller's by equal values of one column on each side, or by time alone.

    With unique values of `on` each row looks up one row of it (a parent); with unique values of `to_on` its rows are
    aggregated (a child); with neither and a `time`, each row looks up the latest row that is no later (as of).
    """

    dataset_id: DatasetName
    on: Name | None = None
    """Its column; without one, each row looks up the latest of all rows by `time` (an interest rate, the weather)."""
    to: DatasetName | None = None
    """The table that it joins: the request's dataset, or one listed before it; by default the first with `to_on`."""
    to_on: Name | None = None
    """The column there; by default of the same name."""
    time: Name | None = None
    """Its column that says when each row became known."""
    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")] | None = None
    """What its columns begin with, before the dot; by default its dataset_id. A dataset that is joined twice (the
    airport of departure, that of arrival) needs two names."""
    days_before: Days | None = None
    """Of a table that is looked up as of a time: the row of so many days earlier (the rate three months ago)."""

    @property
    def other(self) -> str | None:
        """Return the column on the other side."""
        return self.on if self.to_on is None else self.to_on

    @property
    def called(self) -> str:
        """Return what the table is called in the request."""
        return self.dataset_id if self.name is None else self.name


class Observations(Struct, frozen=True, forbid_unknown_fields=True):
    """Compute every feature for each row of another dataset, from what was known of its entity before its time."""

    dataset_id: DatasetName
    entity: Name
    time: Name
    label: Name | None = None
    """Its column that is to be predicted."""


class Horizon(Struct, frozen=True, forbid_unknown_fields=True):
    """Make a label from what happens in the days after the moment, its very instant included."""

    days: Annotated[float, Meta(gt=0, le=36_525)]
    aggregate: Literal["any", "count", "sum"] = "any"
    column: Name | None = None
    """What is summed; of the other aggregates, what must not be null to be counted."""
    where: Where = ()
    name: Annotated[str, Meta(min_length=1, max_length=120, pattern=r"^[a-z][a-z0-9_]*$")] = "label"


class TableOptions(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What of this the client fixed."""

    entity: EntityKey | None = None
    related: Annotated[tuple[RelatedTable, ...], Meta(max_length=MAX_RELATED)] = ()
    as_of: datetime | None = None
    """Only what happened before is known."""
    observations: Observations | None = None
    horizon: Horizon | None = None

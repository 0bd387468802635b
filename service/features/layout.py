"""How the tables of a request join, and which rows a feature of several tables is computed from.

The columns of a related table are named `name.column`, by default `dataset_id.column`. Tables that are looked up
(parents, as-of tables) add columns to the rows of another; a child table has rows of its own, each of which sees the
columns of the row that it belongs to. A feature of the entity grain is computed from the rows of one such *level*: the
lowest whose columns it reads, so that no row is ever counted once for each of its children.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Literal

from msgspec import Struct

from service.features.model import Dataset, PlannedFeature, Profile
from service.features.operations import Operation, named_columns, source_columns

JoinKind = Literal["parent", "child", "as_of"]


class Join(Struct, frozen=True):
    """How a related table joins another."""

    kind: JoinKind
    to: int
    """The other table's place."""
    on: str | None
    other: str | None
    """The columns on this side and on the other; None where the time alone says which row is looked up."""
    time: str | None
    """The column of this table that says when a row became known."""
    days_before: float | None = None
    """How much earlier than each row's time the row is looked up."""


class Table(Struct, frozen=True):
    """A table of a request."""

    dataset: Dataset
    prefix: str
    """What its columns' names begin with in plans; empty for the request's own dataset."""
    join: Join | None = None

    @property
    def name(self) -> str:
        """Return what it is called in the request."""
        return self.prefix.removesuffix(".") or self.dataset.id

    @property
    def profile(self) -> Profile:
        """Return its dataset's profile."""
        return self.dataset.profile


class Layout(Struct, frozen=True, dict=True):
    """The request's dataset, first, and its related tables, each after the one that it joins."""

    tables: tuple[Table, ...]
    time: str | None
    """The time column of the dataset, where it was fixed or is the only one."""
    computed: tuple[tuple[str, int], ...] = ()
    """Computed columns, each with its level."""

    @cached_property
    def places(self) -> dict[str, tuple[int, str]]:
        """Return where each column that a plan may name lies: its table's place and its own name."""
        return {
            table.prefix + column.name: (place, column.name)
            for place, table in enumerate(self.tables)
            for column in table.profile.columns
            if table.join is None or column.name != table.join.on
        }

    def level(self, place: int) -> int:
        """Return the table whose rows hold the table's columns: itself, or the one that looks it up."""
        join = self.tables[place].join
        return place if join is None or join.kind == "child" else self.level(join.to)

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Return the tables that have rows of their own, the dataset first."""
        return tuple(place for place in range(len(self.tables)) if self.level(place) == place)

    def above(self, level: int) -> Iterator[int]:
        """List the level and those that its rows belong to, up to the dataset."""
        yield level
        join = self.tables[level].join
        if join is not None:
            yield from self.above(self.level(join.to))

    def levels_of(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the levels of the columns, each once, the lowest first."""
        known = {name: self.level(place) for name, (place, _) in self.places.items()} | dict(self.computed)
        found = {known[name] for name in names if name in known}
        return tuple(sorted(found, key=lambda level: -len([*self.above(level)])))

    def level_named(self, name: str) -> int | None:
        """Return the level of the table of that name; None when it is no level."""
        named = (place for place, table in enumerate(self.tables) if table.name == name)
        return next((place for place in named if self.level(place) == place), None)

    def level_of(self, feature: PlannedFeature, time: str | None) -> int:
        """Return the level whose rows a valid feature is computed from; of one that reads no column, the time's."""
        if feature.table is not None and (named := self.level_named(feature.table)) is not None:
            return named
        read = source_columns(feature.operation) or (() if time is None else (time,))
        return next(iter(self.levels_of(read)), 0)

    def time_of(self, level: int, planned: str | None = None) -> str | None:
        """Return the column that says when a row of the level happened; None when nothing says it."""
        table = self.tables[level]
        if table.join is not None and table.join.time is not None:
            return table.prefix + table.join.time
        if planned in self.places and self.level(self.places[planned][0]) == level:
            return planned
        if table.join is None:
            return self.time
        return self.time_of(self.level(table.join.to), planned)

    @cached_property
    def dated_children(self) -> dict[int, str]:
        """Return the child tables that say when their rows happened, each with its own column of that."""
        joins = {place: self.tables[place].join for place in self.levels}
        return {place: join.time for place, join in joins.items() if join is not None and join.time is not None}

    def is_value_of(self, operation: Operation, level: int) -> bool:
        """Whether the operation reads no column as a value, or one that differs from row to row of the level."""
        values = [name for place, name in named_columns(operation).items() if place not in {"entity", "time"}]
        return not values or level in self.levels_of(values)

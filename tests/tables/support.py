"""Requests of several tables, given as Python rows, compiled and run on DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
from msgspec import Struct

from service.engines.duckdb.open_tables import views
from service.engines.sql.compile_tables import compile_tables
from service.engines.sql.dialects import render
from service.features.faults import Fault
from service.features.model import (
    ColumnProfile,
    Dataset,
    ExtractionOptions,
    ExtractionRequest,
    FeaturePlan,
    PlannedFeature,
    Profile,
    ValueCount,
)
from service.features.operations import AnyOperation
from service.features.plan import validate
from service.features.resolve_tables import planning_options, resolve
from service.features.table_options import TableOptions
from service.features.tables import Tables
from tests.operations.engines import quoted
from tests.operations.golden import LOGICAL

Row = Sequence[Any]
TIME = datetime(2024, 1, 1, tzinfo=UTC)


class Given(Struct, frozen=True):
    """A table as it is uploaded."""

    name: str
    columns: Mapping[str, str]
    """Physical types by name."""
    rows: Sequence[Row]
    identifiers: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()

    @property
    def dataset(self) -> Dataset:
        """Return the dataset with its profile."""
        return Dataset(self.name, "ada", "text/csv", 1, f"{self.name}.parquet", self.profile, TIME)

    @property
    def profile(self) -> Profile:
        """Return the profile that reading it would give, as far as joins look at it."""
        columns = [self._column(place, name, physical) for place, (name, physical) in enumerate(self.columns.items())]
        return Profile(len(self.rows), tuple(columns), f"fingerprint of {self.name}")

    def _column(self, place: int, name: str, physical: str) -> ColumnProfile:
        values = [row[place] for row in self.rows if row[place] is not None]
        missing = 1 - len(values) / len(self.rows) if self.rows else 0.0
        counts = sorted({value: values.count(value) for value in values}.items(), key=lambda entry: -entry[1])
        logical = "identifier" if name in self.identifiers else LOGICAL[physical]
        top = () if name in self.personal else tuple(ValueCount(str(value), count) for value, count in counts[:3])
        return ColumnProfile(
            name, place, logical, physical, missing, len(counts), top_values=top, personal=name in self.personal
        )  # type: ignore[arg-type] - words of the table


class Case(Struct, frozen=True):
    """A request over tables, the first of which is its dataset."""

    given: Sequence[Given]
    options: TableOptions
    fixed: ExtractionOptions = ExtractionOptions()

    @property
    def request(self) -> ExtractionRequest:
        """Return the request."""
        return ExtractionRequest(self.given[0].name, "features", options=self.fixed, tables=self.options)

    @property
    def tables(self) -> Tables:
        """Return what it reads. Raises InvalidRequest."""
        main, *others = (one.dataset for one in self.given)
        return resolve(self.request, main, {one.id: one for one in others})

    def faults(self, plan: FeaturePlan) -> tuple[Fault, ...]:
        """Return what is wrong with the plan."""
        return validate(plan, self.tables.profile, planning_options(self.request, self.tables))

    def statement(self, plan: FeaturePlan) -> str:
        """Return what computes the plan, which has no faults."""
        assert self.faults(plan) == ()
        return render(compile_tables(plan, self.tables).statement(), "duckdb")

    def compute(self, plan: FeaturePlan) -> list[dict[str, Any]]:
        """Return the plan's rows."""
        return self.run(self.statement(plan))

    def run(self, statement: str) -> list[dict[str, Any]]:
        """Return the statement's rows."""
        with self.open() as connection:
            result = connection.execute(statement)
            names = [entry[0] for entry in result.description or ()]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def open(self) -> duckdb.DuckDBPyConnection:
        """Return a database that holds the tables."""
        connection = duckdb.connect(":memory:", config={"threads": 1})
        connection.execute("SET TimeZone = 'UTC'")
        by_name = {one.name: one for one in self.given}
        for view, dataset in zip(views(self.tables), self.tables.all, strict=True):
            load(connection, view, by_name[dataset.id])
        return connection


def load(connection: duckdb.DuckDBPyConnection, view: str, given: Given) -> None:
    """Store a table as reading it would."""
    typed = ", ".join(f"{quoted(name)} {physical}" for name, physical in given.columns.items())
    connection.execute(f"CREATE TABLE {view} ({typed}, __row_id BIGINT)")
    marks = ", ".join("?" * (len(given.columns) + 1))
    stored = [[*map(naive, row), place] for place, row in enumerate(given.rows)]
    if stored:
        connection.executemany(f"INSERT INTO {view} VALUES ({marks})", stored)  # noqa: S608 - question marks alone


def naive(cell: Any) -> Any:
    """Return the cell as it is stored: an instant without its zone."""
    return cell.astimezone(UTC).replace(tzinfo=None) if isinstance(cell, datetime) and cell.tzinfo else cell


def planned(*features: tuple[str, AnyOperation] | tuple[str, AnyOperation, str]) -> tuple[PlannedFeature, ...]:
    """Return features of these names and operations, and of rows of that dataset."""
    return tuple(PlannedFeature(one[0], "A feature.", one[1], one[2] if len(one) > 2 else None) for one in features)


def by_entity(
    entity: str, time: str | None, *features: tuple[str, AnyOperation] | tuple[str, AnyOperation, str]
) -> FeaturePlan:
    """Return a plan of the entity grain."""
    return FeaturePlan("entity", planned(*features), entity, time)

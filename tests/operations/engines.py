"""Engines that run compiled plans on rows given in Python; another engine is one more entry of `ENGINES`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import duckdb

from service.engines.sql.compile import CompiledPlan, compile_plan
from service.engines.sql.dialects import render
from service.features.model import ColumnProfile, FeaturePlan, Grain, PlannedFeature, Profile
from service.features.operations import AnyOperation
from tests.operations.golden import COLUMNS, LOGICAL, ROWS

Rows = Sequence[Sequence[Any]]
Computed = dict[str, list[Any]]
"""A result by column."""
Run = Callable[[CompiledPlan, Rows, dict[str, str]], Computed]
"""Computes a compiled plan on rows of columns with these physical types, ordered by key."""


def profile(columns: dict[str, str]) -> Profile:
    """A profile of columns of these physical types."""
    known = [
        ColumnProfile(name, place, LOGICAL[physical], physical, 0.0, 2)  # type: ignore[arg-type] - words of the table
        for place, (name, physical) in enumerate(columns.items())
    ]
    return Profile(len(ROWS), tuple(known), "fingerprint")


def plan(
    operations: Sequence[AnyOperation], grain: Grain, entity: str | None = "user", time: str | None = "at"
) -> FeaturePlan:
    """A plan of features f0, f1 and so on."""
    features = tuple(PlannedFeature(f"f{place}", "A feature.", one) for place, one in enumerate(operations))
    return FeaturePlan(grain, features, entity, time)


def quoted(name: str) -> str:
    """A column's name in DuckDB's SQL."""
    return '"' + name.replace('"', '""') + '"'


def table(rows: Rows, columns: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """A database whose table `dataset` holds the rows as ingest would store them."""
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    typed = ", ".join(f"{quoted(name)} {physical}" for name, physical in columns.items())
    connection.execute(f"CREATE TABLE dataset ({typed}, __row_id BIGINT)")
    naive = [[cell.replace(tzinfo=None) if isinstance(cell, datetime) else cell for cell in row] for row in rows]
    if naive:
        marks = ", ".join("?" * (len(columns) + 1))
        stored = [[*row, place] for place, row in enumerate(naive)]
        connection.executemany(f"INSERT INTO dataset VALUES ({marks})", stored)  # noqa: S608 - question marks alone
    return connection


def compute(compiled: CompiledPlan, connection: duckdb.DuckDBPyConnection) -> Computed:
    """The compiled plan's result by column."""
    return fetch(render(compiled.statement(), "duckdb"), connection)


def fetch(statement: str, connection: duckdb.DuckDBPyConnection) -> Computed:
    """The statement's result by column."""
    result = connection.execute(statement)
    names = [entry[0] for entry in result.description or ()]
    rows = result.fetchall()
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def run_duckdb(compiled: CompiledPlan, rows: Rows, columns: dict[str, str]) -> Computed:
    """DuckDB, in memory."""
    with table(rows, columns) as connection:
        return compute(compiled, connection)


ENGINES: dict[str, Run] = {"duckdb": run_duckdb}


def values(
    operation: AnyOperation, rows: Rows = ROWS, columns: dict[str, str] = COLUMNS, run: Run = run_duckdb, **keys: Any
) -> list[Any]:
    """One operation's values over the rows."""
    compiled = compile_plan(plan([operation], operation.grain, **keys), profile(columns))
    return run(compiled, rows, columns)["f0"]

"""The table of orders that the operations' examples read, and what the engine computes from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import duckdb

from service.engines.sql.compile import compile_plan
from service.engines.sql.dialects import render
from service.features.model import ColumnProfile, FeaturePlan, PlannedFeature, Profile
from service.features.operations.operation import Operation, OperationSpec, example_of, source_columns
from service.features.operations.parameters import LogicalType

EXAMPLE_COLUMNS: dict[str, tuple[LogicalType, str]] = {
    "user": ("identifier", "VARCHAR"),
    "at": ("datetime", "TIMESTAMP"),
    "amount": ("numeric", "DOUBLE"),
    "items": ("integer", "BIGINT"),
    "country": ("categorical", "VARCHAR"),
    "returned": ("boolean", "BOOLEAN"),
    "note": ("text", "VARCHAR"),
    "delivered_at": ("datetime", "TIMESTAMP"),
}
"""Logical and physical type by column."""
EXAMPLE_ROWS: tuple[tuple[Any, ...], ...] = (
    ("ann", "2024-02-28 22:30", 20.0, 1, "NL", False, "A gift for Ann", "2024-03-01 10:30"),
    ("ann", "2024-03-09 09:00", 50.0, 3, "DE", True, "https://www.shop.example/gifts/7", "2024-03-10 09:00"),
    ("ben", "2024-03-09 09:00", 80.0, 4, "DE", False, "ben@mail.example", "2024-03-15 18:00"),
    ("ben", "2024-03-31 23:00", None, 2, "NL", True, "Gift, gift and GIFT!", None),
    ("ann", "2024-04-01 09:00", 35.0, 2, "NL", False, None, "2024-04-02 12:00"),
    ("ann", "2024-04-20 12:00", 10.5, 1, "NL", True, "", "2024-04-21 08:00"),
)
"""Two customers; a month's end, a weekend, missing cells."""
ENTITY, TIME = "user", "at"


def example_tables(spec: OperationSpec) -> Iterator[str]:
    """What the example reads of the orders and what it gives, as lines of Markdown tables.

    At the row grain one table holds both; at the entity grain the second has a row for each entity.
    """
    operation = example_of(spec)
    shown = _read(operation)
    rows = [[_shown(row[list(EXAMPLE_COLUMNS).index(name)]) for name in shown] for row in EXAMPLE_ROWS]
    keys, values = _computed(operation)
    if spec.grain == "row":
        rows = [[*row, f"**{value}**"] for row, value in zip(rows, values, strict=True)]
        yield from _table([*shown, spec.kind], rows)
        return
    yield from _table(shown, rows)
    yield ""
    yield from _table([ENTITY, spec.kind], [[key, f"**{value}**"] for key, value in zip(keys, values, strict=True)])


def _read(operation: Operation) -> list[str]:
    """The columns that decide the values, in the table's order: those named, the entity, and the time of the as-of."""
    named = {*source_columns(operation)}
    if operation.grain == "entity":
        named |= {ENTITY} | ({TIME} if operation.reads_plan_time() else set())
    return [name for name in EXAMPLE_COLUMNS if name in named]


def _computed(operation: Operation) -> tuple[list[str], list[str]]:
    """The first key and the value of each row of the result."""
    columns = [
        ColumnProfile(name, place, logical, physical, 0.0, 2)
        for place, (name, (logical, physical)) in enumerate(EXAMPLE_COLUMNS.items())
    ]
    feature = PlannedFeature("value", "An example.", operation)
    plan = FeaturePlan(operation.grain, (feature,), ENTITY, TIME)
    compiled = compile_plan(plan, Profile(len(EXAMPLE_ROWS), tuple(columns), "example"))
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        _store(connection)
        found = connection.execute(render(compiled.statement(), "duckdb")).fetchall()
    return [_shown(row[0]) for row in found], [_shown(row[-1]) for row in found]


def _store(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the table `dataset` as ingest does."""
    typed = ", ".join(f'"{name}" {physical}' for name, (_, physical) in EXAMPLE_COLUMNS.items())
    connection.execute(f"CREATE TABLE dataset ({typed}, __row_id BIGINT)")
    marks = ", ".join("?" * (len(EXAMPLE_COLUMNS) + 1))
    rows = [[*row, place] for place, row in enumerate(EXAMPLE_ROWS)]
    connection.executemany(f"INSERT INTO dataset VALUES ({marks})", rows)  # noqa: S608 - question marks alone


def _shown(value: Any) -> str:
    """A cell: numbers to six digits; null and an empty text by name."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return str(value).replace("|", "\\|") or "(empty)"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)

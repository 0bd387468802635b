"""Share what all repositories need: execute statements in a transaction, and read lists by pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import CursorResult, Executable, Select, Table, literal, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from service.features.errors import DatasetNotFound, ExtractionNotFound
from service.features.model import Dataset, Extraction
from service.features.stores import Page
from service.store.cursors import Position, read_cursor, write_cursor
from service.store.failures import database_errors
from service.store.payload import storable

T = TypeVar("T", Dataset, Extraction)


class Repository:
    """Execute statements in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def execute(self, statement: Executable) -> CursorResult[Any]:
        """Execute one statement. Raises DependencyUnavailable."""
        with database_errors():
            return await self._connection.execute(statement)


def require_storable(missing: type[DatasetNotFound | ExtractionNotFound], *texts: str) -> None:
    """Raise `missing` for ids that PostgreSQL cannot store: no row can have them."""
    if not storable(*texts):
        raise missing("There is nothing of that id.")


def page(statement: Select[Any], table: Table, limit: int, cursor: str | None) -> Select[Any]:
    """Select one page and one more row, newest first, by keyset pagination on creation time and id."""
    order = (table.c.created_at, table.c.id)
    if cursor is not None:
        last = read_cursor(str(table.name), cursor)
        statement = statement.where(tuple_(*order) < tuple_(literal(last.created_at), literal(last.id)))
    return statement.order_by(*(column.desc() for column in order)).limit(limit + 1)


def paged(table: Table, rows: Sequence[T], limit: int) -> Page[T]:
    """Make the page of the rows that `page` selects; an extra row means that there is a next page."""
    items = tuple(rows[:limit])
    if len(rows) <= limit:
        return Page(items)
    return Page(items, write_cursor(Position(str(table.name), items[-1].created_at, items[-1].id)))

"""All SQL of the service. Every statement on an owner's data asks for the owner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from msgspec import structs
from sqlalchemy import Column, CursorResult, Executable, Select, Table, delete, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.features.errors import DatasetExists, DatasetNotFound, ExtractionNotFound
from service.features.identity import SCOPES, ApiKey
from service.features.model import Dataset, Extraction, Status
from service.features.ports import Page
from service.store.cursors import Position, read_cursor, write_cursor
from service.store.failures import database_errors
from service.store.payload import storable
from service.store.tables import TERMINAL, api_keys, datasets, extractions

T = TypeVar("T", Dataset, Extraction)


class _Repository:
    """Statements in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def _execute(self, statement: Executable) -> CursorResult[Any]:
        with database_errors():
            return await self._connection.execute(statement)


class SqlDatasets(_Repository):
    """Datasets of one owner at a time; implements `ports.Datasets`."""

    async def add(self, dataset: Dataset) -> None:
        """Raises DatasetExists when the owner already has that id; the transaction stays usable."""
        row = structs.asdict(dataset)
        added = await self._execute(insert(datasets).values(row).on_conflict_do_nothing().returning(datasets.c.id))
        if added.first() is None:
            raise DatasetExists(f"You already have a dataset {dataset.id!r}.")

    async def get(self, owner: str, dataset_id: str) -> Dataset:
        """Raises DatasetNotFound."""
        _require_storable(DatasetNotFound, owner, dataset_id)
        found = await self._execute(select(datasets).where(*_is(owner, dataset_id)))
        return _dataset(found)

    async def list(self, owner: str, *, limit: int, cursor: str | None = None) -> Page[Dataset]:
        """Newest first. Raises InvalidRequest for a cursor that this list did not give."""
        statement = _page(select(datasets).where(datasets.c.owner == owner), datasets, limit, cursor)
        found = await self._execute(statement)
        return _paged(datasets, [Dataset(**row) for row in found.mappings()], limit)

    async def delete(self, owner: str, dataset_id: str) -> Dataset:
        """Remove the row and give back what it was. Raises DatasetNotFound."""
        _require_storable(DatasetNotFound, owner, dataset_id)
        removed = await self._execute(delete(datasets).where(*_is(owner, dataset_id)).returning(datasets))
        return _dataset(removed)


class SqlExtractions(_Repository):
    """Extractions of one owner at a time; implements `ports.Extractions`."""

    async def add(self, extraction: Extraction) -> None:
        """Store a new extraction."""
        row = structs.asdict(extraction) | {"dataset_id": extraction.request.dataset_id}
        await self._execute(insert(extractions).values(row))

    async def save(self, extraction: Extraction) -> None:
        """Store how far the extraction has come.

        The first terminal status to arrive stays: a later one, a late report of progress, or a report on a row that
        is gone changes nothing and is no error, since whoever sends it cannot know.
        """
        changing = ("status", "progress", "stage", "started_at", "finished_at", "result", "failure")
        await self._execute(
            update(extractions)
            .where(
                extractions.c.id == extraction.id,
                extractions.c.owner == extraction.owner,
                extractions.c.status.not_in(TERMINAL),
            )
            .values({name: getattr(extraction, name) for name in changing})
        )

    async def get(self, owner: str, extraction_id: str) -> Extraction:
        """Raises ExtractionNotFound."""
        _require_storable(ExtractionNotFound, owner, extraction_id)
        found = await self._execute(
            select(*_EXTRACTION).where(extractions.c.owner == owner, extractions.c.id == extraction_id)
        )
        row = found.mappings().one_or_none()
        if row is None:
            raise ExtractionNotFound("You have no such extraction.")
        return Extraction(**row)

    async def list(
        self,
        owner: str,
        *,
        limit: int,
        cursor: str | None = None,
        status: Status | None = None,
        dataset_id: str | None = None,
    ) -> Page[Extraction]:
        """Newest first. Raises InvalidRequest for a cursor that this list did not give."""
        if not storable(dataset_id):
            return Page(())
        statement = select(*_EXTRACTION).where(extractions.c.owner == owner)
        if status is not None:
            statement = statement.where(extractions.c.status == status)
        if dataset_id is not None:
            statement = statement.where(extractions.c.dataset_id == dataset_id)
        found = await self._execute(_page(statement, extractions, limit, cursor))
        return _paged(extractions, [Extraction(**row) for row in found.mappings()], limit)


class SqlKeys(_Repository):
    """API keys; implements `ports.Keys`."""

    async def add(self, key: ApiKey) -> None:
        """Store a new key."""
        await self._execute(insert(api_keys).values(structs.asdict(key) | {"scopes": [*key.scopes]}))

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that public id, revoked and expired ones too."""
        if not storable(key_id):
            return None
        found = await self._execute(select(api_keys).where(api_keys.c.id == key_id))
        return next(iter(_keys(found)), None)

    async def list(self) -> tuple[ApiKey, ...]:
        """All keys, newest first."""
        found = await self._execute(select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc()))
        return _keys(found)

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke; False when there is no such key. Revoking twice keeps the first time."""
        if not storable(key_id):
            return False
        revoked_at = func.coalesce(api_keys.c.revoked_at, at)
        revoked = await self._execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=revoked_at))
        return revoked.rowcount > 0


_EXTRACTION: tuple[Column[Any], ...] = tuple(extractions.c[name] for name in Extraction.__struct_fields__)


def _is(owner: str, dataset_id: str) -> tuple[Any, Any]:
    return datasets.c.owner == owner, datasets.c.id == dataset_id


def _require_storable(missing: type[DatasetNotFound | ExtractionNotFound], *texts: str) -> None:
    if not storable(*texts):
        raise missing("There is nothing of that id.")


def _dataset(found: CursorResult[Any]) -> Dataset:
    row = found.mappings().one_or_none()
    if row is None:
        raise DatasetNotFound("You have no such dataset.")
    return Dataset(**row)


def _keys(found: CursorResult[Any]) -> tuple[ApiKey, ...]:
    """Keys without the scopes that a newer release may have given them and this one does not know."""
    return tuple(
        structs.replace(ApiKey(**row), scopes=tuple(scope for scope in row["scopes"] if scope in SCOPES))
        for row in found.mappings()
    )


def _page(statement: Select[Any], table: Table, limit: int, cursor: str | None) -> Select[Any]:
    """Keyset pagination: rows that share an instant are told apart by their id, so none is skipped or repeated."""
    order = (table.c.created_at, table.c.id)
    if cursor is not None:
        last = read_cursor(str(table.name), cursor)
        statement = statement.where(tuple_(*order) < tuple_(literal(last.created_at), literal(last.id)))
    return statement.order_by(*(column.desc() for column in order)).limit(limit + 1)


def _paged(table: Table, rows: Sequence[T], limit: int) -> Page[T]:
    """The page, of rows that were asked for one too many."""
    items = tuple(rows[:limit])
    if len(rows) <= limit:
        return Page(items)
    return Page(items, write_cursor(Position(str(table.name), items[-1].created_at, items[-1].id)))

"""Store datasets and API keys. Every statement on an owner's data filters by the owner."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from msgspec import structs
from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from service.features.errors import DatasetExists, DatasetNotFound
from service.features.identity import SCOPES, ApiKey
from service.features.model import Dataset, Extraction
from service.features.stores import Page
from service.store.pages import Repository, page, paged, require_storable
from service.store.payload import storable
from service.store.tables import api_keys, datasets

T = TypeVar("T", Dataset, Extraction)


class SqlDatasets(Repository):
    """Implement `stores.Datasets`."""

    async def add(self, dataset: Dataset) -> None:
        """Store a new dataset. Raises DatasetExists when the owner has that id; the transaction stays usable."""
        row = structs.asdict(dataset)
        added = await self.execute(insert(datasets).values(row).on_conflict_do_nothing().returning(datasets.c.id))
        if added.first() is None:
            raise DatasetExists(f"You already have a dataset {dataset.id!r}.")

    async def get(self, owner: str, dataset_id: str) -> Dataset:
        """Return the dataset. Raises DatasetNotFound."""
        require_storable(DatasetNotFound, owner, dataset_id)
        found = await self.execute(select(datasets).where(*_is(owner, dataset_id)))
        return _dataset(found)

    async def list(self, owner: str, *, limit: int, cursor: str | None = None) -> Page[Dataset]:
        """List the owner's datasets, newest first. Raises InvalidRequest for a foreign cursor."""
        statement = page(select(datasets).where(datasets.c.owner == owner), datasets, limit, cursor)
        found = await self.execute(statement)
        return paged(datasets, [Dataset(**row) for row in found.mappings()], limit)

    async def delete(self, owner: str, dataset_id: str) -> Dataset:
        """Delete the row and return it. Raises DatasetNotFound."""
        require_storable(DatasetNotFound, owner, dataset_id)
        removed = await self.execute(delete(datasets).where(*_is(owner, dataset_id)).returning(datasets))
        return _dataset(removed)


class SqlKeys(Repository):
    """Implement `stores.Keys`."""

    async def add(self, key: ApiKey) -> None:
        """Store a new key."""
        await self.execute(insert(api_keys).values(structs.asdict(key) | {"scopes": [*key.scopes]}))

    async def find(self, key_id: str) -> ApiKey | None:
        """Return the key with that public id, even a revoked or expired one; None when there is none."""
        if not storable(key_id):
            return None
        found = await self.execute(select(api_keys).where(api_keys.c.id == key_id))
        return next(iter(_keys(found)), None)

    async def list(self) -> tuple[ApiKey, ...]:
        """List all keys, newest first."""
        found = await self.execute(select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc()))
        return _keys(found)

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke the key; False when there is none. Revoking twice keeps the first time."""
        if not storable(key_id):
            return False
        revoked_at = func.coalesce(api_keys.c.revoked_at, at)
        revoked = await self.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=revoked_at))
        return revoked.rowcount > 0


def _is(owner: str, dataset_id: str) -> tuple[Any, Any]:
    return datasets.c.owner == owner, datasets.c.id == dataset_id


def _dataset(found: CursorResult[Any]) -> Dataset:
    row = found.mappings().one_or_none()
    if row is None:
        raise DatasetNotFound("You have no such dataset.")
    return Dataset(**row)


def _keys(found: CursorResult[Any]) -> tuple[ApiKey, ...]:
    """Read keys, leaving out scopes that only a newer release knows."""
    return tuple(
        structs.replace(ApiKey(**row), scopes=tuple(scope for scope in row["scopes"] if scope in SCOPES))
        for row in found.mappings()
    )

"""Read what principals keep. Triggers count it (revision 0007), so no statement of this release writes it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from service.features.model import StorageUse
from service.features.stores import OwnerUsage
from service.store.pages import Repository
from service.store.tables import datasets, storage_usage

_USE = (storage_usage.c.datasets, storage_usage.c.stored_bytes)


class SqlUsage(Repository):
    """Implement `stores.Usage`."""

    async def of(self, owner: str) -> StorageUse:
        """Return what the principal keeps."""
        found = await self.execute(select(*_USE).where(storage_usage.c.owner == owner))
        row = found.one_or_none()
        return StorageUse() if row is None else StorageUse(*row)

    async def oldest_datasets(self, owner: str, *, limit: int, without: str = "") -> Sequence[str]:
        """Return the ids of the oldest datasets, oldest first."""
        statement = (
            select(datasets.c.id)
            .where(datasets.c.owner == owner, datasets.c.id != without)
            .order_by(datasets.c.created_at, datasets.c.id)
            .limit(limit)
        )
        return (await self.execute(statement)).scalars().all()

    async def largest_datasets(self, owner: str, *, limit: int, without: str = "") -> Sequence[tuple[str, int]]:
        """Return the ids and stored bytes of the largest datasets, largest first."""
        stored = func.coalesce(datasets.c.stored_bytes, 0)
        statement = (
            select(datasets.c.id, stored)
            .where(datasets.c.owner == owner, datasets.c.id != without)
            .order_by(stored.desc(), datasets.c.id)
            .limit(limit)
        )
        return [(row[0], row[1]) for row in await self.execute(statement)]

    async def largest_owners(self, *, limit: int, owner: str | None = None) -> Sequence[OwnerUsage]:
        """Return the principals that keep the most bytes, or only the one named."""
        statement = select(storage_usage.c.owner, *_USE)
        if owner is not None:
            statement = statement.where(storage_usage.c.owner == owner)
        ordered = statement.order_by(storage_usage.c.stored_bytes.desc(), storage_usage.c.owner).limit(limit)
        return [OwnerUsage(row[0], StorageUse(row[1], row[2])) for row in await self.execute(ordered)]

"""Limit how many datasets each principal keeps, and how many bytes its datasets and feature tables take together.

An upload is checked before its body is read, by what is known then, and again in the transaction that registers it, by
the bytes that its typed Parquet and its original take. An extraction is refused only while nothing is left: how large
its feature table will be is not known before, so a table may pass the limit by its own size.
"""

from __future__ import annotations

from service.features.errors import QuotaExceeded
from service.features.model import Dataset, FieldError, StorageLimits, StorageUse
from service.features.stores import Store, UnitOfWork

NAMED = 3
"""Datasets that a refusal names as worth deleting."""


class StorageQuotas:
    """Apply the limits to uploads and extractions."""

    def __init__(self, limits: StorageLimits, *, store: Store, retention_days: int = 0) -> None:
        """Refusals say after how many days ended extractions are deleted (0: never)."""
        self.limits = limits
        self._store = store
        self._retention_days = retention_days

    async def use_of(self, owner: str) -> StorageUse:
        """Return what the principal keeps now. Raises DependencyUnavailable."""
        async with self._store.begin() as work:
            return await work.usage.of(owner)

    async def require_room(
        self, work: UnitOfWork, owner: str, announced_bytes: int, *, replaced: Dataset | None = None
    ) -> None:
        """Refuse an upload of that length (0: not known), or the next version of a dataset, before it is read.

        Raises QuotaExceeded.
        """
        use, more = await work.usage.of(owner), StorageUse(int(replaced is None), max(announced_bytes, 1))
        await self._require(work, owner, use, more, freed=_bytes(replaced))

    async def require_kept(self, work: UnitOfWork, dataset: Dataset, replaced: Dataset | None = None) -> None:
        """Refuse a dataset that this transaction has added, when its owner keeps too much with it.

        Adding it locked the owner's usage, so uploads that end together are counted one after the other. The version
        that it replaced is taken for deleted already: others that were replaced before are not. Raises QuotaExceeded,
        which rolls the transaction back.
        """
        added, total = StorageUse(int(replaced is None), _bytes(dataset)), await work.usage.of(dataset.owner)
        before = StorageUse(total.datasets - added.datasets, total.stored_bytes - added.stored_bytes)
        await self._require(work, dataset.owner, before, added, without=dataset.id, freed=_bytes(replaced))

    async def require_space(self, work: UnitOfWork, owner: str) -> None:
        """Refuse an extraction while no byte is left for its feature table. Raises QuotaExceeded."""
        if self.limits.stored_bytes:
            await self._require(work, owner, await work.usage.of(owner), StorageUse(0, 1))

    async def _require(
        self, work: UnitOfWork, owner: str, used: StorageUse, more: StorageUse, *, without: str = "", freed: int = 0
    ) -> None:
        limits = self.limits
        if limits.datasets and more.datasets and used.datasets + more.datasets > limits.datasets:
            raise await self._too_many(work, owner, used, without)
        if limits.stored_bytes and used.stored_bytes - freed + more.stored_bytes > limits.stored_bytes:
            raise await self._too_large(work, owner, used, more, without)

    async def _too_many(self, work: UnitOfWork, owner: str, used: StorageUse, without: str) -> QuotaExceeded:
        oldest = await work.usage.oldest_datasets(owner, limit=NAMED, without=without)
        return QuotaExceeded(
            f"You keep {used.datasets:,} of the {self.limits.datasets:,} datasets that you may keep. Delete some "
            f"(DELETE /api/v1/datasets/{{dataset_id}}); the oldest are: {', '.join(oldest)}.",
            quota="datasets",
            limits=self.limits,
            used=used,
            errors=[FieldError("datasets", f"limit {self.limits.datasets}, used {used.datasets}")],
        )

    async def _too_large(
        self, work: UnitOfWork, owner: str, used: StorageUse, more: StorageUse, without: str
    ) -> QuotaExceeded:
        largest = await work.usage.largest_datasets(owner, limit=NAMED, without=without)
        limit, needed = self.limits.stored_bytes, more.stored_bytes
        return QuotaExceeded(
            f"Your datasets and feature tables take {used.stored_bytes:,} of the {limit:,} bytes that they may take. "
            f"{self._what_to_delete([f'{name} ({size:,} bytes)' for name, size in largest])}",
            quota="stored_bytes",
            limits=self.limits,
            used=used,
            errors=[FieldError("stored_bytes", f"limit {limit}, used {used.stored_bytes}, needed {needed} or more")],
        )

    def _what_to_delete(self, largest: list[str]) -> str:
        days = self._retention_days
        wait = f", or wait: an extraction is deleted {days} days after its end" if days else ""
        names = f"; the largest datasets are: {', '.join(largest)}" if largest else ""
        return (
            "Delete datasets (DELETE /api/v1/datasets/{dataset_id}) or extractions "
            f"(DELETE /api/v1/extraction/{{extraction_id}}){wait}{names}."
        )


def _bytes(dataset: Dataset | None) -> int:
    return 0 if dataset is None else dataset.stored_bytes or 0

"""Upload and delete datasets."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from service.features.errors import DatasetExists, DatasetNotFound, InvalidRequest
from service.features.model import Dataset, FieldError, MediaType, Profile
from service.features.ports import Artifacts, Clock, Reader
from service.features.quotas import StorageQuotas
from service.features.stores import Store, UnitOfWork

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Ids of datasets and extractions: characters that are safe in a path, a file name and a log line."""
MAX_ID_LENGTH = 100
_ID = re.compile(ID_PATTERN)

WhileWanted = Callable[[Coroutine[Any, Any, Profile]], Awaitable[Profile]]
"""Runs the reading of a file, which takes long, for as long as somebody waits for it."""


async def run_to_end(reading: Coroutine[Any, Any, Profile]) -> Profile:
    """Read the file to its end."""
    return await reading


class UploadDataset:
    """Store an upload, read it into typed Parquet, and register it with its profile."""

    def __init__(
        self,
        *,
        store: Store,
        artifacts: Artifacts,
        reader: Reader,
        clock: Clock,
        new_id: Callable[[], str],
        max_bytes: int,
        quotas: StorageQuotas,
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._reader = reader
        self._clock = clock
        self._new_id = new_id
        self._max_bytes = max_bytes
        self._quotas = quotas

    async def __call__(
        self,
        owner: str,
        dataset_id: str,
        media_type: MediaType,
        chunks: AsyncIterator[bytes],
        *,
        announced_bytes: int = 0,
        while_wanted: WhileWanted = run_to_end,
    ) -> Dataset:
        """Upload a dataset from a stream, which is never held in memory as a whole; `announced_bytes` is its length.

        The file is read within `while_wanted`, which may cancel that and raise an error of its own.
        Raises InvalidRequest for an invalid id, DatasetExists and QuotaExceeded (before reading the stream, and if
        other uploads finished first), PayloadTooLarge and DatasetUnreadable; after any of them nothing is left behind.
        """
        if len(dataset_id) > MAX_ID_LENGTH or not _ID.fullmatch(dataset_id):
            fault = FieldError("dataset_id", "takes 1 to 100 of A-Z a-z 0-9 . _ - and starts with a letter or digit")
            raise InvalidRequest("The dataset_id cannot be used.", errors=[fault])
        async with self._store.begin() as work:
            await _require_free(work, owner, dataset_id)
            await self._quotas.require_room(work, owner, announced_bytes)
        upload = self._new_id()
        source, target = f"uploads/{upload}", f"datasets/{upload}.parquet"
        try:
            size = await self._artifacts.put_stream(source, chunks, limit=self._max_bytes)
            profile = await while_wanted(self._reader.ingest(source, media_type, target))
            stored = await self._artifacts.size(target)
            dataset = Dataset(dataset_id, owner, media_type, size, target, profile, self._clock.now(), stored)
            async with self._store.begin() as work:
                await work.datasets.add(dataset)
                await self._quotas.require_kept(work, dataset)
        except BaseException:
            await self._artifacts.delete(target)
            raise
        finally:
            await self._artifacts.delete(source)
        return dataset

    async def remove(self, owner: str, dataset_id: str) -> None:
        """Delete the dataset and its file. Raises DatasetNotFound."""
        async with self._store.begin() as work:
            dataset = await work.datasets.delete(owner, dataset_id)
        await self._artifacts.delete(dataset.artifact_key)


async def _require_free(work: UnitOfWork, owner: str, dataset_id: str) -> None:
    try:
        await work.datasets.get(owner, dataset_id)
    except DatasetNotFound:
        return
    raise DatasetExists(
        f"You already have a dataset {dataset_id!r}. Choose another dataset_id, or delete that one first."
    )

"""Upload datasets, read their originals anew, and delete them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from msgspec import structs

from service.features.errors import (
    DatasetChanged,
    DatasetExists,
    DatasetNotFound,
    FeatureAgentError,
    InvalidRequest,
    OriginalMissing,
    QuotaExceeded,
)
from service.features.model import (
    NO_OVERRIDES,
    Dataset,
    FieldError,
    MediaType,
    Profile,
    ReadOptions,
)
from service.features.overrides import patched
from service.features.ports import Artifacts, Clock, Reader
from service.features.quotas import StorageQuotas
from service.features.stores import Store, UnitOfWork

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Ids of datasets and extractions: characters that are safe in a path, a file name and a log line."""
MAX_ID_LENGTH = 100
_ID = re.compile(ID_PATTERN)

WhileWanted = Callable[[Coroutine[Any, Any, Profile]], Awaitable[Profile]]
"""Runs the reading of a file, which takes long, for as long as somebody waits for it."""
Stored = tuple[Dataset, Dataset | None]
"""A version that was stored, and the one that it replaced."""


async def run_to_end(reading: Coroutine[Any, Any, Profile]) -> Profile:
    """Read the file to its end."""
    return await reading


class UploadDataset:
    """Store an upload, read it into typed Parquet, and register it with its profile as a version of a dataset.

    The uploaded bytes are kept, so that they can be read anew with other options. A version that is replaced stays
    until the housekeeping deletes it (`extractions/retention.py`).
    """

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
        overrides: ReadOptions = NO_OVERRIDES,
        replace: bool = False,
        announced_bytes: int = 0,
        while_wanted: WhileWanted = run_to_end,
    ) -> Dataset:
        """Upload a dataset from a stream, which is never held in memory as a whole; `announced_bytes` is its length.

        With `replace` it becomes the next version of a dataset that there is; of two at once, both do, one after the
        other. The bytes and overrides of the present version again make no new version. The file is read within
        `while_wanted`, which may cancel that and raise an error of its own. Raises InvalidRequest for an invalid id and
        for overrides that do not fit, DatasetExists and QuotaExceeded (before reading the stream, and if other uploads
        finished first), PayloadTooLarge and DatasetUnreadable; after any of them everything is as it was.
        """
        _require_id(dataset_id)
        present = await self._admit(owner, dataset_id, announced_bytes, replace=replace)
        upload, hashed = self._new_id(), _Hashed(chunks)
        original, target = f"originals/{upload}", f"versions/{upload}.parquet"
        async with self._discarding(original, target):
            size = await self._artifacts.put_stream(original, hashed, limit=self._max_bytes)
            if present is not None and _is_same(present, hashed.digest, media_type, overrides):
                await self._discard(original)
                return present
            profile = await while_wanted(self._reader.ingest(original, media_type, target, overrides=overrides))
            stored = size + await self._artifacts.size(target)
        now = self._clock.now()
        dataset = Dataset(
            dataset_id, owner, media_type, size, target, profile, now, stored,
            updated_at=now, original_key=original, original_digest=hashed.digest, overrides=overrides,
        )  # fmt: skip
        return await self._register(dataset, _put if replace else _add, original, target)

    async def reread(
        self,
        owner: str,
        dataset_id: str,
        patch: dict[str, Any],
        *,
        while_wanted: WhileWanted = run_to_end,
    ) -> Dataset:
        """Change how the dataset's original is read (a merge patch of its overrides), and store the next version.

        A patch that changes nothing makes no version. Raises DatasetNotFound; OriginalMissing; DatasetChanged when
        another version was stored meanwhile; InvalidRequest and DatasetUnreadable for overrides that do not fit the
        file; QuotaExceeded; after any of them everything is as it was.
        """
        async with self._store.begin() as work:
            present = await work.datasets.get(owner, dataset_id)
            if present.original_key is None:
                raise _original_missing()
            overrides = patched(present.overrides, patch)
            if overrides == present.overrides:
                return present
            await self._quotas.require_room(work, owner, 0, replaced=present)
        target = f"versions/{self._new_id()}.parquet"
        async with self._discarding(target), self._original_of(present) as original:
            reading = self._reader.ingest(original, present.media_type, target, overrides=overrides)
            profile = await while_wanted(reading)
            stored = present.size_bytes + await self._artifacts.size(target)
        dataset = structs.replace(
            present, artifact_key=target, profile=profile, stored_bytes=stored, overrides=overrides,
            updated_at=self._clock.now(),
        )  # fmt: skip
        return await self._register(dataset, _replace_expected, target)

    async def remove(self, owner: str, dataset_id: str) -> None:
        """Delete the dataset with all of its versions and files. Raises DatasetNotFound."""
        async with self._store.begin() as work:
            versions = await work.datasets.delete(owner, dataset_id)
        for version in versions:
            for key in (version.artifact_key, version.original_key):
                if key is not None:
                    await self._artifacts.delete(key)

    async def _register(
        self, dataset: Dataset, store: Callable[[UnitOfWork, Dataset], Awaitable[Stored]], *files: str
    ) -> Dataset:
        """Store the version, if its owner may keep it. Its files are deleted with a refusal.

        When the database does not say whether it was stored, they stay: the sweep deletes them if no row has them.
        """
        try:
            async with self._store.begin() as work:
                stored, replaced = await store(work, dataset)
                await self._quotas.require_kept(work, stored, replaced)
        except (DatasetExists, DatasetChanged, DatasetNotFound, QuotaExceeded):
            await self._discard(*files)
            raise
        return stored

    async def _admit(self, owner: str, dataset_id: str, announced_bytes: int, *, replace: bool) -> Dataset | None:
        """Return the dataset that there is. Raises DatasetExists unless it is to be replaced, and QuotaExceeded."""
        async with self._store.begin() as work:
            present = await _present(work, owner, dataset_id)
            if present is not None and not replace:
                raise _exists(dataset_id)
            await self._quotas.require_room(work, owner, announced_bytes, replaced=present)
        return present

    @asynccontextmanager
    async def _original_of(self, present: Dataset) -> AsyncGenerator[str]:
        """Give the key of the original; when its file is not there, raise the error that says why."""
        try:
            yield present.original_key or ""
        except FileNotFoundError:
            async with self._store.begin() as work:
                current = await work.datasets.get(present.owner, present.id)
            if current.artifact_key != present.artifact_key:
                raise _changed() from None
            raise _original_missing() from None

    @asynccontextmanager
    async def _discarding(self, *keys: str) -> AsyncGenerator[None]:
        """Delete the files when the block fails."""
        try:
            yield
        except BaseException:
            await self._discard(*keys)
            raise

    async def _discard(self, *keys: str) -> None:
        """Delete files that no row has. What cannot be deleted now is left to the sweep."""
        for key in keys:
            try:
                await self._artifacts.delete(key)
            except (FeatureAgentError, OSError):
                return


class _Hashed:
    """Pass a stream on and hash it (SHA-256)."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> bytes:
        """The hash of what has passed so far."""
        return self._hash.digest()

    def __aiter__(self) -> _Hashed:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self._hash.update(chunk)
        return chunk


def _require_id(dataset_id: str) -> None:
    if len(dataset_id) > MAX_ID_LENGTH or not _ID.fullmatch(dataset_id):
        fault = FieldError("dataset_id", "takes 1 to 100 of A-Z a-z 0-9 . _ - and starts with a letter or digit")
        raise InvalidRequest("The dataset_id cannot be used.", errors=[fault])


async def _present(work: UnitOfWork, owner: str, dataset_id: str) -> Dataset | None:
    try:
        return await work.datasets.get(owner, dataset_id)
    except DatasetNotFound:
        return None


def _is_same(present: Dataset, digest: bytes, media_type: MediaType, overrides: ReadOptions) -> bool:
    """Whether an upload has the bytes of the present version and is read in the same way."""
    known = (present.original_digest, present.media_type, present.overrides)
    return present.original_key is not None and known == (digest, media_type, overrides)


async def _add(work: UnitOfWork, dataset: Dataset) -> Stored:
    try:
        await work.datasets.add(dataset)
    except DatasetExists:
        raise _exists(dataset.id) from None
    return dataset, None


async def _put(work: UnitOfWork, dataset: Dataset) -> Stored:
    """Store the next version of the dataset, or its first."""
    try:
        return await work.datasets.replace(dataset)
    except DatasetNotFound:
        pass
    try:
        return await _add(work, dataset)
    except DatasetExists:  # another upload has added it since
        return await work.datasets.replace(dataset)


async def _replace_expected(work: UnitOfWork, dataset: Dataset) -> Stored:
    """Store the version after the one that it was made from."""
    try:
        return await work.datasets.replace(dataset, expected=dataset.version)
    except DatasetChanged:
        raise _changed() from None


def _exists(dataset_id: str) -> DatasetExists:
    return DatasetExists(
        f"You already have a dataset {dataset_id!r}. Choose another dataset_id, or make this upload its next version "
        "with ?replace=true."
    )


def _changed() -> DatasetChanged:
    return DatasetChanged(
        "Another request has made a new version of the dataset meanwhile: look at it, and send again."
    )


def _original_missing() -> OriginalMissing:
    return OriginalMissing(
        "The uploaded file of the dataset is not kept, so it cannot be read anew: upload it again with ?replace=true."
    )

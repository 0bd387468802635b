"""Query and delete for the housekeeping: over all owners, in batches, in one process at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Table,
    Update,
    and_,
    cast,
    delete,
    func,
    select,
    text,
    tuple_,
    union,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.features.stores import Purged
from service.store.failures import database_errors
from service.store.idempotency import RETENTION
from service.store.tables import (
    TERMINAL,
    UNFINISHED,
    dataset_versions,
    datasets,
    extractions,
    idempotency_keys,
    storage_usage,
)

UPKEEP_LOCK = 0x66656174_6B656570
"""Key of the advisory lock of housekeeping, backup and restore: "feat" and "keep" in ASCII."""

ARTIFACT_KEY = func.jsonb_extract_path_text(extractions.c.result, "artifact_key")
"""The feature table of an extraction."""

FILES_OF_DATASETS = (
    datasets.c.artifact_key,
    datasets.c.original_key,
    dataset_versions.c.artifact_key,
    dataset_versions.c.original_key,
)
"""Every artifact that a dataset or an older version of one has."""


class SqlUpkeep:
    """Implement `stores.Upkeep`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[bool]:
        """Take the lock for the length of the block: True for one process, False at once for all others.

        The lock belongs to a connection, which is in no transaction meanwhile; it ends with its process.
        """
        with database_errors():
            async with self._engine.connect() as pooled:
                connection = await pooled.execution_options(isolation_level="AUTOCOMMIT")
                if not await connection.scalar(select(func.pg_try_advisory_lock(UPKEEP_LOCK))):
                    yield False
                    return
                try:
                    yield True
                finally:
                    await _unlock(connection)

    async def now(self) -> datetime:
        """Return the time of the database's clock, which all processes share."""
        with database_errors():
            async with self._engine.connect() as connection:
                found = await connection.scalar(select(func.clock_timestamp()))
        if not isinstance(found, datetime):
            raise TypeError(type(found).__name__)
        return found

    async def purge_extractions(self, before: datetime, *, limit: int) -> Purged:
        """Delete at most `limit` extractions that ended before that instant, oldest first."""
        old = (
            select(extractions.c.id)
            .where(extractions.c.status.in_(TERMINAL), extractions.c.finished_at < before)
            .order_by(extractions.c.finished_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        statement = delete(extractions).where(extractions.c.id.in_(old)).returning(ARTIFACT_KEY)
        with database_errors():
            async with self._engine.begin() as connection:
                keys = (await connection.scalars(statement)).all()
        return Purged(len(keys), tuple(key for key in keys if key is not None))

    async def purge_dataset_versions(self, before: datetime, *, limit: int) -> Purged:
        """Delete at most `limit` versions that were replaced before then and that no unfinished extraction pins."""
        key = (dataset_versions.c.owner, dataset_versions.c.id, dataset_versions.c.version)
        unused = (
            select(*key)
            .where(dataset_versions.c.replaced_at < before, ~_is_pinned())
            .order_by(dataset_versions.c.replaced_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        files = (dataset_versions.c.artifact_key, dataset_versions.c.original_key)
        statement = delete(dataset_versions).where(tuple_(*key).in_(unused)).returning(*files)
        with database_errors():
            async with self._engine.begin() as connection:
                rows = (await connection.execute(statement)).all()
        return Purged(len(rows), tuple(name for row in rows for name in row if name is not None))

    async def purge_idempotency_keys(self, now: datetime) -> int:
        """Delete the expired idempotency keys; returns how many."""
        with database_errors():
            async with self._engine.begin() as connection:
                gone = await connection.execute(
                    delete(idempotency_keys).where(idempotency_keys.c.created_at <= now - RETENTION)
                )
        return gone.rowcount

    async def record_sizes(self, sizes: Mapping[str, int]) -> int:
        """Record the bytes of those artifacts whose rows lack them; returns how many rows.

        Each owner has a transaction of its own, which locks its rows before its usage, as all others do.
        """
        count = 0
        with database_errors():
            async with self._engine.connect() as connection:
                owners = (await connection.scalars(_owners_without_sizes(sizes))).all()
            for owner in owners:
                async with self._engine.begin() as connection:
                    for table in (datasets, extractions):
                        count += (await connection.execute(_sizing(table, owner, sizes))).rowcount
        return count

    async def stored_bytes(self) -> float:
        """Return the bytes that all principals keep together, without leaving a span."""
        total = select(func.coalesce(func.sum(storage_usage.c.stored_bytes), 0))
        with suppress_instrumentation(), database_errors():
            async with self._engine.connect() as connection:
                return float((await connection.execute(total)).scalar_one())

    async def in_use(self, keys: Sequence[str]) -> frozenset[str]:
        """Return those of the artifacts that a row refers to."""
        if not keys:
            return frozenset()
        of_extractions = select(ARTIFACT_KEY).where(extractions.c.id.in_({_extraction_of(key) for key in keys}))
        of_datasets = (select(file).where(file.in_(keys)) for file in FILES_OF_DATASETS)
        with database_errors():
            async with self._engine.connect() as connection:
                found = (await connection.scalars(union_all(of_extractions, *of_datasets))).all()
        return frozenset(found).intersection(keys)


def _is_pinned() -> ColumnElement[bool]:
    """Match the older versions that an unfinished extraction has pinned."""
    pinned = func.jsonb_extract_path_text(extractions.c.request, "pins", dataset_versions.c.id, "artifact_key")
    return (
        select(extractions.c.id)
        .where(
            text(f"extractions.{UNFINISHED}"),
            extractions.c.owner == dataset_versions.c.owner,
            pinned == dataset_versions.c.artifact_key,
        )
        .correlate(dataset_versions)
        .exists()
    )


def _unsized(table: Table, sizes: Mapping[str, int]) -> ColumnElement[bool]:
    """Match the rows of these artifacts whose bytes are not known."""
    if table is datasets:
        return and_(datasets.c.stored_bytes.is_(None), datasets.c.artifact_key.in_(sizes))
    ids = {_extraction_of(key) for key in sizes}
    return and_(extractions.c.stored_bytes.is_(None), extractions.c.id.in_(ids), ARTIFACT_KEY.in_(sizes))


def _owners_without_sizes(sizes: Mapping[str, int]) -> CompoundSelect[Any]:
    return union(*(select(table.c.owner).where(_unsized(table, sizes)) for table in (datasets, extractions)))


def _sizing(table: Table, owner: str, sizes: Mapping[str, int]) -> Update:
    key = datasets.c.artifact_key if table is datasets else ARTIFACT_KEY
    found = func.jsonb_each_text(cast(sizes, JSONB)).table_valued("key", "value")
    return (
        update(table)
        .where(table.c.owner == owner, _unsized(table, sizes), key == found.c.key)
        .values(stored_bytes=cast(found.c.value, BigInteger))
    )


async def _unlock(connection: AsyncConnection) -> None:
    unlocked = False
    try:
        unlocked = await connection.scalar(select(func.pg_advisory_unlock(UPKEEP_LOCK)))
    finally:
        if not unlocked:
            await connection.invalidate()  # a connection returned to the pool would keep the lock


def _extraction_of(key: str) -> str:
    """Return the id in `features/{id}/{attempt}.parquet`, or in the first release's `features/{id}.parquet`."""
    parts = key.split("/")
    return parts[1].removesuffix(".parquet") if len(parts) > 1 else ""

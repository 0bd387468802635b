"""Query and delete for the housekeeping: over all owners, in batches, in one process at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import delete, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.features.stores import Purged
from service.store.failures import database_errors
from service.store.idempotency import RETENTION
from service.store.tables import TERMINAL, datasets, extractions, idempotency_keys

UPKEEP_LOCK = 0x66656174_6B656570
"""Key of the advisory lock of housekeeping, backup and restore: "feat" and "keep" in ASCII."""

ARTIFACT_KEY = func.jsonb_extract_path_text(extractions.c.result, "artifact_key")
"""The feature table of an extraction."""


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

    async def purge_idempotency_keys(self, now: datetime) -> int:
        """Delete the expired idempotency keys; returns how many."""
        with database_errors():
            async with self._engine.begin() as connection:
                gone = await connection.execute(
                    delete(idempotency_keys).where(idempotency_keys.c.created_at <= now - RETENTION)
                )
        return gone.rowcount

    async def in_use(self, keys: Sequence[str]) -> frozenset[str]:
        """Return those of the artifacts that a row refers to."""
        if not keys:
            return frozenset()
        of_extractions = select(ARTIFACT_KEY).where(extractions.c.id.in_({_extraction_of(key) for key in keys}))
        of_datasets = select(datasets.c.artifact_key).where(datasets.c.artifact_key.in_(keys))
        with database_errors():
            async with self._engine.connect() as connection:
                found = (await connection.scalars(union_all(of_extractions, of_datasets))).all()
        return frozenset(found).intersection(keys)


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

"""One request or job, one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.features.errors import DependencyUnavailable
from service.store.deliveries import SqlDeliveries
from service.store.extractions import SqlExtractions
from service.store.failures import OUTAGE_RETRY_SECONDS, database_errors
from service.store.idempotency import SqlIdempotencyKeys
from service.store.repositories import SqlDatasets, SqlKeys

PING_SECONDS = 2.0
"""A health check waits no longer than this."""


class SqlUnitOfWork:
    """The repositories on one transaction; implements `ports.UnitOfWork`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        """For work that must commit together with the rows, such as a job for them."""
        self._datasets = SqlDatasets(connection)
        self._extractions = SqlExtractions(connection)
        self._deliveries = SqlDeliveries(connection)
        self._keys = SqlKeys(connection)
        self._idempotency = SqlIdempotencyKeys(connection)

    @property
    def datasets(self) -> SqlDatasets:
        """The datasets, in this transaction."""
        return self._datasets

    @property
    def extractions(self) -> SqlExtractions:
        """The extractions, in this transaction."""
        return self._extractions

    @property
    def deliveries(self) -> SqlDeliveries:
        """The webhooks, in this transaction."""
        return self._deliveries

    @property
    def keys(self) -> SqlKeys:
        """The API keys, in this transaction."""
        return self._keys

    @property
    def idempotency(self) -> SqlIdempotencyKeys:
        """The idempotency keys, in this transaction."""
        return self._idempotency


class SqlStore:
    """Units of work on one engine; implements `ports.Store`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[SqlUnitOfWork]:
        """Open a unit of work: committed when its block ends well, rolled back otherwise."""
        with database_errors():
            async with self._engine.begin() as connection:
                yield SqlUnitOfWork(connection)

    async def ping(self) -> None:
        """Raises DependencyUnavailable when the database does not answer within `PING_SECONDS`."""
        try:
            with database_errors():
                async with asyncio.timeout(PING_SECONDS), self._engine.connect() as connection:
                    await connection.execute(select(1))
        except TimeoutError as error:
            raise DependencyUnavailable("The database is too slow.", retry_after=OUTAGE_RETRY_SECONDS) from error

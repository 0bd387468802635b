"""Run the work of one request or job in one transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext

from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.features.errors import DependencyUnavailable
from service.features.model import Extraction, ExtractionState, Lane
from service.store.datasets import SqlDatasets
from service.store.deliveries import SqlDeliveries
from service.store.extractions import SqlExtractions
from service.store.failures import OUTAGE_RETRY_SECONDS, database_errors
from service.store.idempotency import SqlIdempotencyKeys
from service.store.keys import SqlKeys
from service.store.repeats import RepeatedExtractions
from service.store.states import StateReads
from service.store.usage import SqlUsage

PING_TIMEOUT_SECONDS = 2.0
ESTIMATE_SECONDS = 5.0
"""How long a lane's estimate is reused: it changes little, and every status of a running extraction needs it."""


class SqlUnitOfWork:
    """Implement `stores.UnitOfWork`: the repositories on one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        """For work that must commit together with the rows, such as a job for them."""
        self._datasets = SqlDatasets(connection)
        self._extractions = SqlExtractions(connection)
        self._deliveries = SqlDeliveries(connection)
        self._keys = SqlKeys(connection)
        self._idempotency = SqlIdempotencyKeys(connection)
        self._usage = SqlUsage(connection)

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

    @property
    def usage(self) -> SqlUsage:
        """What principals keep, in this transaction."""
        return self._usage


class SqlStore:
    """Implement `stores.Store` on one engine."""

    def __init__(self, engine: AsyncEngine, states: StateReads, repeats: RepeatedExtractions) -> None:
        self._engine = engine
        self._states = states
        self._repeats = repeats
        self._estimates: dict[Lane, tuple[float, float | None]] = {}

    async def state_of(self, owner: str, extraction_id: str) -> ExtractionState:
        """Return the present state of an extraction. Raises ExtractionNotFound."""
        return await self._states.get(owner, extraction_id)

    async def states(self, extraction_ids: Sequence[str]) -> Mapping[str, ExtractionState]:
        """Return the present states of any owners' extractions, without those that do not exist."""
        return await self._states.of_all(extraction_ids)

    async def add_repeated(self, extraction: Extraction, dataset_key: str, *, max_stored_bytes: int = 0) -> bool:
        """Store an extraction that repeats a result; False when its dataset has changed, or its owner keeps so much."""
        return await self._repeats.add(extraction, dataset_key, max_stored_bytes)

    async def usual_seconds(self, lane: Lane) -> float | None:
        """Return the median run time of the lane's last completed extractions, at most `ESTIMATE_SECONDS` old."""
        until, usual = self._estimates.get(lane, (0.0, None))
        if time.monotonic() >= until:
            async with self.begin() as work:
                usual = await work.extractions.usual_seconds(lane)
            self._estimates[lane] = time.monotonic() + ESTIMATE_SECONDS, usual
        return usual

    @asynccontextmanager
    async def begin(self, *, watching: bool = False) -> AsyncGenerator[SqlUnitOfWork]:
        """Open a unit of work: committed when its block ends well, rolled back otherwise; `watching` makes no spans."""
        with suppress_instrumentation() if watching else nullcontext(), database_errors():
            async with self._engine.begin() as connection:
                yield SqlUnitOfWork(connection)

    async def ping(self) -> None:
        """Raises DependencyUnavailable when the database does not answer within `PING_TIMEOUT_SECONDS`."""
        try:
            with database_errors():
                async with asyncio.timeout(PING_TIMEOUT_SECONDS), self._engine.connect() as connection:
                    await connection.execute(select(1))
        except TimeoutError as error:
            raise DependencyUnavailable("The database is too slow.", retry_after=OUTAGE_RETRY_SECONDS) from error

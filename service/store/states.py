"""How far extractions have come: the one read that clients repeat by the thousand, without what it can do without.

It is a single statement on a connection of its own, outside of any transaction, for all who ask at the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Tracer

from service.features.errors import DependencyUnavailable, ExtractionNotFound
from service.features.gathering import Gathering
from service.features.model import ExtractionState, Failure
from service.store.failures import OUTAGE_RETRY_SECONDS
from service.store.payload import storable, unescaped

PATIENCE_SECONDS = 5.0
"""The statement takes a fraction of a millisecond; one that takes longer waits for a database that does not answer."""
RENEWED_SECONDS = 1800.0
"""A connection is made anew before a firewall between forgets it."""
STATEMENT = (
    "SELECT id, owner, status, progress, stage, lane, started_at, finished_at, failure::text "
    "FROM extractions WHERE id = ANY(%s)"
)
_ATTRIBUTES = {
    "db.system.name": "postgresql",
    "db.operation.name": "SELECT",
    "db.collection.name": "extractions",
    "db.query.text": STATEMENT,
}

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Connect = Callable[[], Awaitable[Connection]]
"""Opens a connection in autocommit mode."""

_FAILURE = msgspec.json.Decoder(Failure)


class StateReads:
    """Reads states for one event loop; connects when it is first asked."""

    def __init__(self, connect: Connect, tracer: Tracer | None) -> None:
        self._connect = connect
        self._tracer = tracer
        self._connection: Connection | None = None
        self._renew_at = 0.0
        self._gathering = Gathering(self._read)

    async def get(self, owner: str, extraction_id: str) -> ExtractionState:
        """The state now. Raises ExtractionNotFound, also for another owner's, and DependencyUnavailable."""
        state = None
        if storable(extraction_id):
            with self._traced():
                state = await self._gathering.ask(extraction_id)
        if state is None or state.owner != owner:
            raise ExtractionNotFound("You have no such extraction.")
        return state

    async def close(self) -> None:
        """Close the connection; asked again, it is opened again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                await connection.close()

    def _traced(self) -> AbstractContextManager[Span | None]:
        """A span for whoever asks, if its trace is kept: for others it would only be made and thrown away."""
        if self._tracer is None or not trace.get_current_span().is_recording():
            return nullcontext()
        return self._tracer.start_as_current_span("SELECT extractions", kind=SpanKind.CLIENT, attributes=_ATTRIBUTES)

    async def _read(self, ids: Sequence[str]) -> Sequence[ExtractionState | None]:
        rows = await self._rows(list(dict.fromkeys(ids)))
        found = {row[0]: _state(row) for row in rows}
        return [found.get(extraction_id) for extraction_id in ids]

    async def _rows(self, ids: list[str]) -> list[tuple[Any, ...]]:
        """A connection that broke while it lay idle is made anew at once; a read may be repeated."""
        reused = self._connection is not None
        try:
            return await self._ask(ids)
        except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
            if not reused or isinstance(error, TimeoutError):
                raise _away() from error
        try:
            return await self._ask(ids)
        except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
            raise _away() from error

    async def _ask(self, ids: list[str]) -> list[tuple[Any, ...]]:
        connection = await self._connected()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                cursor = await connection.execute(STATEMENT, (ids,))
                return await cursor.fetchall()
        except BaseException:
            await self._abandon()
            raise

    async def _connected(self) -> Connection:
        if self._connection is not None and time.monotonic() > self._renew_at:
            await self.close()
        if self._connection is None:
            self._connection = await self._connect()
            self._renew_at = time.monotonic() + RENEWED_SECONDS
        return self._connection

    async def _abandon(self) -> None:
        """Close without a word to the other side, which may be what does not answer."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pgconn.finish()


def _state(row: tuple[Any, ...]) -> ExtractionState:
    extraction_id, owner, status, progress, stage, lane, started_at, finished_at, failure = row
    return ExtractionState(
        id=extraction_id,
        owner=owner,
        status=status,
        progress=progress,
        stage=stage,
        lane=lane,
        started_at=_utc(started_at),
        finished_at=_utc(finished_at),
        failure=None if failure is None else _FAILURE.decode(unescaped(failure)),
    )


def _utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _away() -> DependencyUnavailable:
    return DependencyUnavailable("The database does not answer.", retry_after=OUTAGE_RETRY_SECONDS)

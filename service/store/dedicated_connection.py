"""Run one frequent statement on a connection of its own, without pool and transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import psycopg
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Tracer

from service.features.errors import DependencyUnavailable
from service.store.failures import OUTAGE_RETRY_SECONDS
from service.store.wire import Connection, Wire

STATEMENT_TIMEOUT_SECONDS = 5.0
"""Such statements take a millisecond; one that takes longer waits for a database that does not answer."""
RECYCLE_SECONDS = 1800.0
"""After which the connection is renewed, before a firewall on the way drops it."""

Connect = Callable[[], Awaitable[Connection]]
"""Opens a connection in autocommit mode."""

_FAULTS = (psycopg.OperationalError, psycopg.InterfaceError, OSError)


class DedicatedConnection:
    """Open a connection when it is first needed and again when it broke. For one task at a time, as a `Batcher` is."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._wire: Wire | None = None
        self._renew_at = 0.0

    async def rows(self, statement: str, parameters: Sequence[str], *, repeatable: bool) -> list[tuple[Any, ...]]:
        """Execute the statement and return its rows. Raises DependencyUnavailable.

        A `repeatable` statement is executed again on a new connection when the old one broke while it was idle.
        """
        reused = self._wire is not None
        try:
            return await self._ask(statement, parameters)
        except _FAULTS as error:
            if not (reused and repeatable) or isinstance(error, TimeoutError):
                raise _unavailable() from error
        try:
            return await self._ask(statement, parameters)
        except _FAULTS as error:
            raise _unavailable() from error

    async def close(self) -> None:
        """Close the connection; the next statement opens another."""
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(psycopg.Error, OSError):
                await wire.close()

    async def _ask(self, statement: str, parameters: Sequence[str]) -> list[tuple[Any, ...]]:
        wire = await self._open()
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
                return await wire.rows(statement, parameters)
        except BaseException:
            self._wire = None
            wire.cut()
            raise

    async def _open(self) -> Wire:
        if self._wire is not None and (self._wire.broken or time.monotonic() > self._renew_at):
            await self.close()
        if self._wire is None:
            self._wire = Wire(await self._connect())
            self._renew_at = time.monotonic() + RECYCLE_SECONDS
        return self._wire


class StatementSpans:
    """Make spans of one statement for its callers, each in the caller's trace, if that is sampled."""

    def __init__(self, tracer: Tracer | None, operation: str, table: str, statement: str) -> None:
        self._tracer = tracer
        self._name = f"{operation} {table}"
        self._attributes = {
            "db.system.name": "postgresql",
            "db.operation.name": operation,
            "db.collection.name": table,
            "db.query.text": statement,
        }

    def span(self) -> AbstractContextManager[Span | None]:
        """Surround the wait for the result."""
        if self._tracer is None or not trace.get_current_span().is_recording():
            return nullcontext()
        return self._tracer.start_span(
            self._name,
            kind=SpanKind.CLIENT,
            attributes=self._attributes,
            record_exception=False,
        )


def _unavailable() -> DependencyUnavailable:
    return DependencyUnavailable("The database does not answer.", retry_after=OUTAGE_RETRY_SECONDS)

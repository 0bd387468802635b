"""Execute prepared statements over libpq, without the driver's cursors.

A cursor costs 150 µs more for each round trip: it parses the statement, finds the types of the parameters, and
registers with the event loop for every wait. Here a statement is prepared once, parameters are texts, and the socket
stays registered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_GOOD = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK})


class Wire:
    """Own a connection in autocommit mode; for one task at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._loads = Transformer(connection)
        self._prepared: dict[str, bytes] = {}
        self._awaited: asyncio.Future[None] | None = None
        self._broken: psycopg.OperationalError | None = None
        self._loop = asyncio.get_running_loop()
        self._socket = self._pgconn.socket
        self._loop.add_reader(self._socket, self._on_readable)

    @property
    def broken(self) -> bool:
        """Whether the connection is known to be lost."""
        return self._broken is not None

    async def rows(self, statement: str, parameters: Sequence[str]) -> list[tuple[Any, ...]]:
        """Execute a statement, whose parameters are `$1` and so on, with their types, and return its rows.

        Raises what the driver raises; after an OperationalError or a cancellation, `cut` the connection.
        """
        name = self._prepared.get(statement)
        if name is None:
            name = b"wire-%d" % len(self._prepared)
            self._pgconn.send_prepare(name, statement.encode())
            await self._result()
            self._prepared[statement] = name
        self._pgconn.send_query_prepared(name, [parameter.encode() for parameter in parameters])
        result = await self._result()
        self._loads.set_pgresult(result)
        return self._loads.load_rows(0, result.ntuples, tuple)

    def cut(self) -> None:
        """Close the socket at once, without the protocol's Terminate message, which a hanging server would not take."""
        self._unregister()
        self._pgconn.finish()

    async def close(self) -> None:
        """Close the connection with the protocol's Terminate message."""
        self._unregister()
        await self._connection.close()

    async def _result(self) -> PGresult:
        """Wait for the result of what was sent. Raises the server's error."""
        await self._flush()
        found: PGresult | None = None
        while True:
            while self._pgconn.is_busy():
                await self._wait_readable()
            result = self._pgconn.get_result()
            if result is None:
                break
            found = result
        if found is None:
            raise psycopg.OperationalError("The server gave no answer.")
        if found.status not in _GOOD:
            raise error_from_result(found)
        return found

    async def _flush(self) -> None:
        """Send everything; the socket takes a large statement in pieces."""
        while self._pgconn.flush():
            writable = self._loop.create_future()
            self._loop.add_writer(self._socket, _done, writable)
            try:
                await writable
            finally:
                self._loop.remove_writer(self._socket)

    async def _wait_readable(self) -> None:
        """Wait until data has arrived. Raises OperationalError when the connection is lost."""
        if self._broken is not None:
            raise self._broken
        self._awaited = self._loop.create_future()
        await self._awaited

    def _on_readable(self) -> None:
        try:
            self._pgconn.consume_input()
        except psycopg.OperationalError as error:
            self._broken = error
            self._unregister()
        awaited, self._awaited = self._awaited, None
        if awaited is None or awaited.done():
            return
        if self._broken is None:
            awaited.set_result(None)
        else:
            awaited.set_exception(self._broken)

    def _unregister(self) -> None:
        if self._socket >= 0:
            self._loop.remove_reader(self._socket)
            self._socket = -1


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def array(texts: Sequence[str]) -> str:
    """Write texts as a PostgreSQL array."""
    quoted = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts]
    return "{" + ",".join(quoted) + "}"

"""One statement after another over libpq itself, past the driver's cursors.

A cursor costs 200 µs a round trip: it is made, reads the statement, finds the types of parameters, and registers with
the event loop and leaves it for every wait. Here a statement is prepared once, parameters are texts, and the connection
is listened to for as long as it lasts.
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
    """A connection in autocommit mode that is used by nothing else; for one task at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._loads = Transformer(connection)
        self._prepared: dict[str, bytes] = {}
        self._awaited: asyncio.Future[None] | None = None
        self._broken: psycopg.OperationalError | None = None
        self._loop = asyncio.get_running_loop()
        self._socket = self._pgconn.socket
        self._loop.add_reader(self._socket, self._readable)

    @property
    def broken(self) -> bool:
        """Whether the other side is known to have gone."""
        return self._broken is not None

    async def rows(self, statement: str, parameters: Sequence[str]) -> list[tuple[Any, ...]]:
        """The statement's rows; it names parameters `$1` and so on, with their types.

        Raises what the driver raises; after an OperationalError, and when it is cancelled, the wire must be cut.
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
        """Leave without a word to the other side, which may be what does not answer."""
        self._listen_no_more()
        self._pgconn.finish()

    async def close(self) -> None:
        """Take leave."""
        self._listen_no_more()
        await self._connection.close()

    async def _result(self) -> PGresult:
        """The answer to what was sent. Raises what it says went wrong."""
        await self._flushed()
        found: PGresult | None = None
        while True:
            while self._pgconn.is_busy():
                await self._more()
            result = self._pgconn.get_result()
            if result is None:
                break
            found = result
        if found is None:
            raise psycopg.OperationalError("The server gave no answer.")
        if found.status not in _GOOD:
            raise error_from_result(found)
        return found

    async def _flushed(self) -> None:
        """Sent as a whole: the socket takes a large statement in pieces, and may want to be read from meanwhile."""
        while self._pgconn.flush():
            writable = self._loop.create_future()
            self._loop.add_writer(self._socket, _done, writable)
            try:
                await writable
            finally:
                self._loop.remove_writer(self._socket)

    async def _more(self) -> None:
        """Until something has arrived. Raises OperationalError once the connection is lost."""
        if self._broken is not None:
            raise self._broken
        self._awaited = self._loop.create_future()
        await self._awaited

    def _readable(self) -> None:
        try:
            self._pgconn.consume_input()
        except psycopg.OperationalError as error:
            self._broken = error
            self._listen_no_more()
        awaited, self._awaited = self._awaited, None
        if awaited is None or awaited.done():
            return
        if self._broken is None:
            awaited.set_result(None)
        else:
            awaited.set_exception(self._broken)

    def _listen_no_more(self) -> None:
        if self._socket >= 0:
            self._loop.remove_reader(self._socket)
            self._socket = -1


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def array(texts: Sequence[str]) -> str:
    """The texts as PostgreSQL writes an array of them."""
    quoted = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts]
    return "{" + ",".join(quoted) + "}"

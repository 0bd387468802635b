"""One command after another over a connection of a pool, past the client.

The client takes a connection from its pool for each command, looks whether it is fit, repeats, waits in tasks of its
own and decodes: 150 µs a round trip where this takes 40. It still opens the connection, with all that an address may
ask for (TLS, password, number), and the pool still owns and closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

_pack = cast("Callable[[tuple[str | bytes | int, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType] -- its stubs know commands of one word alone


class RedisWire:
    """Opened when it is first needed, and again when it broke; for one task at a time."""

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._pool = pool
        self._connection: AbstractConnection | None = None
        self._answers: _Answers | None = None

    async def ask(self, *command: str | bytes | int) -> Any:
        """The answer, with texts as bytes. Raises what redis-py raises."""
        answers = self._answers
        if answers is None or answers.lost:
            answers = await self._open()
        try:
            answer = await answers.to(command)
        except BaseException:
            await self._leave()  # an answer that is still on its way is for nobody
            raise
        if isinstance(answer, hiredis.ReplyError):
            raise (NoScriptError if str(answer).startswith("NOSCRIPT") else ResponseError)(str(answer))
        return answer

    async def _open(self) -> _Answers:
        await self._leave()
        connection: AbstractConnection = await self._pool.get_connection()  # pyright: ignore[reportUnknownMemberType] -- its options are not typed
        self._connection = connection
        writer = connection._writer  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- there is no other way to it
        if writer is None:
            raise RedisConnectionError("The connection was closed as it was opened.")
        self._answers = _Answers(writer.transport)
        return self._answers

    async def _leave(self) -> None:
        connection, self._connection, self._answers = self._connection, None, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)


class _Answers(asyncio.Protocol):
    """Takes over an open connection's transport."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._before: asyncio.Protocol = transport.get_protocol()
        self._reader = hiredis.Reader()
        self._awaited: asyncio.Future[Any] | None = None
        self.lost = transport.is_closing()
        transport.set_protocol(self)

    async def to(self, command: tuple[str | bytes | int, ...]) -> Any:
        """Send and wait."""
        self._awaited = asyncio.get_running_loop().create_future()
        self._transport.write(_pack(command))
        return await self._awaited

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            awaited, self._awaited = self._awaited, None
            if isinstance(answer, hiredis.PushNotification) or awaited is None:
                self._awaited = awaited  # nobody has asked for it
            elif not awaited.done():
                awaited.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop; the client's own protocol waits for it when its connection is closed."""
        self.lost = True
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(RedisConnectionError("Redis closed the connection."))
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by the loop; commands are short, and the next waits for the answer."""

    def resume_writing(self) -> None:
        """Likewise."""

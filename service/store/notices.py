"""Who waits for an extraction is woken when its row changes, whichever process changed it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, Self

import psycopg
from psycopg.sql import SQL, Identifier

from service.store.extractions import CHANNEL

Connect = Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]
"""Opens a connection in autocommit mode."""

IDLE_SECONDS = 60.0
"""A connection that nobody needed for so long, or for up to twice that, is closed."""
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 5.0
"""Between two tries to connect, doubling from the first."""

_FAULTS = (psycopg.Error, OSError)
_LOG = logging.getLogger(__name__)


class RowWatch:
    """Looks out for changes of one extraction; implements `stores.Watch`."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Tell that the row changed, or may have."""
        self._changed.set()

    async def changed(self, seconds: float) -> bool:
        """Wait at most so long for a change since the last call; False when none was noticed."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True


class PostgresNotices:
    """Listens on one connection for the whole process; implements `stores.Notices`.

    The connection is opened for the first watch and closed when there has been none for a while, so that a process in
    which nobody waits is sent nothing. Whoever watches is never told that it broke: it is opened again, and then every
    watch is woken, since what was told in the meantime is lost. Needs a connection of its own: through a pooler that
    lends connections for one transaction no notices come, and whoever waits looks at the row in its own time.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._watches: dict[str, set[RowWatch]] = {}
        self._wanted = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._away = False

    async def __aenter__(self) -> Self:
        self._listening = asyncio.create_task(self._serve(), name="extraction notices")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
            self._listening = None

    @contextmanager
    def watch(self, extraction_id: str) -> Generator[RowWatch]:
        """Look out for changes while the block runs; none is missed from here on."""
        watch = RowWatch()
        self._watches.setdefault(extraction_id, set()).add(watch)
        self._wanted.set()
        try:
            yield watch
        finally:
            self._forget(extraction_id, watch)

    def _forget(self, extraction_id: str, watch: RowWatch) -> None:
        watches = self._watches[extraction_id]
        watches.discard(watch)
        if not watches:
            del self._watches[extraction_id]
        if not self._watches:
            self._wanted.clear()

    async def _serve(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._wanted.wait()
            try:
                await self._listen()
            except _FAULTS as fault:
                pause = FIRST_PAUSE_SECONDS if not self._away else min(pause * 2, MAX_PAUSE_SECONDS)
                self._note_away(fault)
                await asyncio.sleep(pause)

    async def _listen(self) -> None:
        """Pass notices on until the connection breaks, or nobody has needed it for a while."""
        connection = await self._connect()
        try:
            await connection.execute(SQL("LISTEN {}").format(Identifier(CHANNEL)))
            self._note_back()
            self._wake_all()
            while self._watches:
                async for notice in connection.notifies(timeout=IDLE_SECONDS):
                    self._wake(notice.payload)
        finally:
            with suppress(*_FAULTS):
                await connection.close()

    def _wake(self, extraction_id: str) -> None:
        for watch in self._watches.get(extraction_id, ()):
            watch.wake()

    def _wake_all(self) -> None:
        for extraction_id in self._watches:
            self._wake(extraction_id)

    def _note_away(self, fault: Exception) -> None:
        if not self._away:
            self._away = True
            _LOG.warning(
                "no notices of extractions (%s): whoever waits for one looks at its row in its own time",
                type(fault).__name__,
            )

    def _note_back(self) -> None:
        if self._away:
            self._away = False
            _LOG.info("notices of extractions are back")

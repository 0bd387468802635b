"""Wake tasks that wait for an extraction when any process changes its row (LISTEN and NOTIFY)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, Self

import psycopg
from psycopg.sql import SQL, Identifier

from service.concurrency.signals import wait_and_clear
from service.store.extractions import CHANNEL

Connect = Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]
"""Opens a connection in autocommit mode."""

IDLE_SECONDS = 60.0
"""A connection that was unused for one to two times as long is closed."""
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 5.0
"""Between two attempts to connect, doubling from the first."""

_FAULTS = (psycopg.Error, OSError)
_LOG = logging.getLogger(__name__)


class RowWatch:
    """Implement `stores.Watch`: watch one extraction for changes."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Report that the row has changed, or may have."""
        self._changed.set()

    async def changed(self, seconds: float) -> bool:
        """Wait at most `seconds` for a change since the last call; False when none was noticed."""
        return await wait_and_clear(self._changed, seconds)


class PostgresNotices:
    """Implement `stores.Notices` with one connection for the whole process.

    The connection is opened for the first watch and closed when there has been none for a while. When it breaks, it is
    opened again and every watch is woken, since notifications in between are lost; watchers see no error. It must be
    dedicated: through a pooler in transaction mode no notifications arrive, and watchers poll the row instead.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._wakes: dict[str, set[Callable[[], None]]] = {}
        self._wanted = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._unavailable = False

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
        """Watch for changes while the block runs; none is missed from here on."""
        watch = RowWatch()
        with self.subscribe(extraction_id, watch.wake):
            yield watch

    @contextmanager
    def subscribe(self, extraction_id: str, wake: Callable[[], None]) -> Generator[None]:
        """Call `wake` at each change while the block runs; none is missed from here on."""
        self._wakes.setdefault(extraction_id, set()).add(wake)
        self._wanted.set()
        try:
            yield
        finally:
            self._unsubscribe(extraction_id, wake)

    def _unsubscribe(self, extraction_id: str, wake: Callable[[], None]) -> None:
        wakes = self._wakes[extraction_id]
        wakes.discard(wake)
        if not wakes:
            del self._wakes[extraction_id]
        if not self._wakes:
            self._wanted.clear()

    async def _serve(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._wanted.wait()
            try:
                await self._listen()
            except _FAULTS as fault:
                pause = FIRST_PAUSE_SECONDS if not self._unavailable else min(pause * 2, MAX_PAUSE_SECONDS)
                self._report_outage(fault)
                await asyncio.sleep(pause)

    async def _listen(self) -> None:
        """Pass notifications on until the connection breaks, or there has been no watch for a while."""
        connection = await self._connect()
        try:
            await connection.execute(SQL("LISTEN {}").format(Identifier(CHANNEL)))
            self._report_recovery()
            self._wake_all()
            while self._wakes:
                async for notice in connection.notifies(timeout=IDLE_SECONDS):
                    self._wake(notice.payload)
        finally:
            with suppress(*_FAULTS):
                await connection.close()

    def _wake(self, extraction_id: str) -> None:
        for wake in self._wakes.get(extraction_id, ()):
            wake()

    def _wake_all(self) -> None:
        for extraction_id in self._wakes:
            self._wake(extraction_id)

    def _report_outage(self, fault: Exception) -> None:
        if not self._unavailable:
            self._unavailable = True
            _LOG.warning(
                "no notices of extractions (%s): waiting requests poll their rows until they are back",
                type(fault).__name__,
            )

    def _report_recovery(self) -> None:
        if self._unavailable:
            self._unavailable = False
            _LOG.info("notices of extractions are back")

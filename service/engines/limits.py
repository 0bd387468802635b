"""What the work of one request may use of the machine, and how many may work at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from msgspec import Struct

from service.concurrency.deadline import seconds_left
from service.features.errors import DeadlineExceeded


class Limits(Struct, frozen=True):
    """What one sandbox may use."""

    memory_bytes: int
    """Of the buffer manager; the process's resident memory can be up to twice that."""
    threads: int
    scratch_bytes: int
    """Disk space for spilled intermediate results."""
    seconds: float
    """Time that the sandbox's work may take altogether, if the deadline around it does not come first."""


class Turns:
    """Lets some work at once: memory is that many times the limit of one, whatever is asked for at once."""

    def __init__(self, concurrency: int, seconds: float) -> None:
        """Let `concurrency` work; nobody waits longer than `seconds`, or than its deadline."""
        self._free = asyncio.Semaphore(concurrency)
        self._seconds = seconds

    @asynccontextmanager
    async def taken(self) -> AsyncGenerator[None]:
        """Wait for a turn and have it during the block. Raises DeadlineExceeded when there was none in time."""
        try:
            async with asyncio.timeout(seconds_left(self._seconds)):
                await self._free.acquire()
        except TimeoutError:
            raise DeadlineExceeded("Too much is being computed: there was no turn in time.") from None
        try:
            yield
        finally:
            self._free.release()

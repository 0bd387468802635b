"""Extractions that run in this process, independent of the connections that asked for them."""

from __future__ import annotations

import asyncio

from service.api.door import Door
from service.features.extract import ExtractFeatures
from service.features.model import Extraction


class RunningExtractions:
    """Runs accepted extractions in tasks of their own: a client that goes away does not lose its extraction."""

    def __init__(self, extract: ExtractFeatures, door: Door) -> None:
        """`door` is for the clients that wait; what runs on without its client does not count."""
        self.door = door
        self._extract = extract
        self._tasks: set[asyncio.Task[Extraction]] = set()

    async def finish(self, extraction: Extraction) -> Extraction:
        """Run an accepted extraction and wait for its end; cancelling the wait leaves it running.

        Raises what the extraction failed with.
        """
        task = asyncio.create_task(self._extract.run(extraction), name=f"extraction {extraction.id}")
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait until every running extraction has ended, well or not."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, task: asyncio.Task[Extraction]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the extraction keeps its own failure; asyncio must not warn that none was retrieved

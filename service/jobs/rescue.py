"""Recover lost work: jobs of dead workers, jobs that a worker never received, extractions without a job."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import structlog
from procrastinate.exceptions import ConnectorException

from service.features.events import JobAttempted
from service.features.ports import Observer
from service.jobs.manager import STATEMENT_TIMEOUT_SECONDS, FencedManager
from service.jobs.statements import CLEAN, DOING, PRUNE, RESCUE, STRANDED, STRANDED_DELIVERIES, TASK

DEAD_SECONDS = 8.0
"""A worker without a heartbeat for so long, four intervals, is dead."""
RESCUE_SECONDS = 1.0
STRANDED_SECONDS = 10.0
"""An extraction of this age without a job is stranded; they are searched for as often."""
PRUNE_SECONDS = 60.0
"""After which a dead worker is deleted: its jobs have long been put back."""
FAILED_JOB_SECONDS = 86_400.0
"""How long jobs of an unknown task are kept for inspection."""

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class Rescuer:
    """Put lost jobs back into the queue; several rescuers at once do the same as one."""

    def __init__(
        self,
        manager: FencedManager,
        observer: Observer,
        *,
        dead_seconds: float = DEAD_SECONDS,
        stranded_seconds: float = STRANDED_SECONDS,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager = manager
        self._observer = observer
        self._dead_seconds = dead_seconds
        self._stranded_seconds = stranded_seconds
        self._timer = timer
        self._lost: dict[int, float] = {}
        self._beat_at = self._silence_ended_at = -math.inf

    def note_beat(self, at: float) -> None:
        """Note that this process's own heartbeat, sent at that time of the timer, has reached the database."""
        if at - self._beat_at > self._dead_seconds and self._beat_at > -math.inf:
            self._silence_ended_at = at
        self._beat_at = at

    def may_judge(self) -> bool:
        """Whether this worker may declare others dead: not while it counts as dead itself, nor soon after.

        An outage of the database silences all workers and kills none; afterwards each sends its next heartbeat in its
        own time. A statement that the outage holds up runs when it ends, by then with an older heartbeat.
        """
        now = self._timer()
        fresh = now - self._beat_at <= self._dead_seconds - STATEMENT_TIMEOUT_SECONDS
        return fresh and self._dead_seconds <= now - self._silence_ended_at

    async def keep_looking(self) -> None:
        """Look for lost work, for ever."""
        looks_per_search = round(STRANDED_SECONDS / RESCUE_SECONDS)
        for look in count():
            try:
                async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
                    if self.may_judge():
                        await self._look(thoroughly=look % looks_per_search == 0)
            except (ConnectorException, TimeoutError) as fault:
                self._manager.report_outage(fault)
            except Exception:
                _LOGGER.exception("the rescue of jobs failed")
            await asyncio.sleep(RESCUE_SECONDS)

    async def _look(self, *, thoroughly: bool) -> None:
        await self.rescue()
        if thoroughly:
            await self.pick_up_stranded()
            await self.tidy()

    async def rescue(self) -> int:
        """Put the jobs of dead workers back and return how many there were. Raises ConnectorException."""
        rows = await self._ask(RESCUE, dead_seconds=self._dead_seconds, lost=await self._never_received())
        for row in rows:
            if row["crashed"]:
                self._observer.record(JobAttempted(row["subject"], "crashed"))
            subject = "extraction_id" if row["task"] == TASK else "delivery_id"
            _LOGGER.warning("a job of a dead worker is put back", **{subject: row["subject"]})
        return len(rows)

    async def pick_up_stranded(self) -> int:
        """Enqueue extractions and webhooks that have no job; return how many there were. Raises ConnectorException."""
        rows = await self._ask(STRANDED, stranded_seconds=self._stranded_seconds)
        for row in rows:
            _LOGGER.warning("an extraction without a job gets one", extraction_id=row["subject"])
        webhooks = await self._ask(STRANDED_DELIVERIES, stranded_seconds=self._stranded_seconds)
        for row in webhooks:
            _LOGGER.warning("a webhook without a job gets one", delivery_id=row["subject"])
        return len(rows) + len(webhooks)

    async def tidy(self) -> None:
        """Delete dead workers and failed jobs. Raises ConnectorException."""
        connector = self._manager.connector
        await connector.execute_query_async(PRUNE, seconds=PRUNE_SECONDS)
        await connector.execute_query_async(CLEAN, seconds=FAILED_JOB_SECONDS)

    async def _never_received(self) -> list[int]:
        """Return jobs that the database has assigned to this process and that it has not had for a while.

        The database's answer was lost with a connection.
        """
        rows = await self._ask(DOING, workers=list(self._manager.workers))
        now = self._timer()
        unheld = {int(row["id"]) for row in rows} - self._manager.held
        self._lost = {job: self._lost.get(job, now) for job in unheld}
        return [job for job, since in self._lost.items() if now - since >= self._dead_seconds]

    async def _ask(self, statement: Any, **values: Any) -> list[dict[str, Any]]:
        return await self._manager.connector.execute_query_all_async(statement, **values)

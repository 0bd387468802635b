"""Procrastinate's dealings with the database, fenced against workers back from the dead and calm while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, LiteralString

import structlog
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, NotificationCallback

from service.extractions.run import MAX_CRASHES
from service.jobs.statements import BEAT, DELETE_OWN, END_OWN, FETCH, PUT_OWN_BACK

STATEMENT_TIMEOUT_SECONDS = 5.0
"""A statement takes milliseconds; one that takes longer waits for a database that does not answer."""
AGAIN_SECONDS = 2
"""Before a job that the database's absence broke off is tried again."""
LISTEN_PAUSE_SECONDS = 1.0
"""Between two tries to listen; meanwhile the workers poll."""

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class FencedManager(JobManager):
    """Knows which workers and jobs are this process's own.

    Procrastinate's worker stops, or goes on without a heartbeat, when a statement of its own fails; so here none of
    those that it repeats anyway does. What an outage leaves undone, the rescue does.
    """

    def __init__(self, connector: BaseConnector) -> None:
        super().__init__(connector)
        self.workers: set[int] = set()
        """Registered workers of this process."""
        self.held: set[int] = set()
        """Jobs that they have in hand."""
        self._away = False
        self._beating = asyncio.Lock()

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """The next job of those queues; None when there is none, or the database is away."""
        job: Job | None = None
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
                rows = await self.connector.execute_query_all_async(
                    FETCH,
                    queues=list(queues or ()),
                    worker_id=worker_id,
                    workers=[*self.workers, worker_id],
                    crashes=MAX_CRASHES - 1,
                )
                job = Job.from_row(rows[0]) if rows else None
        except (ConnectorException, TimeoutError) as fault:
            self.note_away(fault)
        else:
            self.note_back()
        if job is not None and job.id is not None:
            self.held.add(job.id)
        return job

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Pass on what is told of new jobs, for ever."""
        while True:
            with suppress(ConnectorException):
                await super().listen_for_jobs(on_notification=on_notification, queues=queues)
            await asyncio.sleep(LISTEN_PAUSE_SECONDS)

    async def register_worker(self) -> int:
        """Make a worker known. Raises ConnectorException."""
        worker_id = await super().register_worker()
        self.workers.add(worker_id)
        return worker_id

    async def unregister_worker(self, worker_id: int) -> None:
        """Take a worker off; what is still its job is anybody's from then on."""
        self.workers.discard(worker_id)
        try:
            async with self._beating:  # or the worker would be known again
                await super().unregister_worker(worker_id)
        except ConnectorException as fault:
            self.note_away(fault)

    async def update_heartbeat(self, worker_id: int) -> None:
        """Nothing: `beat` does it, and for longer than Procrastinate, which ends its own before its jobs have ended."""

    async def beat(self) -> bool:
        """Tell that this process lives; False when the database is away."""
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS), self._beating:
                await self.connector.execute_query_async(BEAT, workers=list(self.workers))
        except (ConnectorException, TimeoutError) as fault:
            self.note_away(fault)
            return False
        self.note_back()
        return True

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001 -- Procrastinate's signature
        """End a job that is still its worker's."""
        await self._let_go(job, DELETE_OWN if delete_job else END_OWN, {} if delete_job else {"status": status.value})

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,  # noqa: ARG002 -- Procrastinate's signature
        queue: str | None = None,  # noqa: ARG002 -- likewise
        lock: str | None = None,  # noqa: ARG002 -- likewise
    ) -> None:
        """Put a job back that is still its worker's: for now, or for a little later if it has a time to come back.

        When that is, the database's clock says: this machine's may be wrong, and by that the job is due nowhere else.
        """
        await self._let_go(job, PUT_OWN_BACK, {"delay": 0 if retry_at is None else AGAIN_SECONDS})

    async def list_jobs_to_abort_async(self, queue: str | None = None) -> Iterable[int]:  # noqa: ARG002 -- Procrastinate's signature
        """None: an extraction's own row says whether it is still wanted."""
        return ()

    def note_away(self, fault: Exception) -> None:
        """Say once that the database is away."""
        if not self._away:
            self._away = True
            reason = type(fault.__cause__ or fault).__name__
            _LOGGER.warning("the database is away: no job is taken until it is back", reason=reason)

    def note_back(self) -> None:
        """Say once that it is back."""
        if self._away:
            self._away = False
            _LOGGER.info("the database is back: jobs are taken again")

    async def _let_go(self, job: Job, statement: LiteralString, values: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
                await self.connector.execute_query_async(statement, job_id=job.id, worker_id=job.worker_id, **values)
        except (ConnectorException, TimeoutError) as fault:
            self.note_away(fault)
        finally:
            self.held.discard(job.id or 0)

"""Read and write Procrastinate's jobs, fenced against workers that were declared dead, and tolerant of outages."""

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
RETRY_SECONDS = 2
"""Before a job that an outage of the database interrupted is tried again."""
LISTEN_PAUSE_SECONDS = 1.0
"""Between two attempts to listen; meanwhile the workers poll."""

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class FencedManager(JobManager):
    """Track which workers and jobs belong to this process.

    Procrastinate's worker stops, or goes on without a heartbeat, when a statement of its own fails. Statements that it
    repeats anyway therefore never raise here; what an outage leaves undone, `rescue.Rescuer` does.
    """

    def __init__(self, connector: BaseConnector) -> None:
        super().__init__(connector)
        self.workers: set[int] = set()
        """Registered workers of this process."""
        self.held: set[int] = set()
        """Jobs that they run."""
        self._unavailable = False
        self._beating = asyncio.Lock()

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Take the next job of those queues; None when there is none, or the database is unavailable."""
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
            self.report_outage(fault)
        else:
            self.report_recovery()
        if job is not None and job.id is not None:
            self.held.add(job.id)
        return job

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Pass on notifications of new jobs, for ever."""
        while True:
            with suppress(ConnectorException):
                await super().listen_for_jobs(on_notification=on_notification, queues=queues)
            await asyncio.sleep(LISTEN_PAUSE_SECONDS)

    async def register_worker(self) -> int:
        """Register a worker. Raises ConnectorException."""
        worker_id = await super().register_worker()
        self.workers.add(worker_id)
        return worker_id

    async def unregister_worker(self, worker_id: int) -> None:
        """Remove a worker; other workers may take its remaining jobs from then on."""
        self.workers.discard(worker_id)
        try:
            async with self._beating:  # a heartbeat would register the worker again
                await super().unregister_worker(worker_id)
        except ConnectorException as fault:
            self.report_outage(fault)

    async def update_heartbeat(self, worker_id: int) -> None:
        """Do nothing: `beat` does it, also after Procrastinate has stopped its heartbeat, until the jobs have ended."""

    async def beat(self) -> bool:
        """Write the heartbeat of this process's workers; False when the database is unavailable."""
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS), self._beating:
                await self.connector.execute_query_async(BEAT, workers=list(self.workers))
        except (ConnectorException, TimeoutError) as fault:
            self.report_outage(fault)
            return False
        self.report_recovery()
        return True

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001 -- Procrastinate's signature
        """End a job, if it still belongs to its worker."""
        await self._release(job, DELETE_OWN if delete_job else END_OWN, {} if delete_job else {"status": status.value})

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,  # noqa: ARG002 -- Procrastinate's signature
        queue: str | None = None,  # noqa: ARG002 -- likewise
        lock: str | None = None,  # noqa: ARG002 -- likewise
    ) -> None:
        """Put a job back, if it still belongs to its worker: due now, or with `retry_at` after `RETRY_SECONDS`.

        The database's clock decides when the job is due: this machine's clock may be wrong.
        """
        await self._release(job, PUT_OWN_BACK, {"delay": 0 if retry_at is None else RETRY_SECONDS})

    async def list_jobs_to_abort_async(self, queue: str | None = None) -> Iterable[int]:  # noqa: ARG002 -- Procrastinate's signature
        """Return none: an extraction's row says whether it was cancelled."""
        return ()

    def report_outage(self, fault: Exception) -> None:
        """Log an outage of the database, once."""
        if not self._unavailable:
            self._unavailable = True
            reason = type(fault.__cause__ or fault).__name__
            _LOGGER.warning("the database is unavailable: no job is taken until it is back", reason=reason)

    def report_recovery(self) -> None:
        """Log the end of an outage, once."""
        if self._unavailable:
            self._unavailable = False
            _LOGGER.info("the database is back: jobs are taken again")

    async def _release(self, job: Job, statement: LiteralString, values: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
                await self.connector.execute_query_async(statement, job_id=job.id, worker_id=job.worker_id, **values)
        except (ConnectorException, TimeoutError) as fault:
            self.report_outage(fault)
        finally:
            self.held.discard(job.id or 0)

"""Run jobs: a Procrastinate worker for each lane, restarted whenever it stops, and one heartbeat for all of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Self

import structlog
from opentelemetry.trace import TracerProvider
from procrastinate import App, BaseRetryStrategy, PsycopgConnector, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job
from procrastinate.worker import Worker
from psycopg import OperationalError

from service.extractions.run import Ending
from service.features.errors import DependencyUnavailable
from service.features.events import JobAttempted
from service.features.ports import Observer
from service.jobs.connection import connector_to
from service.jobs.manager import RETRY_SECONDS, FencedManager
from service.jobs.rescue import DEAD_SECONDS, PRUNE_SECONDS, Rescuer
from service.jobs.statements import DELIVERY_QUEUE, DELIVERY_TASK, TASK
from service.jobs.tracing import OUTCOME, JobSpans, delivery_spans, job_trace
from service.webhooks.deliver import DeliveryEnding

BEAT_SECONDS = 2.0
POLL_SECONDS = 1.0
"""How often a lane polls: for jobs that become due, and in case a notification was lost."""
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 5.0
"""Before a worker that stopped is restarted, doubling from the first to the longest."""
LARGE_CONCURRENCY = 1
DELIVERY_CONCURRENCY = 16
"""Sending is mostly waiting for receivers."""
_NEVER = 86_400.0

Run = Callable[[str], Awaitable[Ending]]
Deliver = Callable[[str], Awaitable[DeliveryEnding]]
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class _PutBack(BaseRetryStrategy):
    """Put back a job that was interrupted by a shutdown or an outage."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002 -- Procrastinate's signature
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision()
        return RetryDecision(retry_in={"seconds": round(RETRY_SECONDS)})


class JobWorker:
    """Run extractions and send webhooks for as long as the `async with` block lasts.

    Small extractions run `concurrency` at once, large ones one at a time, and webhooks beside them, so that no job
    waits behind one of another kind. Without `deliver` webhooks are left to other workers. When the block ends, or
    `stop` is called, no more jobs are taken; running ones have `grace_seconds` to end, and are then put back.
    Entering it raises DependencyUnavailable when the database is unavailable.
    """

    def __init__(
        self,
        run: Run,
        *,
        deliver: Deliver | None = None,
        database_url: str,
        observer: Observer,
        tracer_provider: TracerProvider,
        concurrency: int = 8,
        grace_seconds: float = 25.0,
    ) -> None:
        self._run = run
        self._deliver = deliver
        self._observer = observer
        self._spans = JobSpans(tracer_provider)
        self._delivery_spans = delivery_spans(tracer_provider)
        self._grace_seconds = grace_seconds
        self._concurrency: dict[str, int] = {"small": concurrency, "large": LARGE_CONCURRENCY}
        if deliver is not None:
            self._concurrency[DELIVERY_QUEUE] = DELIVERY_CONCURRENCY
        connector = connector_to(database_url)
        self._manager = FencedManager(connector)
        self._app = _app(connector, self._manager, {TASK: self._job, DELIVERY_TASK: self._delivery})
        self._rescuer = Rescuer(self._manager, observer)
        self._workers: dict[str, Worker] = {}
        self._lanes: list[asyncio.Task[None]] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat_at = -_NEVER

    @property
    def alive(self) -> bool:
        """Whether other processes consider this one alive."""
        return time.monotonic() - self._beat_at < DEAD_SECONDS

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        try:
            await self._app.open_async()
        except OperationalError as error:
            raise DependencyUnavailable("The database does not answer.") from error
        await self._beat()
        self._keepers = [_task(self._send_heartbeats()), _task(self._rescuer.keep_looking())]
        self._lanes = [_task(self._serve(lane)) for lane in self._concurrency]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()
        await asyncio.wait(self._lanes)
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.wait(self._keepers)
        await self._app.close_async()

    def stop(self) -> None:
        """Take no more jobs. Callable from any thread or signal handler, repeatedly, and before the start."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._stopping.set()
        for worker in self._workers.values():
            worker.stop()

    async def _serve(self, lane: str) -> None:
        """Run one lane's worker, and restart it, until the process stops."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            self._workers[lane] = worker = self._worker(lane)
            try:
                await worker.run()
            except ConnectorException as fault:
                self._manager.report_outage(fault)
            except Exception:
                _LOGGER.exception("a worker stopped unexpectedly", lane=lane)
            ran_well = time.monotonic() - started > MAX_PAUSE_SECONDS
            pause = FIRST_PAUSE_SECONDS if ran_well else min(pause * 2, MAX_PAUSE_SECONDS)
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({stopping}, timeout=seconds)
        stopping.cancel()

    def _worker(self, lane: str) -> Worker:
        return Worker(
            self._app,
            queues=[lane],
            name=lane,
            concurrency=self._concurrency[lane],
            fetch_job_polling_interval=POLL_SECONDS,
            abort_job_polling_interval=_NEVER,
            shutdown_graceful_timeout=self._grace_seconds,
            delete_jobs="successful",
            install_signal_handlers=False,
            update_heartbeat_interval=_NEVER,
            stalled_worker_timeout=PRUNE_SECONDS,
        )

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._beat()

    async def _beat(self) -> None:
        started = time.monotonic()
        if await self._manager.beat():
            self._beat_at = started
            self._rescuer.note_beat(started)

    async def _job(self, context: JobContext, extraction_id: str, **carried: str) -> None:
        """Run an extraction's job; it is put back when it raises: on an outage of the database or a shutdown."""
        with self._spans.running(extraction_id, context.job.queue, job_trace(context.job, carried)) as span:
            ending = await self._attempt(extraction_id)
            span.set_attribute(OUTCOME, ending)
        self._observer.record(JobAttempted(extraction_id, ending))

    async def _attempt(self, extraction_id: str) -> Ending:
        try:
            return await self._run(extraction_id)
        except DependencyUnavailable:
            _LOGGER.warning("a job was interrupted: the database is unavailable", extraction_id=extraction_id)
            self._observer.record(JobAttempted(extraction_id, "crashed"))
            raise
        except Exception:
            _LOGGER.exception("an extraction failed for an unexpected reason", extraction_id=extraction_id)
            return "failed"

    async def _delivery(self, context: JobContext, delivery_id: str, **carried: str) -> None:
        """Run a webhook's job; it is put back when it raises, and the webhook is sent again under the same id."""
        assert self._deliver is not None  # noqa: S101 -- its queue is not asked otherwise
        with self._delivery_spans.running(delivery_id, context.job.queue, job_trace(context.job, carried)) as span:
            try:
                span.set_attribute(OUTCOME, await self._deliver(delivery_id))
            except DependencyUnavailable:
                _LOGGER.warning("a webhook's job was interrupted: the database is unavailable", delivery_id=delivery_id)
                raise
            except Exception:
                _LOGGER.exception("a webhook's job failed for an unexpected reason", delivery_id=delivery_id)
                raise


def _without_arguments(record: logging.LogRecord) -> bool:
    """Replace Procrastinate's log lines, which quote a job's arguments."""
    if hasattr(record, "job"):
        record.msg, record.args = "a job came to nothing: %s", (getattr(record, "action", "for an unknown reason"),)
    return True


def _app(
    connector: PsycopgConnector, manager: FencedManager, tasks: Mapping[str, Callable[..., Awaitable[None]]]
) -> App:
    logging.getLogger("procrastinate.worker").addFilter(_without_arguments)
    app = App(connector=connector)
    app.job_manager = manager
    for name, job in tasks.items():
        app.task(name=name, pass_context=True, retry=_PutBack())(job)
    return app


def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work)

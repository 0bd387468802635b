"""Runs jobs: a Procrastinate worker for each lane, kept going whatever stops it, and one heartbeat for all of them."""

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
from service.jobs.manager import AGAIN_SECONDS, FencedManager
from service.jobs.rescue import DEAD_SECONDS, PRUNE_SECONDS, Rescuer
from service.jobs.statements import DELIVERY_QUEUE, DELIVERY_TASK, TASK
from service.jobs.tracing import OUTCOME, JobSpans, brought_by, delivery_spans
from service.webhooks.deliver import DeliveryEnding

BEAT_SECONDS = 2.0
POLL_SECONDS = 1.0
"""How often a lane looks for jobs by itself: for those that become due, and when no notice comes."""
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 5.0
"""Before a worker that stopped is started again, doubling."""
LARGE_AT_ONCE = 1
DELIVERIES_AT_ONCE = 16
"""They wait for others most of the time."""
_NEVER = 86_400.0

Run = Callable[[str], Awaitable[Ending]]
Deliver = Callable[[str], Awaitable[DeliveryEnding]]
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class _PutBack(BaseRetryStrategy):
    """A job that was broken off, and not by its extraction, is put back."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002 -- Procrastinate's signature
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision()
        return RetryDecision(retry_in={"seconds": round(AGAIN_SECONDS)})


class JobWorker:
    """Runs extractions and sends webhooks for as long as its `async with` block lasts.

    Small extractions run `concurrency` at once, large ones one at a time, and webhooks go out beside them, so that none
    waits behind one of another kind. Without `deliver` it leaves webhooks to other workers. When the block ends, or
    `stop` is called, no more jobs are taken; those that run have `grace_seconds` to end, and are handed back then.
    Entering it raises DependencyUnavailable when the database is away.
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
        self._at_once: dict[str, int] = {"small": concurrency, "large": LARGE_AT_ONCE}
        if deliver is not None:
            self._at_once[DELIVERY_QUEUE] = DELIVERIES_AT_ONCE
        connector = connector_to(database_url)
        self._manager = FencedManager(connector)
        self._app = _app(connector, self._manager, {TASK: self._job, DELIVERY_TASK: self._delivery})
        self._rescuer = Rescuer(self._manager, observer)
        self._workers: dict[str, Worker] = {}
        self._lanes: list[asyncio.Task[None]] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beaten_at = -_NEVER

    @property
    def alive(self) -> bool:
        """Whether other processes take this one for alive."""
        return time.monotonic() - self._beaten_at < DEAD_SECONDS

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        try:
            await self._app.open_async()
        except OperationalError as error:
            raise DependencyUnavailable("The database does not answer.") from error
        await self._beat()
        self._keepers = [_task(self._keep_beating()), _task(self._rescuer.keep_looking())]
        self._lanes = [_task(self._serve(lane)) for lane in self._at_once]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()
        await asyncio.wait(self._lanes)
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.wait(self._keepers)
        await self._app.close_async()

    def stop(self) -> None:
        """Take no more jobs. From any thread or signal handler; calling it again, or before the start, is harmless."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._stopping.set()
        for worker in self._workers.values():
            worker.stop()

    async def _serve(self, lane: str) -> None:
        """Keep one lane's worker going until the process stops."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            self._workers[lane] = worker = self._worker(lane)
            try:
                await worker.run()
            except ConnectorException as fault:
                self._manager.note_away(fault)
            except Exception:
                _LOGGER.exception("a worker broke off", lane=lane)
            ran_well = time.monotonic() - started > MAX_PAUSE_SECONDS
            pause = FIRST_PAUSE_SECONDS if ran_well else min(pause * 2, MAX_PAUSE_SECONDS)
            await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({stopping}, timeout=seconds)
        stopping.cancel()

    def _worker(self, lane: str) -> Worker:
        return Worker(
            self._app,
            queues=[lane],
            name=lane,
            concurrency=self._at_once[lane],
            fetch_job_polling_interval=POLL_SECONDS,
            abort_job_polling_interval=_NEVER,
            shutdown_graceful_timeout=self._grace_seconds,
            delete_jobs="successful",
            install_signal_handlers=False,
            update_heartbeat_interval=_NEVER,
            stalled_worker_timeout=PRUNE_SECONDS,
        )

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._beat()

    async def _beat(self) -> None:
        started = time.monotonic()
        if await self._manager.beat():
            self._beaten_at = started
            self._rescuer.note_beat(started)

    async def _job(self, context: JobContext, extraction_id: str, **carried: str) -> None:
        """One job; what it raises brings it back: the database is away, or the process stops at a wrong moment."""
        with self._spans.running(extraction_id, context.job.queue, brought_by(context.job, carried)) as span:
            ending = await self._attempt(extraction_id)
            span.set_attribute(OUTCOME, ending)
        self._observer.record(JobAttempted(extraction_id, ending))

    async def _attempt(self, extraction_id: str) -> Ending:
        try:
            return await self._run(extraction_id)
        except DependencyUnavailable:
            _LOGGER.warning("a job was broken off: the database is away", extraction_id=extraction_id)
            self._observer.record(JobAttempted(extraction_id, "crashed"))
            raise
        except Exception:
            _LOGGER.exception("an extraction failed for an unexpected reason", extraction_id=extraction_id)
            return "failed"

    async def _delivery(self, context: JobContext, delivery_id: str, **carried: str) -> None:
        """One webhook's job; what it raises brings it back: the webhook is sent again, under the same id."""
        assert self._deliver is not None  # noqa: S101 -- its queue is not asked otherwise
        with self._delivery_spans.running(delivery_id, context.job.queue, brought_by(context.job, carried)) as span:
            try:
                span.set_attribute(OUTCOME, await self._deliver(delivery_id))
            except DependencyUnavailable:
                _LOGGER.warning("a webhook's job was broken off: the database is away", delivery_id=delivery_id)
                raise
            except Exception:
                _LOGGER.exception("a webhook's job failed for an unexpected reason", delivery_id=delivery_id)
                raise


def _without_arguments(record: logging.LogRecord) -> bool:
    """Procrastinate writes a job's arguments into its lines; what matters of ours is told here."""
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

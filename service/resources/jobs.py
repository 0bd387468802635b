"""The job queue of one process: what enqueues jobs, what runs them when this process does, and what measures them."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.trace import NoOpTracerProvider

from service.extractions.repeat import RepeatExtraction
from service.extractions.retention import Housekeeping
from service.extractions.run import RunExtraction
from service.features.delivery import WebhookSender
from service.features.extract import AcceptExtraction, Pipeline
from service.jobs.housekeeper import Housekeeper
from service.jobs.monitor import QueueMonitor
from service.jobs.queue import ProcrastinateQueue
from service.jobs.worker import JobWorker
from service.resources.computing import open_quotas
from service.resources.extracting import Extracting, ExtractionBackend
from service.resources.storage import Storage
from service.resources.telemetry import Telemetry
from service.webhooks.deliver import DeliverWebhook


@dataclass(frozen=True, slots=True)
class Jobs:
    """The use cases around the queue."""

    accept: AcceptExtraction
    queue: ProcrastinateQueue
    repeat: RepeatExtraction
    monitor: QueueMonitor
    worker: JobWorker | None
    """None, as the housekeeper, in a process that runs no extractions."""
    housekeeper: Housekeeper | None


def open_jobs(storage: Storage, telemetry: Telemetry, extracting: Extracting, sender: WebhookSender | None) -> Jobs:
    """Compose the use cases, with a worker when this process runs extractions; connects to nothing yet."""
    queue = ProcrastinateQueue(telemetry.tracing.provider)
    accept = AcceptExtraction(
        store=storage.store,
        queue=queue,
        capacity=extracting.capacity,
        clock=storage.clock,
        new_id=storage.new_id,
        quotas=open_quotas(storage),
    )
    repeat = _repeat(storage, telemetry)
    monitor = QueueMonitor(storage.database.store, telemetry.observer)
    if extracting.backend is None:
        return Jobs(accept, queue, repeat, monitor, None, None)
    run = _run(storage, telemetry, extracting.backend, queue)
    worker = _worker(storage, telemetry, run, _deliver(storage, telemetry, queue, sender))
    return Jobs(accept, queue, repeat, monitor, worker, _housekeeper(storage))


def open_queue() -> ProcrastinateQueue:
    """Open the queue for a command, which has no telemetry."""
    return ProcrastinateQueue(NoOpTracerProvider())


def _run(
    storage: Storage, telemetry: Telemetry, backend: ExtractionBackend, queue: ProcrastinateQueue
) -> RunExtraction:
    pipeline = Pipeline(
        store=storage.store,
        planner=backend.planner,
        compute=backend.engine,
        measure=backend.engine,
        observer=telemetry.observer,
    )
    return RunExtraction(
        pipeline,
        store=storage.store,
        queue=queue,
        artifacts=storage.artifacts,
        observer=telemetry.observer,
        clock=storage.clock,
        seconds=storage.settings.extraction_timeout_seconds,
    )


def _deliver(
    storage: Storage, telemetry: Telemetry, queue: ProcrastinateQueue, sender: WebhookSender | None
) -> DeliverWebhook | None:
    if sender is None:
        return None
    return DeliverWebhook(
        store=storage.store, queue=queue, sender=sender, observer=telemetry.observer, clock=storage.clock
    )


def _worker(storage: Storage, telemetry: Telemetry, run: RunExtraction, deliver: DeliverWebhook | None) -> JobWorker:
    return JobWorker(
        run,
        deliver=deliver,
        database_url=storage.database_url,
        observer=telemetry.observer,
        tracer_provider=telemetry.tracing.provider,
        concurrency=storage.settings.worker_concurrency,
        grace_seconds=storage.settings.worker_grace_seconds,
    )


def _repeat(storage: Storage, telemetry: Telemetry) -> RepeatExtraction:
    """Results are repeated for as long as plans are cached: after that a new plan is due anyway."""
    settings = storage.settings
    return RepeatExtraction(
        store=storage.store,
        artifacts=storage.artifacts,
        observer=telemetry.observer,
        clock=storage.clock,
        new_id=storage.new_id,
        entries=settings.plan_cache_entries,
        seconds=settings.plan_cache_seconds,
        max_stored_bytes=settings.max_stored_bytes,
    )


def _housekeeper(storage: Storage) -> Housekeeper:
    housekeeping = Housekeeping(
        upkeep=storage.database.upkeep,
        artifacts=storage.artifacts,
        clock=storage.clock,
        days=storage.settings.retention_days,
    )
    return Housekeeper(housekeeping)

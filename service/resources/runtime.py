"""Everything that one process holds open, in order: telemetry, stores, engine, planner, jobs; closed in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, TextIO

import structlog
from opentelemetry.sdk.trace.export import SpanExporter

from service.features.datasets import UploadDataset
from service.features.extract import AcceptExtraction
from service.features.ports import Clock
from service.jobs.worker import JobWorker
from service.resources.absent import warn_of_absent
from service.resources.computing import open_upload
from service.resources.extracting import Extracting, open_extracting, open_models_early
from service.resources.jobs import Jobs, open_jobs
from service.resources.secrets import read_secret
from service.resources.storage import Storage, open_storage
from service.resources.telemetry import Place, Role, Telemetry, open_telemetry
from service.resources.webhooks import Webhooks, open_webhooks
from service.security.limits import RateLimiter, open_limiter
from service.settings import Settings
from service.store.backup_record import last_backup_at
from service.store.notices import PostgresNotices
from service.store.redis_pool import ping as ping_redis
from service.telemetry.disk import disk_free_bytes, disk_size_bytes
from service.telemetry.exposition import MetricsServer
from service.telemetry.runtime import RuntimeMonitor

DependencyName = Literal["database", "redis", "ai_model"]
Ping = Callable[[], Awaitable[object]]

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class Lifecycle:
    """How far the process has come in its life."""

    ready: bool = False
    draining: bool = False
    worker: JobWorker | None = field(default=None, repr=False)

    def standing(self) -> Literal["ready", "starting", "draining", "unavailable"]:
        """Whether the process does its work; for one without an API, whose database is asked by its heartbeat."""
        if self.draining:
            return "draining"
        if not self.ready:
            return "starting"
        return "ready" if self.worker is None or self.worker.alive else "unavailable"


@dataclass(slots=True, kw_only=True)
class Runtime:
    """The open resources of one process, and its life between start and stop."""

    role: Role
    settings: Settings
    telemetry: Telemetry
    storage: Storage
    extracting: Extracting
    upload: UploadDataset
    jobs: Jobs
    webhooks: Webhooks
    notices: PostgresNotices
    limiter: RateLimiter
    metrics_server: MetricsServer | None
    lifecycle: Lifecycle
    development_key: str | None = None
    """In development and tests, once running."""
    new_development_key: bool = False

    @property
    def accept(self) -> AcceptExtraction:
        """Takes requests in."""
        return self.jobs.accept

    @property
    def metrics_address(self) -> str | None:
        """Where the metrics port answers; None when it does not."""
        if self.metrics_server is None or not self.settings.prometheus_enabled:
            return None
        return f"http://{self.settings.host}:{self.metrics_server.port}/metrics"

    def pings(self) -> Mapping[DependencyName, Ping]:
        """The configured dependencies, each with a call that raises when it is away."""
        pings: dict[DependencyName, Ping] = {
            "database": self.storage.store.ping,
            "ai_model": self.extracting.capacity.ping,
        }
        if (pool := self.storage.redis_pool) is not None:
            pings["redis"] = lambda: ping_redis(pool)
        return pings

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Migrate, then work until the block ends; whatever happens, everything is closed and flushed.

        Raises DependencyUnusable, and what `Database.prepare` raises beside it.
        """
        async with AsyncExitStack() as stack:
            stack.callback(self.telemetry.tracing.shutdown)
            if self.metrics_server is not None:
                stack.callback(self.metrics_server.close)
            stack.push_async_callback(self.storage.close)
            stack.push_async_callback(self.extracting.close)
            if not await self.storage.database.prepare():
                _LOGGER.warning("a newer release has migrated the database, and this one still works on it")
            stack.callback(asyncio.create_task(warn_of_absent(self.storage), name="absent").cancel)
            await self._keep_development_key()
            if self.extracting.means is not None:
                await stack.enter_async_context(self.extracting.means.planning)
            await stack.enter_async_context(self.notices)
            await stack.enter_async_context(self._monitor())
            await stack.enter_async_context(self.jobs.monitor)
            if self.jobs.worker is not None:
                await stack.enter_async_context(self.jobs.worker)
            if self.jobs.housekeeper is not None:
                await stack.enter_async_context(self.jobs.housekeeper)
            self.lifecycle.ready = True
            stack.callback(self.drain)
            yield

    def drain(self) -> None:
        """Asked to stop: new traffic belongs elsewhere, and no job is taken any more. From any thread or handler."""
        self.lifecycle.draining = True
        if self.jobs.worker is not None:
            self.jobs.worker.stop()

    def _monitor(self) -> RuntimeMonitor:
        metrics, settings = self.telemetry.metrics, self.settings
        limit = settings.database_pool_size + settings.database_max_overflow
        metrics.gauge("db_pool_connections_limit").child().set(limit)
        return RuntimeMonitor(
            metrics,
            checks=self.pings(),
            pool=self.storage.database.pool_connections,
            slow_gauges={
                "backup_last_success_timestamp_seconds": lambda: last_backup_at(self.storage.artifacts),
                "data_disk_free_bytes": lambda: disk_free_bytes(settings.data_dir),
                "data_disk_size_bytes": lambda: disk_size_bytes(settings.data_dir),
            },
        )

    async def _keep_development_key(self) -> None:
        if self.role != "api" or self.settings.environment not in {"development", "test"}:
            return
        before = read_secret(self.storage.development_key_path)
        self.development_key = await self.storage.development_key()
        self.new_development_key = self.development_key != before


def open_runtime(
    settings: Settings,
    *,
    role: Role = "api",
    place: Place | None = None,
    clock: Clock | None = None,
    span_exporters: Sequence[SpanExporter] | None = None,
    log_stream: TextIO | None = None,
) -> Runtime:
    """Open what a process of that role needs; `place` is given to one of several workers.

    The other keywords replace parts, for tests.

    Raises ModelConfigurationError, EmbeddedUnavailable, MetricsPortUnavailable, or ValueError for an address that
    cannot be used; then everything opened so far is closed.
    """
    with ExitStack() as undo:
        telemetry = open_telemetry(
            settings, role=role, place=place, span_exporters=span_exporters, log_stream=log_stream
        )
        undo.callback(telemetry.close)
        working = role == "worker" or settings.worker_in_api
        models = open_models_early(settings, telemetry) if working else None
        lifecycle = Lifecycle()
        metrics_server = None
        if place is None:
            metrics_server = _metrics_server(settings, telemetry, lifecycle if role == "worker" else None)
        if metrics_server is not None:
            undo.callback(metrics_server.close)
        storage = open_storage(settings, clock=clock, tracer_provider=telemetry.tracing.children)
        extracting = open_extracting(storage, telemetry, models)
        webhooks = open_webhooks(storage, telemetry)
        jobs = open_jobs(storage, telemetry, extracting, webhooks.sender)
        lifecycle.worker = jobs.worker
        runtime = Runtime(
            role=role,
            settings=settings,
            telemetry=telemetry,
            storage=storage,
            extracting=extracting,
            upload=open_upload(storage, extracting.reader),
            jobs=jobs,
            webhooks=webhooks,
            notices=storage.database.notices(),
            limiter=open_limiter(
                settings.rate_limit_per_minute,
                storage.redis_pool,
                tracer=telemetry.tracing.children.get_tracer("service.security"),
            ),
            metrics_server=metrics_server,
            lifecycle=lifecycle,
        )
        undo.pop_all()
    return runtime


def _metrics_server(settings: Settings, telemetry: Telemetry, lifecycle: Lifecycle | None) -> MetricsServer | None:
    """The metrics port, with health for a process that has no other port."""
    registry = telemetry.metrics.registry if settings.prometheus_enabled else None
    if registry is None and lifecycle is None:
        return None
    readiness = lifecycle.standing if lifecycle else None
    return MetricsServer(registry, host=settings.host, port=settings.prometheus_port, readiness=readiness)

"""All open parts of one process, in order: telemetry, stores, engine, planner, jobs; closed in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import structlog

from service.features.datasets import UploadDataset
from service.features.extract import AcceptExtraction
from service.features.stores import Notices
from service.jobs.worker import JobWorker
from service.resources.absent import warn_of_absent_dependencies
from service.resources.computing import open_upload
from service.resources.extracting import Extracting, open_configured_models, open_extracting
from service.resources.jobs import Jobs, open_jobs
from service.resources.overrides import NO_OVERRIDES, Overrides
from service.resources.secrets import read_secret
from service.resources.storage import Storage, open_storage
from service.resources.telemetry import Role, Telemetry, WorkerIdentity, open_telemetry
from service.resources.webhooks import Webhooks, open_webhooks
from service.security.limits import RateLimiter, open_limiter
from service.settings import Settings
from service.store.backup_record import last_backup_at
from service.store.notices import PostgresNotices
from service.store.redis_pool import ping as ping_redis
from service.telemetry.disk import disk_free_bytes, disk_size_bytes
from service.telemetry.exposition import MetricsServer
from service.telemetry.runtime import RuntimeMonitor

if TYPE_CHECKING:
    from service.agents.providers import Model

DependencyName = Literal["database", "redis", "ai_model"]
Ping = Callable[[], Awaitable[object]]

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class Lifecycle:
    """Whether the process has started and whether it is stopping."""

    ready: bool = False
    draining: bool = False
    worker: JobWorker | None = field(default=None, repr=False)
    extracting: Extracting | None = field(default=None, repr=False)

    @property
    def alive(self) -> bool:
        """Whether the process can do its work without being replaced: False when the engine has lost every place."""
        return self.extracting is None or self.extracting.alive

    def liveness(self) -> Literal["alive", "stuck"]:
        """Return the liveness, as health says it."""
        return "alive" if self.alive else "stuck"

    def readiness(self) -> Literal["ready", "starting", "draining", "unavailable"]:
        """Return the readiness of a process without an API; its heartbeat shows whether it reaches the database."""
        if self.draining:
            return "draining"
        if not self.ready:
            return "starting"
        return "ready" if self.alive and (self.worker is None or self.worker.alive) else "unavailable"


@dataclass(slots=True, kw_only=True)
class Runtime:
    """The open parts of one process, and what starts and stops them."""

    role: Role
    settings: Settings
    telemetry: Telemetry
    storage: Storage
    extracting: Extracting
    upload: UploadDataset
    jobs: Jobs
    webhooks: Webhooks
    database_notices: PostgresNotices
    notices: Notices
    limiter: RateLimiter
    metrics_server: MetricsServer | None
    lifecycle: Lifecycle
    development_key: str | None = None
    """In development and tests, once running."""
    new_development_key: bool = False

    @property
    def accept(self) -> AcceptExtraction:
        """The use case that accepts extractions."""
        return self.jobs.accept

    @property
    def metrics_address(self) -> str | None:
        """The URL of the metrics; None when there is no metrics port."""
        if self.metrics_server is None or not self.settings.prometheus_enabled:
            return None
        return f"http://{self.settings.host}:{self.metrics_server.port}/metrics"

    def pings(self) -> Mapping[DependencyName, Ping]:
        """Return the configured dependencies, each with a call that raises when it cannot be reached."""
        pings: dict[DependencyName, Ping] = {
            "database": self.storage.store.ping,
            "ai_model": self.extracting.capacity.ping,
        }
        if (pool := self.storage.redis_pool) is not None:
            pings["redis"] = lambda: ping_redis(pool)
        return pings

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Migrate the database and start; when the block ends, however it ends, stop, close and flush everything.

        Raises DependencyUnusable, and what else `Database.prepare` raises.
        """
        async with AsyncExitStack() as stack:
            stack.callback(self.telemetry.tracing.shutdown)
            if self.metrics_server is not None:
                stack.callback(self.metrics_server.close)
            stack.push_async_callback(self.storage.close)
            stack.push_async_callback(self.extracting.close)
            self.extracting.start()
            if not await self.storage.database.prepare():
                _LOGGER.warning("a newer release has migrated the database, and this one still works on it")
            stack.callback(asyncio.create_task(warn_of_absent_dependencies(self.storage), name="absent").cancel)
            await self._keep_development_key()
            if self.extracting.backend is not None:
                await stack.enter_async_context(self.extracting.backend.planner)
            await stack.enter_async_context(self.database_notices)
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
        """Let readiness fall and start no more jobs. Callable from any thread and signal handler."""
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
                "stored_bytes": self.storage.database.upkeep.stored_bytes,
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
    worker: WorkerIdentity | None = None,
    overrides: Overrides = NO_OVERRIDES,
) -> Runtime:
    """Open the parts of a process of that role; `worker` says which one it is of several behind one port.

    Raises ModelConfigurationError, EmbeddedUnavailable, MetricsPortUnavailable, and ValueError for an address that
    cannot be used; everything opened so far is closed then.
    """
    with ExitStack() as undo:
        telemetry = open_telemetry(settings, role=role, worker=worker, overrides=overrides)
        undo.callback(telemetry.close)
        models = _models(settings, role, telemetry, overrides)
        lifecycle = Lifecycle()
        metrics_server = None
        if worker is None:
            metrics_server = _metrics_server(settings, telemetry, lifecycle if role == "worker" else None)
        if metrics_server is not None:
            undo.callback(metrics_server.close)
        storage = open_storage(settings, tracer_provider=telemetry.tracing.children, overrides=overrides)
        extracting = open_extracting(storage, telemetry, models, overrides)
        notices = storage.database.notices()
        webhooks = open_webhooks(storage, telemetry, overrides)
        jobs = open_jobs(storage, telemetry, extracting, webhooks.sender)
        lifecycle.worker, lifecycle.extracting = jobs.worker, extracting
        runtime = Runtime(
            role=role,
            settings=settings,
            telemetry=telemetry,
            storage=storage,
            extracting=extracting,
            upload=open_upload(storage, extracting.reader),
            jobs=jobs,
            webhooks=webhooks,
            database_notices=notices,
            notices=notices if overrides.wrap_notices is None else overrides.wrap_notices(notices),
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


def _models(settings: Settings, role: Role, telemetry: Telemetry, overrides: Overrides) -> Mapping[str, Model] | None:
    """Open the models of a process that runs extractions; None for one that runs none."""
    if role == "api" and not settings.worker_in_api:
        return None
    return {} if overrides.planner is not None else open_configured_models(settings, telemetry)


def _metrics_server(settings: Settings, telemetry: Telemetry, lifecycle: Lifecycle | None) -> MetricsServer | None:
    """Open the metrics port; with a lifecycle it answers the health probes of a process that has no other port."""
    registry = telemetry.metrics.registry if settings.prometheus_enabled else None
    if registry is None and lifecycle is None:
        return None
    return MetricsServer(registry, host=settings.host, port=settings.prometheus_port, health=lifecycle)

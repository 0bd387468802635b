"""Everything that one API process holds open, in order: telemetry, stores, engine, planner; closed in reverse."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal, TextIO

from opentelemetry.sdk.trace.export import SpanExporter

from service.features.datasets import UploadDataset
from service.features.extract import ExtractFeatures
from service.features.ports import Clock, Engine
from service.resources.computing import open_engine, open_upload
from service.resources.planning import Planning, open_models, open_planning
from service.resources.secrets import read_secret
from service.resources.storage import Storage, new_id, open_storage
from service.resources.telemetry import Telemetry, open_telemetry
from service.security.limits import RateLimiter, open_limiter
from service.settings import Settings
from service.store.redis_pool import ping as ping_redis
from service.telemetry.exposition import MetricsServer
from service.telemetry.runtime import RuntimeMonitor

DependencyName = Literal["database", "redis", "ai_model"]
Ping = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Lifecycle:
    """How far the process has come in its life."""

    ready: bool = False
    draining: bool = False


@dataclass(slots=True, kw_only=True)
class Runtime:
    """The open resources of one process, and its life between start and stop."""

    settings: Settings
    telemetry: Telemetry
    storage: Storage
    engine: Engine
    planner: Planning
    upload: UploadDataset
    extract: ExtractFeatures
    limiter: RateLimiter
    metrics_server: MetricsServer | None
    lifecycle: Lifecycle
    development_key: str | None = None
    """In development and tests, once running."""
    new_development_key: bool = False

    @property
    def metrics_address(self) -> str | None:
        """Where the metrics port answers; None when it does not."""
        return f"http://{self.settings.host}:{self.metrics_server.port}/metrics" if self.metrics_server else None

    def pings(self) -> Mapping[DependencyName, Ping]:
        """The configured dependencies, each with a call that raises when it is away."""
        pings: dict[DependencyName, Ping] = {"database": self.storage.store.ping, "ai_model": self.planner.ping}
        if (pool := self.storage.redis_pool) is not None:
            pings["redis"] = lambda: ping_redis(pool)
        return pings

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Migrate, then serve until the block ends; whatever happens, everything is closed and flushed."""
        async with AsyncExitStack() as stack:
            stack.callback(self.telemetry.tracing.shutdown)
            if self.metrics_server is not None:
                stack.callback(self.metrics_server.close)
            stack.push_async_callback(self.storage.close)
            await self.storage.database.migrate()
            await self._keep_development_key()
            await stack.enter_async_context(self.planner)
            await stack.enter_async_context(
                RuntimeMonitor(self.telemetry.metrics, checks=self.pings(), pool=self.storage.database.pool_connections)
            )
            self.lifecycle.ready = True
            stack.callback(self._stop)
            yield

    def _stop(self) -> None:
        self.lifecycle.draining = True

    async def _keep_development_key(self) -> None:
        if self.settings.environment not in {"development", "test"}:
            return
        before = read_secret(self.storage.development_key_path)
        self.development_key = await self.storage.development_key()
        self.new_development_key = self.development_key != before


def open_runtime(
    settings: Settings,
    *,
    clock: Clock | None = None,
    span_exporters: Sequence[SpanExporter] | None = None,
    log_stream: TextIO | None = None,
) -> Runtime:
    """Open what an API process needs; the keywords replace parts, for tests.

    Raises ModelConfigurationError, EmbeddedUnavailable, MetricsPortUnavailable, or ValueError for an address that
    cannot be used; then everything opened so far is closed.
    """
    with ExitStack() as undo:
        telemetry = open_telemetry(settings, span_exporters=span_exporters, log_stream=log_stream)
        undo.callback(telemetry.close)
        models = open_models(settings)
        metrics_server = _metrics_server(settings, telemetry)
        if metrics_server is not None:
            undo.callback(metrics_server.close)
        storage = open_storage(settings, clock=clock, tracer_provider=telemetry.tracing.provider)
        engine = open_engine(storage)
        planner = open_planning(
            models,
            storage,
            rehearsal=engine,
            observer=telemetry.observer,
            tracer_provider=telemetry.tracing.provider,
        )
        runtime = Runtime(
            settings=settings,
            telemetry=telemetry,
            storage=storage,
            engine=engine,
            planner=planner,
            upload=open_upload(storage, engine),
            extract=ExtractFeatures(
                store=storage.store,
                planner=planner,
                engine=engine,
                observer=telemetry.observer,
                clock=storage.clock,
                new_id=new_id,
            ),
            limiter=open_limiter(settings.rate_limit_per_minute, storage.redis_pool),
            metrics_server=metrics_server,
            lifecycle=Lifecycle(),
        )
        undo.pop_all()
    return runtime


def _metrics_server(settings: Settings, telemetry: Telemetry) -> MetricsServer | None:
    if not settings.prometheus_enabled:
        return None
    return MetricsServer(telemetry.metrics.registry, host=settings.host, port=settings.prometheus_port)

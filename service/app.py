"""The composition root of the API, on one screen: settings → resources → routes → observer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from litestar import Litestar
from litestar.types import ASGIApp

from service import __version__
from service.api.application import create_api
from service.api.feed import StateFeed
from service.api.observability_links import ObservabilityLinks
from service.api.services import ApiConfig, ApiServices, HealthCheck
from service.resources.computing import open_quotas
from service.resources.overrides import NO_OVERRIDES, Overrides
from service.resources.runtime import Runtime, open_runtime
from service.security.guesses import GuessLimiter
from service.security.shares import Shares
from service.settings import Settings, load_settings
from service.store.budgets import PostgresBudgets
from service.telemetry.exposition import metrics_app
from service.telemetry.http import HttpObserver
from service.telemetry.http_transaction import Application


def create_app(settings: Settings | None = None, *, overrides: Overrides = NO_OVERRIDES) -> Litestar:
    """Compose the service for any ASGI server; its parts are in `app.state.runtime`, and its lifespan runs them.

    Raises what `open_runtime` raises, and SettingsError when it has to read the settings itself.
    """
    return build_app(open_runtime(settings or load_settings(), overrides=overrides))


def build_app(runtime: Runtime, *, running: bool = False) -> Litestar:
    """Build the application on open parts, which its lifespan runs, unless the caller does (`running`)."""
    app = create_api(api_services(runtime, running=running), api_config(runtime.settings))
    app.state.runtime = runtime
    telemetry = runtime.telemetry
    telemetry.metrics.expect_routes(
        (method, route.path_format) for route in app.routes for method in getattr(route, "methods", None) or ("GET",)
    )
    observed = HttpObserver(
        cast("Application", app.asgi_handler),
        metrics=telemetry.metrics,
        tracer_provider=telemetry.tracing.provider,
        access=telemetry.logs.access,
        trust_traceparent=runtime.settings.trust_traceparent,
    )
    app.asgi_handler = cast("ASGIApp", observed)
    return app


def api_services(runtime: Runtime, *, running: bool = False) -> ApiServices:
    """Collect what the routes call; the lifespan among it runs the parts, unless the caller does (`running`)."""
    settings, telemetry = runtime.settings, runtime.telemetry

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        async with runtime.running():
            yield

    return ApiServices(
        store=runtime.storage.store,
        artifacts=runtime.storage.artifacts,
        reader=runtime.extracting.reader,
        upload=runtime.upload,
        quotas=open_quotas(runtime.storage),
        budgets=PostgresBudgets(runtime.storage.database.store),
        accept=runtime.accept,
        queue=runtime.jobs.queue,
        callbacks=runtime.webhooks.policy,
        webhook_secrets=runtime.webhooks.secrets.of,
        repeat=runtime.jobs.repeat,
        notices=runtime.notices,
        feed=StateFeed(runtime.storage.store, runtime.notices, lambda: runtime.lifecycle.draining),
        authenticator=runtime.storage.authenticator,
        guesses=GuessLimiter(settings.failed_logins_per_minute),
        limiter=runtime.limiter,
        shares=Shares(settings.shares()),
        observer=telemetry.observer,
        clock=runtime.storage.clock,
        lifecycle=runtime.lifecycle,
        observability_links=ObservabilityLinks(settings.trace_url, settings.logs_url, settings.dashboard_url),
        health_checks=[HealthCheck(name, ping, name == "database") for name, ping in runtime.pings().items()],
        metrics=cast("ASGIApp", metrics_app(telemetry.metrics.registry)) if settings.metrics_on_api_port else None,
        lifespan=[] if running else [lifespan],
    )


def api_config(settings: Settings) -> ApiConfig:
    """Derive the values that shape the API from the settings."""
    return ApiConfig(
        version=__version__,
        allowed_hosts=settings.allowed_hosts,
        cors_origins=settings.cors_origins,
        api_key_header=settings.api_key_header,
        max_upload_bytes=settings.max_upload_bytes,
        max_rows=settings.max_rows,
        max_cells=settings.max_cells,
        budget_tokens_per_day=settings.budget_tokens_per_day,
        budget_usd_per_day=settings.budget_usd_per_day,
        sync_wait_seconds=settings.sync_wait_seconds,
        waiting_clients=settings.waiting_clients(),
    )

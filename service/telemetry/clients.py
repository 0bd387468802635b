"""Add spans to Redis and HTTP clients, one client at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import httpx2
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import (
    HTTPX2ClientInstrumentor,  # pyright: ignore[reportPrivateImportUsage] -- its package lists only the older one
)
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import TracerProvider
from redis.asyncio import Redis

WatchRedis = Callable[[Redis], None]
WatchHttp = Callable[[httpx2.AsyncClient], None]


def redis_watcher(provider: TracerProvider) -> WatchRedis:
    """Return a function that gives a Redis client spans for its commands, without arguments, within a recorded trace.

    Outside a trace, commands bypass the instrumentation, which would take longer than the command.
    """

    def watch(client: Redis) -> None:
        watched: Any = client
        bare = watched.execute_command, watched.pipeline
        RedisInstrumentor.instrument_client(client, provider)
        watched.execute_command = _chosen(bare[0], watched.execute_command)
        watched.pipeline = _chosen(bare[1], watched.pipeline)

    return watch


def http_watcher(provider: TracerProvider) -> WatchHttp:
    """Return a function that gives an HTTP client a child span for each request and propagates the trace."""

    def watch(client: httpx2.AsyncClient) -> None:
        # Its annotations accept only the clients of httpx.
        HTTPX2ClientInstrumentor.instrument_client(cast("Any", client), provider, NoOpMeterProvider())

    return watch


def _chosen(bare: Callable[..., Any], traced: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        return (traced if trace.get_current_span().is_recording() else bare)(*args, **options)

    return call

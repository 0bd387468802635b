"""Spans for what the service asks of Redis and of other services over HTTP, one client at a time."""

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
    """What gives a Redis client spans for its commands, without their arguments, within a recorded trace.

    Outside of one a command does not enter the instrumentation at all, which would cost it more than it takes.
    """

    def watch(client: Redis) -> None:
        watched: Any = client
        bare = watched.execute_command, watched.pipeline
        RedisInstrumentor.instrument_client(client, provider)
        watched.execute_command = _chosen(bare[0], watched.execute_command)
        watched.pipeline = _chosen(bare[1], watched.pipeline)

    return watch


def http_watcher(provider: TracerProvider) -> WatchHttp:
    """What gives an HTTP client a span for each request, which carries the trace on; `provider` makes children only."""

    def watch(client: httpx2.AsyncClient) -> None:
        # Its annotations know the clients of httpx alone.
        HTTPX2ClientInstrumentor.instrument_client(cast("Any", client), provider, NoOpMeterProvider())

    return watch


def _chosen(bare: Callable[..., Any], traced: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        return (traced if trace.get_current_span().is_recording() else bare)(*args, **options)

    return call

"""Status reads in Litestar with its own plugins: OpenTelemetry, Prometheus, structlog, rate limit, JWT.

States are pickled in Redis, as the seed design's are.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotFoundException
from litestar.logging import StructLoggingConfig
from litestar.middleware.logging import LoggingMiddlewareConfig
from litestar.middleware.rate_limit import RateLimitConfig
from litestar.plugins.opentelemetry import OpenTelemetryConfig, OpenTelemetryPlugin
from litestar.plugins.prometheus import PrometheusConfig, PrometheusController
from litestar.plugins.structlog import StructlogConfig, StructlogPlugin
from litestar.security.jwt import JWTAuth, Token
from litestar.stores.redis import RedisStore
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from redis.asyncio import Redis

states = Redis.from_url(os.environ["SEED_REDIS_URL"])


@dataclass
class User:
    """Who calls."""

    id: str


async def find_user(token: Token, _: ASGIConnection[Any, Any, Any, Any]) -> User:
    """Whom the token speaks for."""
    return User(token.sub)


@get("/api/v1/extraction/{extraction_id:str}/status")
async def status(extraction_id: str) -> dict[str, Any]:
    """How far it has come."""
    data = await states.get(f"extraction:{extraction_id}")
    if not data:
        raise NotFoundException
    state = pickle.loads(data)  # noqa: S301 -- kept as the seed keeps it
    return {
        "extraction_id": extraction_id,
        "status": state["status"],
        "progress": state.get("progress", 0),
        "estimated_completion": state.get("estimated_completion"),
        "error_message": state.get("error_message"),
    }


@get("/health", exclude_from_auth=True)
async def health() -> dict[str, str]:
    """Alive."""
    return {"status": "healthy"}


@asynccontextmanager
async def lifespan(_: Litestar) -> AsyncIterator[None]:
    """Keep the state that is read."""
    await states.set("extraction:benchmark", pickle.dumps({"status": "completed", "progress": 100}))
    yield
    await states.aclose()


def create_app() -> Litestar:
    """All of them together."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    auth = JWTAuth[User](
        retrieve_user_handler=find_user,
        token_secret=os.environ["SEED_JWT_SECRET"],
        exclude=["/health", "/metrics"],
        accepted_audiences=["seed"],
    )
    limit = RateLimitConfig(rate_limit=("minute", 1_000_000_000), store="limits", exclude=["/health", "/metrics"])
    logging = StructlogConfig(
        structlog_logging_config=StructLoggingConfig(log_exceptions="always"),
        middleware_logging_config=LoggingMiddlewareConfig(
            request_log_fields=("method", "path"), response_log_fields=("status_code",)
        ),
    )
    return Litestar(
        [status, health, PrometheusController],
        openapi_config=None,
        lifespan=[lifespan],
        on_app_init=[auth.on_app_init],
        middleware=[limit.middleware, PrometheusConfig(app_name="litestar", group_path=True).middleware],
        plugins=[
            OpenTelemetryPlugin(OpenTelemetryConfig(tracer_provider=provider, exclude=["/metrics", "/health"])),
            StructlogPlugin(logging),
        ],
        stores={"limits": RedisStore.with_client(os.environ["SEED_REDIS_URL"])},
    )


if __name__ == "__main__":
    uvicorn.run(create_app(), host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_config=None)

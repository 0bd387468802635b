"""Status reads in Litestar with its own plugins: OpenTelemetry, Prometheus, structlog, rate limit, JWT."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
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
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from loadtest.benchmarks.api.seed.storage import Dataset, Extraction, create_tables

engine = create_async_engine(os.environ["SEED_DATABASE_URL"], pool_size=10, max_overflow=10, pool_pre_ping=True)
Sessions = async_sessionmaker(engine, expire_on_commit=False)


@dataclass
class User:
    """Who calls."""

    id: str


async def find_user(token: Token, _: ASGIConnection[Any, Any, Any, Any]) -> User:
    """Whom the token speaks for."""
    return User(token.sub)


@get("/api/v1/extraction/{extraction_id:str}/status")
async def status(extraction_id: str, request: Any) -> dict[str, Any]:
    """How far it has come."""
    async with Sessions() as session:
        row = await session.get(Extraction, extraction_id)
    if row is None or row.owner != request.user.id:
        raise NotFoundException
    return {
        "status": "success",
        "data": {
            "extraction_id": row.id,
            "status": row.status,
            "progress": row.progress,
            "estimated_completion": row.finished_at,
            "error_message": row.error_message,
        },
    }


@get("/health", exclude_from_auth=True)
async def health() -> dict[str, str]:
    """Alive."""
    return {"status": "healthy"}


@asynccontextmanager
async def lifespan(_: Litestar) -> AsyncIterator[None]:
    """Make the tables and the extraction that is read."""
    await create_tables(engine)
    async with Sessions() as session:
        session.add(Dataset(id="events", owner="development", path="", row_count=0, columns=[]))
        await session.flush()
        session.add(
            Extraction(
                id="benchmark", owner="development", dataset_id="events", feature_description="x",
                status="completed", progress=100, finished_at=datetime.now(UTC),
            )
        )  # fmt: skip
        await session.commit()
    yield
    await engine.dispose()


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

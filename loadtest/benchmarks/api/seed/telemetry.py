"""Logs, metrics and traces the usual way: stdlib JSON logging, prometheus_client, OpenTelemetry's instrumentations."""

from __future__ import annotations

import json
import logging
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime

from fastapi import FastAPI, Request, Response
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import Counter, Gauge, Histogram, make_asgi_app
from sqlalchemy.ext.asyncio import AsyncEngine

request_id_var: ContextVar[str] = ContextVar("request_id", default="")

REQUESTS = Counter("http_requests_total", "HTTP requests.", ["method", "endpoint", "status"])
DURATION = Histogram("http_request_duration_seconds", "Duration of HTTP requests.", ["method", "endpoint"])
IN_PROGRESS = Gauge("http_requests_in_progress", "HTTP requests being served.")

logger = logging.getLogger("seed")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        span = trace.get_current_span().get_span_context()
        line = {
            "timestamp": datetime.now(UTC).isoformat(),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "request_id": request_id_var.get(),
            "trace_id": format(span.trace_id, "032x") if span.is_valid else None,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging() -> None:
    """JSON on standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def instrument(app: FastAPI, engine: AsyncEngine) -> None:
    """Trace requests, statements and Redis commands; the sampler is that of `OTEL_TRACES_SAMPLER`, all by default."""
    provider = TracerProvider(resource=Resource.create({"service.name": "seed"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app, excluded_urls="/metrics,/health")
    SQLAlchemyInstrumentor().instrument(engine=engine.sync_engine)
    RedisInstrumentor().instrument()


def observe(app: FastAPI) -> None:
    """Count, time and log every request, and serve `/metrics`."""
    app.mount("/metrics", make_asgi_app())

    @app.middleware("http")
    async def observe_request(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request_id = request.headers.get("x-request-id") or str(uuid.uuid4())
        token = request_id_var.set(request_id)
        started = time.perf_counter()
        IN_PROGRESS.inc()
        status = 500
        try:
            response = await call_next(request)
            status = response.status_code
        finally:
            IN_PROGRESS.dec()
            seconds = time.perf_counter() - started
            route = request.scope.get("route")
            endpoint = route.path if route else "unmatched"
            REQUESTS.labels(request.method, endpoint, str(status)).inc()
            DURATION.labels(request.method, endpoint).observe(seconds)
            logger.info(
                "request",
                extra={
                    "fields": {
                        "method": request.method,
                        "path": request.url.path,
                        "status": status,
                        "duration_ms": round(seconds * 1000, 3),
                        "client": request.client.host if request.client else None,
                    }
                },
            )
            request_id_var.reset(token)
        response.headers["X-Request-ID"] = request_id
        response.headers["X-Process-Time"] = f"{seconds:.6f}"
        return response

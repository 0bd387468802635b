"""Logs, metrics and traces of one process, opened before everything that they watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

import structlog
from opentelemetry.sdk.trace.export import SpanExporter
from prometheus_client import CollectorRegistry

from service import __version__
from service.features.ports import Observer
from service.settings import Settings
from service.telemetry.logs import Logs, configure_logging
from service.telemetry.metrics import Metrics
from service.telemetry.observer import TelemetryObserver
from service.telemetry.tracing import Tracing, open_tracing

SERVICE_NAME = "feature-agent"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The three signals and the observer that feeds them."""

    logs: Logs
    metrics: Metrics
    tracing: Tracing
    observer: Observer

    def close(self) -> None:
        """Flush the spans, then give the logging back."""
        self.tracing.shutdown()
        self.logs.close()


def open_telemetry(
    settings: Settings, *, span_exporters: Sequence[SpanExporter] | None = None, log_stream: TextIO | None = None
) -> Telemetry:
    """Configure logging and make the metrics and the tracer provider of this process.

    `span_exporters` replaces the exporters that the environment names, and turns tracing on.
    """
    identity = {"version": __version__, "environment": settings.environment}
    logs = configure_logging(
        level=settings.log_level, log_format=settings.log_format, service=SERVICE_NAME, stream=log_stream, **identity
    )
    metrics = Metrics(CollectorRegistry(), models=settings.model_names(), **identity)
    tracing = open_tracing(
        service_name=SERVICE_NAME,
        enabled=settings.jaeger_enabled or span_exporters is not None,
        endpoint=settings.jaeger_endpoint,
        on_dropped=metrics.spans_dropped,
        exporters=span_exporters,
        **identity,
    )
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("service.extractions")
    return Telemetry(logs, metrics, tracing, TelemetryObserver(metrics, tracing.provider, logger))

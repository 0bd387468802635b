"""Logs, metrics and traces of one process, opened before everything that they watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import structlog
from opentelemetry.sdk.trace.export import SpanExporter
from prometheus_client import CollectorRegistry

from service import __version__
from service.features.ports import Observer
from service.settings import Settings
from service.telemetry.logs import Logs, configure_logging
from service.telemetry.metrics import Metrics
from service.telemetry.mmap_metrics import MmapMetrics
from service.telemetry.observer import TelemetryObserver
from service.telemetry.tracing import Tracing, open_tracing
from service.telemetry.workers import WorkersCollector

SERVICE = "feature-agent"
"""On every log line, and the namespace of the services that traces know: the API and the worker are one each."""
Role = Literal["api", "worker"]


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process stands among several workers."""

    worker: str
    folder: Path
    """Where all of them keep their numbers."""


def open_telemetry(
    settings: Settings,
    *,
    role: Role = "api",
    place: Place | None = None,
    span_exporters: Sequence[SpanExporter] | None = None,
    log_stream: TextIO | None = None,
) -> Telemetry:
    """Configure logging and make the metrics and the tracer provider of this process.

    `place` is given when it is one of several workers. `span_exporters` replaces the exporters that the environment
    names, and turns tracing on.
    """
    identity = {"version": __version__, "environment": settings.environment}
    logs = open_logs(settings, log_stream)
    registry = CollectorRegistry() if place is None else shared_registry(settings, place.folder)
    store = None if place is None else MmapMetrics(place.folder, place.worker)
    metrics = Metrics(registry, models=settings.model_names(), store=store, **identity)
    tracing = open_tracing(
        service_namespace=SERVICE,
        service_name=f"{SERVICE}-{role}",
        enabled=settings.jaeger_enabled or span_exporters is not None,
        endpoint=settings.jaeger_endpoint,
        on_dropped=metrics.spans_dropped,
        exporters=span_exporters,
        **identity,
    )
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("service.extractions")
    return Telemetry(logs, metrics, tracing, TelemetryObserver(metrics, tracing.provider, logger))


def open_logs(settings: Settings, stream: TextIO | None = None) -> Logs:
    """Configure logging alone, as a process does that only keeps others."""
    return configure_logging(
        level=settings.log_level,
        log_format=settings.log_format,
        service=SERVICE,
        version=__version__,
        environment=settings.environment,
        access_sample=settings.access_log_sample,
        stream=stream,
    )


def shared_registry(settings: Settings, folder: Path) -> CollectorRegistry:
    """A registry that gives the numbers of all workers in `folder`."""
    registry = CollectorRegistry()
    registry.register(WorkersCollector(folder, version=__version__, environment=settings.environment))
    return registry

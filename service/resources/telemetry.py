"""Logs, metrics and traces of one process; opened before everything that reports to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import structlog
from prometheus_client import CollectorRegistry

from service import __version__
from service.features.ports import Observer
from service.resources.overrides import NO_OVERRIDES, Overrides
from service.settings import Settings
from service.telemetry.logs import Logs, configure_logging
from service.telemetry.metrics import Metrics
from service.telemetry.mmap_metrics import MmapMetrics
from service.telemetry.observer import TelemetryObserver
from service.telemetry.tracing import Tracing, open_tracing
from service.telemetry.workers import WorkersCollector

SERVICE = "feature-agent"
"""On every log line; in traces the namespace of two services, `feature-agent-api` and `feature-agent-worker`."""
Role = Literal["api", "worker"]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Logs, metrics, traces, and the observer that feeds all three."""

    logs: Logs
    metrics: Metrics
    tracing: Tracing
    observer: Observer

    def close(self) -> None:
        """Export the remaining spans, then restore the logging that was configured before."""
        self.tracing.shutdown()
        self.logs.close()


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Which of several workers behind one port this process is."""

    name: str
    """From "1" to WORKERS."""
    folder: Path
    """Holds the metrics of all of them."""


def open_telemetry(
    settings: Settings,
    *,
    role: Role = "api",
    worker: WorkerIdentity | None = None,
    overrides: Overrides = NO_OVERRIDES,
) -> Telemetry:
    """Configure logging, and create the metrics and the tracer provider of this process.

    `worker` is None unless the process is one of several behind one port.
    """
    release = {"version": __version__, "environment": settings.environment}
    logs = open_logs(settings, overrides.log_stream)
    registry = CollectorRegistry() if worker is None else shared_registry(settings, worker.folder)
    store = None if worker is None else MmapMetrics(worker.folder, worker.name)
    metrics = Metrics(registry, models=settings.model_names(), store=store, **release)
    tracing = open_tracing(
        service_namespace=SERVICE,
        service_name=f"{SERVICE}-{role}",
        enabled=settings.jaeger_enabled or overrides.span_exporters is not None,
        endpoint=settings.jaeger_endpoint,
        on_dropped=metrics.spans_dropped,
        exporters=overrides.span_exporters,
        **release,
    )
    return Telemetry(logs, metrics, tracing, overrides.observer or _observer(metrics, tracing))


def _observer(metrics: Metrics, tracing: Tracing) -> Observer:
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("service.extractions")
    return TelemetryObserver(metrics, tracing.provider, logger)


def open_logs(settings: Settings, stream: TextIO | None = None) -> Logs:
    """Configure only the logging, as the supervisor of several workers does."""
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
    """Create a registry that exposes the metrics of all workers in `folder`."""
    registry = CollectorRegistry()
    registry.register(WorkersCollector(folder, version=__version__, environment=settings.environment))
    return registry

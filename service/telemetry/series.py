"""Define the metric series that the service writes, and their implementation by the Prometheus client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from service.telemetry import catalog
from service.telemetry.catalog_model import Metric


class CounterSeries(Protocol):
    """One series of a counter."""

    def inc(self, amount: float = 1) -> None:
        """Add the amount."""
        ...


class GaugeSeries(Protocol):
    """One series of a gauge."""

    def set(self, value: float) -> None:
        """Set the value."""
        ...

    def inc(self, amount: float = 1) -> None:
        """Add the amount."""
        ...

    def dec(self, amount: float = 1) -> None:
        """Subtract the amount."""
        ...


class HistogramSeries(Protocol):
    """One series of a histogram."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count one observation."""
        ...


class MetricFactory(Protocol):
    """Create series; each is requested once."""

    def counter(self, spec: Metric, labels: tuple[str, ...]) -> CounterSeries:
        """Create a series of a counter."""
        ...

    def gauge(self, spec: Metric, labels: tuple[str, ...]) -> GaugeSeries:
        """Create a series of a gauge."""
        ...

    def histogram(self, spec: Metric, labels: tuple[str, ...]) -> HistogramSeries:
        """Create a series of a histogram."""
        ...


class ClientMetricFactory:
    """Create series of the Prometheus client's metrics, which are all registered at once."""

    def __init__(self, registry: CollectorRegistry, identity: Mapping[str, str]) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for spec in catalog.METRICS:
            self._register(spec, registry, identity)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def counter(self, spec: Metric, labels: tuple[str, ...]) -> Counter:
        """Return a series of a counter."""
        counter = self._counters[spec.name]
        return counter.labels(*labels) if labels else counter

    def gauge(self, spec: Metric, labels: tuple[str, ...]) -> Gauge:
        """Return a series of a gauge."""
        gauge = self._gauges[spec.name]
        return gauge.labels(*labels) if labels else gauge

    def histogram(self, spec: Metric, labels: tuple[str, ...]) -> Histogram:
        """Return a series of a histogram."""
        histogram = self._histograms[spec.name]
        return histogram.labels(*labels) if labels else histogram

    def _register(self, spec: Metric, registry: CollectorRegistry, identity: Mapping[str, str]) -> None:
        name, words, unit = spec.name, spec.help, spec.exposed_unit
        labels = tuple(label.name for label in spec.labels)
        match spec.kind:
            case "counter":
                self._counters[name] = Counter(name, words, labels, unit=unit, registry=registry)
            case "gauge":
                self._gauges[name] = Gauge(name, words, labels, unit=unit, registry=registry)
            case "histogram":
                self._histograms[name] = Histogram(
                    name, words, labels, unit=unit, registry=registry, buckets=spec.buckets
                )
            case "info":
                Info(name.removesuffix("_info"), words, registry=registry).info(dict(identity))

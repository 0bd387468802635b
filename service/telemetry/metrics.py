"""The Prometheus metrics, built from the catalog on a registry that is handed in."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import product
from typing import Generic, TypeVar

import structlog
from opentelemetry.trace import SpanContext
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from service.telemetry import catalog
from service.telemetry.catalog import DynamicSet, Metric

M = TypeVar("M", Counter, Gauge, Histogram)
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


def exemplar_of(span: SpanContext) -> dict[str, str] | None:
    """The exemplar that leads to the span's trace; None unless the trace is sampled, for a link must lead somewhere.

    63 characters with both names, under the 128 of OpenMetrics over which the client raises.
    """
    if not (span.trace_flags.sampled and span.is_valid):
        return None
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


class Family(Generic[M]):
    """One metric with its series; a value outside its label's closed set becomes the label's fallback.

    Only series of closed sets are kept, so nothing a client sends can make the table or the scrape grow.
    """

    def __init__(self, spec: Metric, metric: M, allowed: tuple[Collection[str], ...]) -> None:
        self._spec = spec
        self._metric = metric
        self._allowed = allowed
        self._children: dict[tuple[str, ...], M] = {} if spec.labels else {(): metric}
        self._told: set[str] = set()

    def child(self, *values: str) -> M:
        """The series of these label values, in the catalog's order; a dictionary look-up once it exists."""
        found = self._children.get(values)
        return self._resolve(values) if found is None else found

    def zero(self) -> None:
        """Make every combination of known values, so that each is exported as 0."""
        for values in product(*self._allowed):
            self.child(*values)

    def _resolve(self, values: tuple[str, ...]) -> M:
        known: list[str] = []
        for label, allowed, value in zip(self._spec.labels, self._allowed, values, strict=True):
            if value in allowed or value == label.fallback:
                known.append(value)
            else:
                known.append(label.fallback)
                self._tell(label.name)
        key = tuple(known)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._metric.labels(*key)
        return child

    def _tell(self, label: str) -> None:
        if label not in self._told:
            self._told.add(label)
            _LOGGER.warning("label value outside its closed set", metric=self._spec.name, label=label)


class Metrics:
    """Every metric of the catalog, on one registry.

    `models` are the names of the configured models: the only values of the label `model` but "other". Routes are told
    by `expect_routes` once the application is built. The client's `_created` series are switched off through its API
    for the whole process: they double the series and nothing reads them.
    """

    def __init__(
        self, registry: CollectorRegistry, *, version: str, environment: str, models: Iterable[str] = ()
    ) -> None:
        disable_created_metrics()
        self.registry = registry
        self._sets: dict[DynamicSet, set[str]] = {"endpoints": set(), "models": set(models)}
        self._counters: dict[str, Family[Counter]] = {}
        self._gauges: dict[str, Family[Gauge]] = {}
        self._histograms: dict[str, Family[Histogram]] = {}
        for spec in catalog.METRICS:
            self._build(spec, {"version": version, "environment": environment})
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def counter(self, name: str) -> Family[Counter]:
        """The counter of that catalog name."""
        return self._counters[name]

    def gauge(self, name: str) -> Family[Gauge]:
        """The gauge of that catalog name."""
        return self._gauges[name]

    def histogram(self, name: str) -> Family[Histogram]:
        """The histogram of that catalog name."""
        return self._histograms[name]

    def expect_routes(self, routes: Iterable[tuple[str, str]]) -> None:
        """Make known the application's routes, as (method, template), and start their series at 0."""
        expected = sorted({(method, endpoint) for method, endpoint in routes if method in catalog.METHODS})
        self._sets["endpoints"].update(endpoint for _, endpoint in expected)
        requests, durations = self._counters["api_requests_total"], self._histograms["api_request_duration_seconds"]
        for method, endpoint in expected:
            durations.child(method, endpoint)
            for status in catalog.INITIAL_STATUSES.get(method, catalog.INITIAL_OTHER_STATUSES):
                requests.child(method, endpoint, status)
        durations.child("GET", catalog.UNMATCHED)
        requests.child("GET", catalog.UNMATCHED, "404")

    def spans_dropped(self, count: int) -> None:
        """Count spans that will not reach the collector; safe from any thread."""
        self._counters["telemetry_spans_dropped_total"].child().inc(count)

    def _build(self, spec: Metric, build: dict[str, str]) -> None:
        names = tuple(label.name for label in spec.labels)
        unit = spec.unit if spec.name.removesuffix("_total").endswith(f"_{spec.unit}") else ""
        allowed = tuple(self._sets[label.dynamic] if label.dynamic else label.values for label in spec.labels)
        family: Family[Counter] | Family[Gauge] | Family[Histogram]
        match spec.kind:
            case "counter":
                counter = Counter(spec.name, spec.help, names, unit=unit, registry=self.registry)
                family = self._counters[spec.name] = Family(spec, counter, allowed)
            case "gauge":
                gauge = Gauge(spec.name, spec.help, names, unit=unit, registry=self.registry)
                family = self._gauges[spec.name] = Family(spec, gauge, allowed)
            case "histogram":
                histogram = Histogram(
                    spec.name, spec.help, names, unit=unit, registry=self.registry, buckets=spec.buckets
                )
                family = self._histograms[spec.name] = Family(spec, histogram, allowed)
            case "info":
                Info(spec.name.removesuffix("_info"), spec.help, registry=self.registry).info(build)
                return
        if spec.zeros == "product":
            family.zero()

"""Create the catalog's Prometheus metrics in a registry."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import product
from typing import Generic, TypeVar

import structlog
from opentelemetry.trace import SpanContext
from prometheus_client import CollectorRegistry, disable_created_metrics

from service.telemetry import catalog
from service.telemetry.catalog import DynamicSet, Metric
from service.telemetry.mmap_metrics import MmapMetrics
from service.telemetry.series import ClientMetricFactory, CounterSeries, GaugeSeries, HistogramSeries, MetricFactory

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


M = TypeVar("M")


def exemplar_of(span: SpanContext) -> dict[str, str] | None:
    """Return the exemplar that links to the span's trace; None unless the trace is sampled.

    It has 63 characters with both names; the client raises above OpenMetrics' 128.
    """
    if not (span.trace_flags.sampled and span.is_valid):
        return None
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


class Family(Generic[M]):
    """Hold one metric and its series; a label value outside its closed set is replaced by the label's fallback.

    Only series of closed sets exist, so no client can make the scrape grow.
    """

    def __init__(
        self, spec: Metric, make: Callable[[tuple[str, ...]], M], allowed: tuple[Collection[str], ...]
    ) -> None:
        self._spec = spec
        self._make = make
        self._allowed = allowed
        self._children: dict[tuple[str, ...], M] = {} if spec.labels else {(): make(())}
        self._reported: set[str] = set()

    def child(self, *values: str) -> M:
        """Return the series of these label values, in the catalog's order; a dictionary look-up once it exists."""
        found = self._children.get(values)
        return self._resolve(values) if found is None else found

    def zero(self) -> None:
        """Create every combination of known values, so that each is exported as 0."""
        for values in product(*self._allowed):
            self.child(*values)

    def _resolve(self, values: tuple[str, ...]) -> M:
        known: list[str] = []
        for label, allowed, value in zip(self._spec.labels, self._allowed, values, strict=True):
            if value in allowed or value == label.fallback:
                known.append(value)
            else:
                known.append(label.fallback)
                self._report(label.name)
        key = tuple(known)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._make(key)
        return child

    def _report(self, label: str) -> None:
        if label not in self._reported:
            self._reported.add(label)
            _LOGGER.warning("label value outside its closed set", metric=self._spec.name, label=label)


class Metrics:
    """Hold every metric of the catalog, in one registry.

    `models` are the configured models: the values of the label `model` besides "other". `expect_routes` adds the routes
    once the application is built. With `store` this process is one of several workers: its numbers go there, and
    `registry` collects those of all of them (`workers.py`). The client's `_created` series are disabled for the whole
    process: they double the series and nothing reads them.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        version: str,
        environment: str,
        models: Iterable[str] = (),
        store: MmapMetrics | None = None,
    ) -> None:
        disable_created_metrics()
        self.registry = registry
        self.survive_kill = store is not None
        """Whether the numbers survive when the process is killed."""
        self._sets: dict[DynamicSet, set[str]] = {"endpoints": set(), "models": set(models)}
        self._counters: dict[str, Family[CounterSeries]] = {}
        self._gauges: dict[str, Family[GaugeSeries]] = {}
        self._histograms: dict[str, Family[HistogramSeries]] = {}
        factory = store or ClientMetricFactory(registry, {"version": version, "environment": environment})
        for spec in catalog.METRICS:
            self._build(spec, factory)
        self._collections = _shared_collections(store) if store else {}

    def counter(self, name: str) -> Family[CounterSeries]:
        """Return the counter with that catalog name."""
        return self._counters[name]

    def gauge(self, name: str) -> Family[GaugeSeries]:
        """Return the gauge with that catalog name."""
        return self._gauges[name]

    def histogram(self, name: str) -> Family[HistogramSeries]:
        """Return the histogram with that catalog name."""
        return self._histograms[name]

    def expect_routes(self, routes: Iterable[tuple[str, str]]) -> None:
        """Add the application's routes, as (method, template), and start their series at 0."""
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

    def garbage_collected(self) -> None:
        """Update the garbage collector's counts in a worker, where the client's own collector is not used."""
        for generation, counts in enumerate(gc.get_stats()):
            for name, series in self._collections.items():
                series[generation].set(counts[name])

    def _build(self, spec: Metric, factory: MetricFactory) -> None:
        allowed = tuple(self._sets[label.dynamic] if label.dynamic else label.values for label in spec.labels)
        family: Family[CounterSeries] | Family[GaugeSeries] | Family[HistogramSeries]
        match spec.kind:
            case "counter":
                family = self._counters[spec.name] = Family(spec, partial(factory.counter, spec), allowed)
            case "gauge":
                family = self._gauges[spec.name] = Family(spec, partial(factory.gauge, spec), allowed)
            case "histogram":
                family = self._histograms[spec.name] = Family(spec, partial(factory.histogram, spec), allowed)
            case "info":
                return
        if spec.zeros == "product":
            family.zero()


def _shared_collections(store: MmapMetrics) -> dict[str, tuple[GaugeSeries, ...]]:
    """Return each generation's series by the names of `gc.get_stats`."""
    names = ("collected", "uncollectable", "collections")
    return {
        name: tuple(store.gauge(spec, (value,)) for value in spec.labels[0].values)
        for name, spec in zip(names, catalog.GC_METRICS, strict=True)
    }

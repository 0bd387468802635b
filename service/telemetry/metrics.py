"""The Prometheus metrics, built from the catalog on a registry that is handed in."""

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
from service.telemetry.cells import Cells
from service.telemetry.series import Board, ClientBoard, CounterSeries, GaugeSeries, HistogramSeries

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


M = TypeVar("M")


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

    def __init__(
        self, spec: Metric, make: Callable[[tuple[str, ...]], M], allowed: tuple[Collection[str], ...]
    ) -> None:
        self._spec = spec
        self._make = make
        self._allowed = allowed
        self._children: dict[tuple[str, ...], M] = {} if spec.labels else {(): make(())}
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
            child = self._children[key] = self._make(key)
        return child

    def _tell(self, label: str) -> None:
        if label not in self._told:
            self._told.add(label)
            _LOGGER.warning("label value outside its closed set", metric=self._spec.name, label=label)


class Metrics:
    """Every metric of the catalog, on one registry.

    `models` are the names of the configured models: the only values of the label `model` but "other". Routes are told
    by `expect_routes` once the application is built. With `cells` this process is one of several workers: its numbers
    go there, and `registry` gives those of all of them (`workers.py`). The client's `_created` series are switched off
    through its API for the whole process: they double the series and nothing reads them.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        version: str,
        environment: str,
        models: Iterable[str] = (),
        cells: Cells | None = None,
    ) -> None:
        disable_created_metrics()
        self.registry = registry
        self.outlive_the_process = cells is not None
        """What was counted is there after a kill."""
        self._sets: dict[DynamicSet, set[str]] = {"endpoints": set(), "models": set(models)}
        self._counters: dict[str, Family[CounterSeries]] = {}
        self._gauges: dict[str, Family[GaugeSeries]] = {}
        self._histograms: dict[str, Family[HistogramSeries]] = {}
        board = cells or ClientBoard(registry, {"version": version, "environment": environment})
        for spec in catalog.METRICS:
            self._build(spec, board)
        self._collections = _shared_collections(cells) if cells else {}

    def counter(self, name: str) -> Family[CounterSeries]:
        """The counter of that catalog name."""
        return self._counters[name]

    def gauge(self, name: str) -> Family[GaugeSeries]:
        """The gauge of that catalog name."""
        return self._gauges[name]

    def histogram(self, name: str) -> Family[HistogramSeries]:
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

    def garbage_collected(self) -> None:
        """Tell the collector's own counts, where the client's collector cannot: as one of several workers."""
        for generation, counts in enumerate(gc.get_stats()):
            for name, series in self._collections.items():
                series[generation].set(counts[name])

    def _build(self, spec: Metric, board: Board) -> None:
        allowed = tuple(self._sets[label.dynamic] if label.dynamic else label.values for label in spec.labels)
        family: Family[CounterSeries] | Family[GaugeSeries] | Family[HistogramSeries]
        match spec.kind:
            case "counter":
                family = self._counters[spec.name] = Family(spec, partial(board.counter, spec), allowed)
            case "gauge":
                family = self._gauges[spec.name] = Family(spec, partial(board.gauge, spec), allowed)
            case "histogram":
                family = self._histograms[spec.name] = Family(spec, partial(board.histogram, spec), allowed)
            case "info":
                return
        if spec.zeros == "product":
            family.zero()


def _shared_collections(cells: Cells) -> dict[str, tuple[GaugeSeries, ...]]:
    """By the names of `gc.get_stats`, each generation's series."""
    names = ("collected", "uncollectable", "collections")
    return {
        name: tuple(cells.gauge(spec, (value,)) for value in spec.labels[0].values)
        for name, spec in zip(names, catalog.GC_METRICS, strict=True)
    }

"""Create the process's tracer provider, configured by the standard environment variables.

opentelemetry-distro sets the defaults of `OTEL_*`, its configurator finds the exporters they name, and the SDK reads
the rest (sampler, limits, batch sizes, endpoint, headers). Metrics and logs are not sent by OTLP, so their exporters
are "none". OTLP uses HTTP. Only `traceparent` is propagated, because the agent framework puts the agent's name and ids
into the baggage, which would be sent with every outgoing request.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import structlog
from opentelemetry import propagate
from opentelemetry.distro import OpenTelemetryDistro
from opentelemetry.environment_variables import OTEL_LOGS_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_PROPAGATORS
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._configuration import (
    _get_exporter_names,  # pyright: ignore[reportPrivateUsage] -- the distro's own look-up; versions are pinned exactly
    _import_exporters,  # pyright: ignore[reportPrivateUsage] -- likewise
)
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_PROTOCOL
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.telemetry.exception_scrubbing import scrub_exceptions
from service.telemetry.otlp import LightExporter
from service.telemetry.spans import ChildrenOnly, SpanIds

DEFAULTS = {
    OTEL_METRICS_EXPORTER: "none",
    OTEL_LOGS_EXPORTER: "none",
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
}
"""Set where the environment has no value, before the distro sets its own. The last one gives spans of HTTP and
databases the attributes of the stable conventions (`http.request.method`, `db.query.text`)."""
TRACES_PATH = "/v1/traces"
_WARN_EVERY_SECONDS = 60.0
_GRACE_SECONDS = 1.0
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

OnDropped = Callable[[int], object]


class _Losses:
    """Count lost spans, and log them once a minute at most."""

    def __init__(self, on_dropped: OnDropped) -> None:
        self._on_dropped = on_dropped
        self._lock = threading.Lock()
        self._untold = 0
        self._told_at = -_WARN_EVERY_SECONDS

    def add(self, count: int, reason: str) -> None:
        self._on_dropped(count)
        with self._lock:
            self._untold += count
            now = time.monotonic()
            if now - self._told_at < _WARN_EVERY_SECONDS:
                return
            lost, self._untold, self._told_at = self._untold, 0, now
        _LOGGER.warning("spans are being lost", dropped=lost, reason=reason)


class _CountedExporter(SpanExporter):
    """Export batches without exception messages; a failed batch is counted and never raises."""

    def __init__(self, exporter: SpanExporter, losses: _Losses) -> None:
        self._exporter = exporter
        self._losses = losses
        self._closed = threading.Event()
        self.taken = 0
        """Number of spans that have left the queue."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)  # only called under the processor's export lock
        if self._closed.is_set():
            self._losses.add(len(spans), "the process ended")
            return SpanExportResult.FAILURE
        try:
            result = self._exporter.export([scrub_exceptions(span) for span in spans])
        except Exception:  # noqa: BLE001 -- whatever an exporter raises, the spans are lost and the service goes on
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._losses.add(len(spans), "the export failed")
        return result

    def shutdown(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._exporter.shutdown()  # also wakes an export that waits to retry


class CountedBatchProcessor(BatchSpanProcessor):
    """Extend the SDK's batch processor (queue bounded by `OTEL_BSP_MAX_QUEUE_SIZE`) to count the spans it cannot take.

    A full queue refuses the new span here, so the SDK neither drops an old one silently nor logs each drop.
    """

    def __init__(self, exporter: SpanExporter, on_dropped: OnDropped) -> None:
        self._losses = _Losses(on_dropped)
        self._counted = _CountedExporter(exporter, self._losses)
        self._capacity = self._default_max_queue_size()
        self._accepting = threading.Lock()
        self._ended = False
        self._accepted = 0
        super().__init__(self._counted, max_queue_size=self._capacity)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a sampled span, or count it as lost."""
        if not (span.context and span.context.trace_flags.sampled):
            return
        with self._accepting:
            full = self._accepted - self._counted.taken >= self._capacity
            refused = full or self._ended
            self._accepted += not refused
        if refused:
            self._losses.add(1, "the queue is full" if full else "the process ended")
        else:
            super().on_end(span)

    def shutdown(self) -> None:
        """Export what is queued and accept no more."""
        self._ended = True
        super().shutdown()

    def abandon(self) -> None:
        """Give up on the queue: interrupt a running export and count the rest as lost."""
        self._counted.shutdown()


class Tracing:
    """Hold the process's tracer provider, and shut it down."""

    def __init__(self, provider: TracerProvider, processors: Sequence[CountedBatchProcessor]) -> None:
        self.provider = provider
        self.children = ChildrenOnly(provider)
        """For instrumentations of clients, whose spans are always part of a trace."""
        self._processors = tuple(processors)

    def force_flush(self, timeout: float = 5.0) -> bool:
        """Export what is queued; False if that takes longer than `timeout` seconds. Blocks: call it in a thread."""
        flushing = _start(self.provider.force_flush)
        flushing.join(timeout)
        return not flushing.is_alive()

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Export what is queued and stop; after `timeout` seconds count the rest as lost and return False.

        Blocks for at most a second more than `timeout`: call it in a thread. Calling it twice is harmless.
        """
        ending = _start(self.provider.shutdown)
        ending.join(timeout)
        if not ending.is_alive():
            return True
        for processor in self._processors:
            processor.abandon()
        ending.join(_GRACE_SECONDS)
        return False


def _start(work: Callable[[], object]) -> threading.Thread:
    """Run `work` in a daemon thread, because the SDK does not keep time limits (its issues 4555 and 4568)."""
    thread = threading.Thread(target=work, name="tracing-flush", daemon=True)
    thread.start()
    return thread


def open_tracing(
    *,
    service_namespace: str,
    service_name: str,
    version: str,
    environment: str,
    enabled: bool,
    endpoint: str | None = None,
    on_dropped: OnDropped,
    exporters: Sequence[SpanExporter] | None = None,
) -> Tracing:
    """Create the tracer provider.

    `endpoint` is the collector's OTLP/HTTP address (`http://host:4318`; the traces path is added if it has none); None
    leaves it to `OTEL_EXPORTER_OTLP_*`. `on_dropped` is called with the number of lost spans, from any thread.
    `exporters` replaces the exporters that `OTEL_TRACES_EXPORTER` names.

    If not `enabled`, nothing is sampled or exported, but ids exist: `X-Trace-ID` and log lines still correlate. Raises
    RuntimeError if the environment names an exporter or protocol that is not installed.
    """
    _prepare_environment()
    resource = _resource(service_namespace, service_name, version, environment)
    if not enabled:
        return Tracing(TracerProvider(sampler=ALWAYS_OFF, resource=resource, shutdown_on_exit=False), ())
    # The SDK would wait half a minute at exit.
    provider = TracerProvider(resource=resource, id_generator=SpanIds(), shutdown_on_exit=False)
    chosen = _standard_exporters(endpoint) if exporters is None else exporters
    processors = [CountedBatchProcessor(exporter, on_dropped) for exporter in chosen]
    for processor in processors:
        provider.add_span_processor(processor)
    return Tracing(provider, processors)


def _prepare_environment() -> None:
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    OpenTelemetryDistro().configure()  # pyright: ignore[reportUnknownMemberType] -- its options are not typed
    if not os.environ.get(OTEL_PROPAGATORS):
        propagate.set_global_textmap(TraceContextTextMapPropagator())
    # Each failed attempt and batch would be logged; `_Losses` summarises them once a minute.
    logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)


class _HashedOnce(Resource):
    """Cache the hash: the exporter looks up the resource for each span, and the SDK hashes all attributes as JSON."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource.attributes, resource.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


def _resource(service_namespace: str, service_name: str, version: str, environment: str) -> Resource:
    """Merge our attributes with `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, which take precedence."""
    ours = {
        "service.namespace": service_namespace,
        "service.name": service_name,
        "service.version": version,
        "deployment.environment.name": environment,
    }
    return _HashedOnce(Resource.create(ours).merge(OTELResourceDetector().detect()))


def _standard_exporters(endpoint: str | None) -> list[SpanExporter]:
    found, _, _ = _import_exporters(_get_exporter_names("traces"), (), ())
    return [_exporter(kind, endpoint) for kind in found.values()]


def _exporter(kind: type[SpanExporter], endpoint: str | None) -> SpanExporter:
    if kind is not OTLPSpanExporter:
        return kind()
    if endpoint is None:
        return LightExporter()
    path = urlsplit(endpoint).path.rstrip("/")
    return LightExporter(endpoint if path else f"{endpoint.rstrip('/')}{TRACES_PATH}")

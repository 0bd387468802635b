"""Give every HTTP request its correlation ids, RED metrics, SERVER span and access line; the outermost ASGI layer.

It is outside the web framework, so it sees what the client gets, including answers of routing, authentication and the
rate limiter, and failures that the framework cannot handle. The framework gives its route in `scope["path_template"]`;
404 and 405 have none.

It is cheap: one object for each request, metric series from a dictionary, and a light span whose attributes (the
semantic conventions for HTTP servers) are written at once with the answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from time import perf_counter
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.features.context import CURRENT, RequestContext
from service.telemetry.access import Access, AccessLog
from service.telemetry.catalog import UNMATCHED
from service.telemetry.http_transaction import Application, HttpTransaction, Message, Receive, Send
from service.telemetry.light_spans import LightTracer, light
from service.telemetry.metrics import Metrics

QUIET_PATHS: Final = frozenset({"/metrics", "/health", "/health/live", "/health/ready"})
"""Polled by machines every few seconds: counted, but neither logged nor traced."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_NO_PARENT = Context()


class HttpObserver:
    """Wrap an ASGI application.

    - `tracer_provider` None: requests have ids, but no spans.
    - `trust_traceparent`: continue the caller's trace with its sampling decision. Only for services whose callers are
      trusted; otherwise anybody could force every request to be sampled.
    - `quiet_paths`: exact paths without access line and span; they are still counted.
    """

    def __init__(
        self,
        app: Application,
        *,
        metrics: Metrics,
        access: AccessLog,
        tracer_provider: TracerProvider | None = None,
        trust_traceparent: bool = False,
        quiet_paths: Collection[str] = QUIET_PATHS,
    ) -> None:
        self._app = app
        self._access = access
        self._tracer = None if tracer_provider is None else light(tracer_provider.get_tracer("service.http"))
        self._trust_traceparent = trust_traceparent
        self._quiet = frozenset(quiet_paths)
        self._count_early = metrics.survive_kill
        self._requests = metrics.counter("api_requests_total")
        self._durations = metrics.histogram("api_request_duration_seconds")
        self._in_flight = metrics.gauge("api_requests_in_flight").child()
        self._ids = RandomIdGenerator()  # unique, not secret: random bytes of the kernel would take as long as a span
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection; anything but HTTP passes through unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        transaction = self._open(scope)
        current = CURRENT.set(transaction.correlation)
        attached = otel_context.attach(trace.set_span_in_context(transaction.span))
        self._in_flight.inc()
        try:
            await transaction.run(self._app, receive, send)
        finally:
            self._in_flight.dec()
            self._close(transaction)
            otel_context.detach(attached)
            CURRENT.reset(current)

    def _open(self, scope: Message) -> HttpTransaction:
        started = perf_counter()
        request_id = traceparent = tracestate = None
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.match(value):
                request_id = value.decode()
            elif name == b"traceparent":
                traceparent = value
            elif name == b"tracestate":
                tracestate = value
        if traceparent is None or not self._trust_traceparent:
            parent = _NO_PARENT
        else:
            parent = self._parent(traceparent, tracestate or b"")
        span = self._start_span(scope["path"], parent)
        correlation = RequestContext(
            request_id=request_id or f"{self._ids.generate_trace_id():032x}",
            trace_id=f"{span.get_span_context().trace_id:032x}",
            started=started,
        )
        return HttpTransaction(scope, span, correlation, self._count if self._count_early else None)

    def _parent(self, traceparent: bytes, tracestate: bytes) -> Context:
        carrier = {"traceparent": traceparent.decode("latin-1"), "tracestate": tracestate.decode("latin-1")}
        return self._propagator.extract(carrier, context=Context())

    def _start_span(self, path: str, parent: Context) -> Span:
        """Start the SERVER span, recording or not. Its ids are always valid, and everything within inherits them."""
        if self._tracer is not None and path not in self._quiet:
            if parent is _NO_PARENT and isinstance(self._tracer, LightTracer):
                return self._tracer.start_trace("HTTP", SpanKind.SERVER)
            span = self._tracer.start_span("HTTP", context=parent, kind=SpanKind.SERVER)
            if span.get_span_context().is_valid:
                return span
        ids = self._ids
        return NonRecordingSpan(SpanContext(ids.generate_trace_id(), ids.generate_span_id(), is_remote=False))

    def _count(self, transaction: HttpTransaction) -> None:
        endpoint = transaction.template or UNMATCHED
        self._requests.child(transaction.method, endpoint, str(transaction.final_status())).inc()

    def _close(self, transaction: HttpTransaction) -> None:
        correlation = transaction.correlation
        seconds = (transaction.ended or perf_counter()) - correlation.started
        status = transaction.final_status()
        endpoint = transaction.template or UNMATCHED
        span = transaction.span.get_span_context()
        if transaction.count is not None or not self._count_early:
            self._count(transaction)
        self._durations.child(transaction.method, endpoint).observe(seconds, transaction.exemplar)
        if transaction.path in self._quiet:
            return
        client = transaction.scope.get("client")
        access = Access(
            transaction.method,
            endpoint,
            transaction.path,
            status,
            seconds,
            client[0] if client else "",
            f"{span.span_id:016x}",
        )
        self._access.write(access, correlation)

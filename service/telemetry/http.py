"""The outermost ASGI layer: correlation ids, RED metrics, the SERVER span and the access line of every request.

It stands outside the web framework, so it sees what the client gets: also what routing, authentication or the rate
limiter answer, and what happens when a handler fails beyond the framework's reach. The framework tells the route it
chose in `scope["path_template"]`; there is none for 404 and 405.

Cheap by construction: one object a request, metric series from a dictionary, and a span of its own whose attributes,
those of the semantic conventions for HTTP servers, are written at once when the answer is there.
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
from service.telemetry.exchange import Application, Exchange, Message, Receive, Send
from service.telemetry.light_spans import LightTracer, light
from service.telemetry.metrics import Metrics

QUIET_PATHS: Final = frozenset({"/metrics", "/health", "/health/live", "/health/ready"})
"""Asked every few seconds by machines: counted, but neither logged nor traced."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_NO_PARENT = Context()


class HttpObserver:
    """ASGI application around another one.

    - `tracer_provider` None: ids exist, spans do not.
    - `trust_traceparent`: continue the trace, and keep the sampling decision, of whoever calls. Only for services whose
      callers are one's own; otherwise anybody could force every request to be sampled.
    - `quiet_paths`: exact paths without access line and span; they are counted like any other.
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
        self._outlives = metrics.outlive_the_process
        self._requests = metrics.counter("api_requests_total")
        self._durations = metrics.histogram("api_request_duration_seconds")
        self._in_flight = metrics.gauge("api_requests_in_flight").child()
        self._ids = RandomIdGenerator()  # unique, no secrets: asking the kernel for each would cost as much as a span
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection; anything but HTTP passes through untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = self._open(scope)
        current = CURRENT.set(exchange.correlation)
        attached = otel_context.attach(trace.set_span_in_context(exchange.span))
        self._in_flight.inc()
        try:
            await exchange.run(self._app, receive, send)
        finally:
            self._in_flight.dec()
            self._close(exchange)
            otel_context.detach(attached)
            CURRENT.reset(current)

    def _open(self, scope: Message) -> Exchange:
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
        return Exchange(scope, span, correlation, self._count if self._outlives else None)

    def _parent(self, traceparent: bytes, tracestate: bytes) -> Context:
        carrier = {"traceparent": traceparent.decode("latin-1"), "tracestate": tracestate.decode("latin-1")}
        return self._propagator.extract(carrier, context=Context())

    def _start_span(self, path: str, parent: Context) -> Span:
        """The SERVER span, recording or not; always with valid ids, which whatever runs beneath inherits."""
        if self._tracer is not None and path not in self._quiet:
            if parent is _NO_PARENT and isinstance(self._tracer, LightTracer):
                return self._tracer.start_trace("HTTP", SpanKind.SERVER)
            span = self._tracer.start_span("HTTP", context=parent, kind=SpanKind.SERVER)
            if span.get_span_context().is_valid:
                return span
        ids = self._ids
        return NonRecordingSpan(SpanContext(ids.generate_trace_id(), ids.generate_span_id(), is_remote=False))

    def _count(self, exchange: Exchange) -> None:
        endpoint = exchange.template or UNMATCHED
        self._requests.child(exchange.method, endpoint, str(exchange.final_status())).inc()

    def _close(self, exchange: Exchange) -> None:
        correlation = exchange.correlation
        seconds = (exchange.ended or perf_counter()) - correlation.started
        status = exchange.final_status()
        endpoint = exchange.template or UNMATCHED
        span = exchange.span.get_span_context()
        if exchange.count is not None or not self._outlives:
            self._count(exchange)
        self._durations.child(exchange.method, endpoint).observe(seconds, exchange.exemplar)
        if exchange.path in self._quiet:
            return
        client = exchange.scope.get("client")
        access = Access(
            exchange.method,
            endpoint,
            exchange.path,
            status,
            seconds,
            client[0] if client else "",
            f"{span.span_id:016x}",
        )
        self._access.write(access, correlation)

"""Choose the ids of spans, and restrict libraries' spans to existing traces."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, Span, Tracer, TracerProvider

from service.telemetry.light_spans import light

_NEXT: ContextVar[int | None] = ContextVar("next_span_id", default=None)


@contextmanager
def span_id(value: int) -> Generator[None]:
    """Give the next span that starts in this block that id."""
    token = _NEXT.set(value)
    try:
        yield
    finally:
        _NEXT.reset(token)


class SpanIds(RandomIdGenerator):
    """Generate random ids, except those set by `span_id`."""

    def generate_span_id(self) -> int:
        """Return the next span's id."""
        asked = _NEXT.get()
        if asked is None:
            return super().generate_span_id()
        _NEXT.set(None)
        return asked


class _ChildTracer(Tracer):
    """Start spans only within a recorded span."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(self, *args: Any, **options: Any) -> Span:
        """Start a child of the current span."""
        parent = trace.get_current_span()
        return self._tracer.start_span(*args, **options) if parent.is_recording() else _outside(parent)

    def start_as_current_span(self, *args: Any, **options: Any) -> Any:
        """Start a child of the current span and make it the current span."""
        parent = trace.get_current_span()
        if parent.is_recording():
            return self._tracer.start_as_current_span(*args, **options)
        return trace.use_span(_outside(parent), end_on_exit=False)


def _outside(parent: Span) -> Span:
    return NonRecordingSpan(parent.get_span_context())


class ChildrenOnly(TracerProvider):
    """Provide tracers for database, cache and HTTP clients, whose calls outside of a request or job make no traces."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *args: Any, **options: Any) -> Tracer:
        """Return a tracer for an instrumentation."""
        return _ChildTracer(light(self._provider.get_tracer(*args, **options)))

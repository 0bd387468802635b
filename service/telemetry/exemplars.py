"""Exemplars, only of traces that the collector keeps: a dot on a graph must lead to a trace.

A trace is kept by its id, a tenth of all, which the service and the collector compute alike; or because a span of it is
marked. The mark is set while the span is open, since it has to leave with it, and only where it comes in time: the
collector decides about a trace some time after its first span.
"""

from __future__ import annotations

from opentelemetry.trace import Span

from service.telemetry.catalog import EXEMPLAR, KEPT_BY_ID
from service.telemetry.metrics import exemplar_of

SLOW_SECONDS = 2.5
"""A request that takes as long has its trace kept."""
IN_TIME_SECONDS = 60.0
"""A mark that comes later may find the collector decided: its `decision_wait` is longer by an export's delay."""


def is_kept_by_id(trace_id: int) -> bool:
    """By the first 16 bits of the half that W3C has random; a head sampler by ratio takes the low ids too."""
    return trace_id >> 48 & 0xFFFF < KEPT_BY_ID


def exemplar_by_id(span: Span) -> dict[str, str] | None:
    """The exemplar of a trace that is kept by its id; takes no lock, so a garbage collection may ask."""
    if not span.is_recording():
        return None
    context = span.get_span_context()
    return exemplar_of(context) if is_kept_by_id(context.trace_id) else None


def marked_exemplar(span: Span) -> dict[str, str] | None:
    """The exemplar of an open span, whose trace is kept from now on; None when it is not recorded."""
    if not span.is_recording():
        return None
    span.set_attribute(EXEMPLAR, True)  # noqa: FBT003 -- the attribute's value
    return exemplar_of(span.get_span_context())


def request_exemplar(span: Span, *, seconds: float, failed: bool, enqueued: bool) -> dict[str, str] | None:
    """The exemplar of a request of `seconds` so far: one that failed, is slow, made a job, or is kept by its id."""
    if not span.is_recording():
        return None
    notable = (failed or seconds >= SLOW_SECONDS) and seconds < IN_TIME_SECONDS
    if notable or enqueued or is_kept_by_id(span.get_span_context().trace_id):
        return marked_exemplar(span)
    return None

"""Create exemplars only for traces that the collector keeps, so that a dot on a graph leads to a trace.

A trace is kept by its id (a tenth of all, which service and collector compute alike), or because one of its spans is
marked. The mark is set while the span is open, since it must be exported with it, and only if it comes in time: the
collector decides some seconds after a trace's first span.
"""

from __future__ import annotations

from opentelemetry.trace import Span

from service.telemetry.catalog import EXEMPLAR, KEPT_BY_ID
from service.telemetry.metrics import exemplar_of

SLOW_SECONDS = 2.5
"""The trace of a request that takes this long is kept."""
IN_TIME_SECONDS = 60.0
"""After this time the collector may have decided: its `decision_wait` is longer than this by an export's delay."""


def is_kept_by_id(trace_id: int) -> bool:
    """Check the first 16 bits of the half that W3C makes random; a head sampler by ratio takes the low ids, too."""
    return trace_id >> 48 & 0xFFFF < KEPT_BY_ID


def exemplar_by_id(span: Span) -> dict[str, str] | None:
    """Return the exemplar if the trace is kept by its id. It takes no lock, so a collection callback may use it."""
    if not span.is_recording():
        return None
    context = span.get_span_context()
    return exemplar_of(context) if is_kept_by_id(context.trace_id) else None


def marked_exemplar(span: Span) -> dict[str, str] | None:
    """Return the exemplar of an open span and have its trace kept; None if the span is not recorded."""
    if not span.is_recording():
        return None
    span.set_attribute(EXEMPLAR, True)  # noqa: FBT003 -- the attribute's value
    return exemplar_of(span.get_span_context())


def request_exemplar(span: Span, *, seconds: float, failed: bool, enqueued: bool) -> dict[str, str] | None:
    """Return the exemplar of a request that failed, is slow (`seconds`), enqueued a job, or is kept by its id."""
    if not span.is_recording():
        return None
    notable = (failed or seconds >= SLOW_SECONDS) and seconds < IN_TIME_SECONDS
    if notable or enqueued or is_kept_by_id(span.get_span_context().trace_id):
        return marked_exemplar(span)
    return None

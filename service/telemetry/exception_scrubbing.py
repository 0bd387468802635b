"""Remove exception messages and stacks from spans before they are exported.

Instrumentations record exceptions with their messages and stacks, and those of their causes. Such a message may quote a
provider's answer, a prompt or a cell. An exception's type stays; the log line of an error has its stack, redacted.
"""

from __future__ import annotations

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status

EXCEPTION = "exception"
EXCEPTION_TYPE = "exception.type"


def scrub_exceptions(span: ReadableSpan) -> ReadableSpan:
    """Return the span with only the types of its exceptions, or the span itself if nothing has to be removed."""
    events = span.events
    if span.status.description is None and not (events and any(event.name == EXCEPTION for event in events)):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_scrub_event(event) if event.name == EXCEPTION else event for event in events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _scrub_event(event: Event) -> Event:
    kind = (event.attributes or {}).get(EXCEPTION_TYPE)
    return Event(event.name, {} if kind is None else {EXCEPTION_TYPE: kind}, event.timestamp)

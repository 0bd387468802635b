"""Make the spans of jobs, `job {task}`, on both sides of the queue, and carry the trace context across."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

from msgspec import Struct
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    TracerProvider,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from procrastinate.jobs import Job

from service.extractions.own_faults import is_own_fault
from service.features.context import CURRENT
from service.jobs.statements import DELIVERY_TASK, TASK
from service.telemetry.spans import span_id

TRACEPARENT = "traceparent"
"""Key of the trace context (W3C) among a job's arguments."""
PREVIOUS = "previous"
"""Key of the attempt that enqueued this one."""
OUTCOME = "feature_agent.job.outcome"
_SYSTEM = "procrastinate"
_OPERATIONS = {SpanKind.PRODUCER: ("enqueue", "send"), SpanKind.CONSUMER: ("run", "process")}
"""The operation's name here, and its type in the semantic conventions."""
_PROPAGATOR = TraceContextTextMapPropagator()

DELIVERY_ID = "feature_agent.webhook.id"
_RUNNING: ContextVar[tuple[str, str] | None] = ContextVar("running_job", default=None)
"""Task and subject of the job that runs in this context."""


class JobTrace(Struct, frozen=True):
    """The trace context that a job carries."""

    traceparent: str | None = None
    previous: str | None = None
    put_back: int = 0
    """How often the job was put back into the queue unchanged."""


class JobSpans:
    """Make the spans of one task; attributes follow the semantic conventions for messaging."""

    def __init__(self, tracer_provider: TracerProvider, task: str = TASK, subject: str = "extraction.id") -> None:
        """`subject` names the attribute that holds the id of a job's extraction or webhook."""
        self._tracer: Tracer = tracer_provider.get_tracer("service.jobs")
        self._task = task
        self._subject = subject

    @contextmanager
    def enqueuing(self, subject_id: str, queue: str) -> Generator[dict[str, str]]:
        """Surround an enqueuing, as part of the caller's trace; yields the arguments that the job must carry."""
        before = _carried(PREVIOUS) if _RUNNING.get() == (self._task, subject_id) else {}
        if context := CURRENT.get():
            context.enqueued = True
        with self._span(SpanKind.PRODUCER, subject_id, queue):
            yield _carried(TRACEPARENT) | before

    @contextmanager
    def running(self, subject_id: str, queue: str, carried: JobTrace) -> Generator[Span]:
        """Surround a run, as part of the trace that its job carries; a job without one begins a new trace."""
        around = _PROPAGATOR.extract(_carrier(carried.traceparent), context=Context())
        token = _RUNNING.set((self._task, subject_id))
        try:
            with (
                nullcontext() if carried.traceparent is None else span_id(_attempt_id(carried, carried.put_back)),
                self._span(SpanKind.CONSUMER, subject_id, queue, context=around, links=_links(carried)) as span,
            ):
                yield span
        finally:
            _RUNNING.reset(token)

    @contextmanager
    def _span(
        self,
        kind: SpanKind,
        subject_id: str,
        queue: str,
        *,
        context: Context | None = None,
        links: Sequence[Link] = (),
    ) -> Generator[Span]:
        operation, operation_type = _OPERATIONS[kind]
        with self._tracer.start_as_current_span(
            f"job {self._task}",
            context,
            kind,
            attributes={
                "messaging.system": _SYSTEM,
                "messaging.destination.name": queue,
                "messaging.operation.name": operation,
                "messaging.operation.type": operation_type,
                self._subject: subject_id,
            },
            links=links,
            record_exception=False,  # messages and stacks may quote data
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                if is_own_fault(error):
                    span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", type(error).__qualname__)
                raise


def job_trace(job: Job, arguments: Mapping[str, str]) -> JobTrace:
    """Read the trace context from a job's arguments, ignoring arguments of later releases."""
    return JobTrace(arguments.get(TRACEPARENT), arguments.get(PREVIOUS), job.attempts)


def _carrier(traceparent: str | None) -> dict[str, str]:
    return {} if traceparent is None else {TRACEPARENT: traceparent}


def _carried(name: str) -> dict[str, str]:
    """Return the current span as an argument of a job; no argument outside of a trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return {name: carrier[TRACEPARENT]} if TRACEPARENT in carrier else {}


def _attempt_id(carried: JobTrace, put_back: int) -> int:
    """Return the span id of an attempt.

    A job that is put back keeps its arguments, since the worker that held it may be dead. The id of the attempt before
    is therefore derived from the span that enqueued the job and the number of times that it was put back.
    """
    digest = hashlib.sha256(f"{carried.traceparent}/{put_back}".encode()).digest()
    return int.from_bytes(digest[:8]) or 1


def _links(carried: JobTrace) -> tuple[Link, ...]:
    """Link to the attempt before this one, if there was one."""
    if carried.put_back == 0:
        before = get_current_span(_PROPAGATOR.extract(_carrier(carried.previous), context=Context())).get_span_context()
    else:
        sent = get_current_span(_PROPAGATOR.extract(_carrier(carried.traceparent), context=Context()))
        sender = sent.get_span_context()
        before = SpanContext(
            sender.trace_id, _attempt_id(carried, carried.put_back - 1), is_remote=True, trace_flags=sender.trace_flags
        )
    return (Link(before),) if before.is_valid else ()


def delivery_spans(tracer_provider: TracerProvider) -> JobSpans:
    """Make the spans of webhooks' jobs."""
    return JobSpans(tracer_provider, DELIVERY_TASK, DELIVERY_ID)

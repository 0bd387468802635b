"""The spans of jobs, `job {task}`, on both sides of the queue, and the trace context that leads across."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.jobs.statements import DELIVERY_TASK, TASK

TRACEPARENT = "traceparent"
"""Key of the trace context among a job's arguments, as W3C spells it."""
OUTCOME = "feature_agent.job.outcome"
_SYSTEM = "procrastinate"
_PROPAGATOR = TraceContextTextMapPropagator()


DELIVERY_ID = "feature_agent.webhook.id"


class JobSpans:
    """Makes the spans; attributes follow the semantic conventions for messaging."""

    def __init__(self, tracer_provider: TracerProvider, task: str = TASK, subject: str = "extraction.id") -> None:
        """`subject` is the attribute that says what a job of the task is about."""
        self._tracer: Tracer = tracer_provider.get_tracer("service.jobs")
        self._task = task
        self._subject = subject

    @contextmanager
    def enqueuing(self, subject_id: str, queue: str) -> Generator[dict[str, str]]:
        """Surround an enqueuing, as part of the caller's trace; gives what the job carries of it."""
        with self._span(SpanKind.PRODUCER, subject_id, queue, "enqueue", "send"):
            carried: dict[str, str] = {}
            _PROPAGATOR.inject(carried)
            yield {TRACEPARENT: carried[TRACEPARENT]} if TRACEPARENT in carried else {}

    @contextmanager
    def running(self, subject_id: str, queue: str, traceparent: str | None) -> Generator[Span]:
        """Surround a run, as part of the trace that its job carries; a job without one begins a trace."""
        carried = {} if traceparent is None else {TRACEPARENT: traceparent}
        around = _PROPAGATOR.extract(carried, context=Context())
        with self._span(SpanKind.CONSUMER, subject_id, queue, "run", "process", around) as span:
            yield span

    @contextmanager
    def _span(
        self,
        kind: SpanKind,
        subject_id: str,
        queue: str,
        operation: str,
        operation_type: str,
        context: Context | None = None,
    ) -> Generator[Span]:
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
            record_exception=False,  # messages and stacks may quote data
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", type(error).__qualname__)
                raise


def delivery_spans(tracer_provider: TracerProvider) -> JobSpans:
    """The spans of webhooks' jobs."""
    return JobSpans(tracer_provider, DELIVERY_TASK, DELIVERY_ID)

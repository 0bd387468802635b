"""Exemplars are made only of traces that are kept, and spans are marked for it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, use_span
from prometheus_client import CollectorRegistry

from service.telemetry.catalog import EXEMPLAR, KEPT_BY_ID
from service.telemetry.exemplars import (
    IN_TIME_SECONDS,
    SLOW_SECONDS,
    exemplar_by_id,
    is_kept_by_id,
    marked_exemplar,
    request_exemplar,
)
from service.telemetry.gc_pauses import GcPauseMonitor
from service.telemetry.metrics import Metrics

LOW, HIGH = 1 << 127 | 7, 1 << 127 | 0xFFFF << 48
"""A trace that is kept by its id, and one that is not."""
PLAIN: dict[str, Any] = {"seconds": 0.1, "failed": False, "enqueued": False}


class Ids(RandomIdGenerator):
    """Gives every trace the same id."""

    def __init__(self, trace_id: int) -> None:
        self._trace_id = trace_id

    def generate_trace_id(self) -> int:
        """The id."""
        return self._trace_id


class Tracing:
    """Starts spans and has those that ended."""

    def __init__(self, trace_id: int, **options: Any) -> None:
        self._memory = InMemorySpanExporter()
        self._provider = TracerProvider(id_generator=Ids(trace_id), shutdown_on_exit=False, **options)
        self._provider.add_span_processor(SimpleSpanProcessor(self._memory))

    def start(self) -> Span:
        """A root span."""
        return self._provider.get_tracer("t").start_span("work")

    def ended(self) -> Sequence[ReadableSpan]:
        """What was exported."""
        return self._memory.get_finished_spans()


@pytest.mark.parametrize(
    ("trace_id", "facts", "leads"),
    [
        (HIGH, {}, False),
        (LOW, {}, True),
        (HIGH, {"failed": True}, True),
        (HIGH, {"seconds": SLOW_SECONDS}, True),
        (HIGH, {"enqueued": True}, True),
        (HIGH, {"failed": True, "seconds": IN_TIME_SECONDS}, False),
        (LOW, {"seconds": IN_TIME_SECONDS}, True),
        (HIGH, {"enqueued": True, "seconds": IN_TIME_SECONDS}, True),
    ],
    ids=["quick", "chosen", "failed", "slow", "with a job", "too late", "chosen and late", "with a job and late"],
)
def test_a_request_has_an_exemplar_where_its_trace_stays(trace_id: int, facts: dict[str, Any], *, leads: bool) -> None:
    """A request has an exemplar if its trace is kept anyway, or if a mark on its span still comes in time."""
    tracing = Tracing(trace_id)
    span = tracing.start()
    exemplar = request_exemplar(span, **{**PLAIN, **facts})
    span.end()
    assert (exemplar is not None) is leads
    [ended] = tracing.ended()
    assert (ended.attributes or {}).get(EXEMPLAR, False) is leads
    if exemplar is not None:
        assert exemplar["trace_id"] == f"{trace_id:032x}"


def test_a_span_that_has_ended_or_is_not_recorded_gives_none() -> None:
    """A span that can no longer be marked, or never could, gives no exemplar."""
    ended = Tracing(LOW).start()
    ended.end()
    dropped = Tracing(LOW, sampler=ALWAYS_OFF).start()
    elsewhere = NonRecordingSpan(SpanContext(LOW, 1, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
    for span in (ended, dropped, elsewhere):
        assert marked_exemplar(span) is None
        assert exemplar_by_id(span) is None
        assert request_exemplar(span, seconds=0.1, failed=True, enqueued=True) is None


def test_a_head_sampler_of_a_tenth_keeps_what_is_kept() -> None:
    """Whatever a head sampler with the ratio 0.1 lets through is kept by its id, so nothing is sampled twice."""
    sampler = TraceIdRatioBased(0.1)
    for chance in (0, KEPT_BY_ID - 2, KEPT_BY_ID - 1, KEPT_BY_ID, 0xFFFF):
        trace_id = 1 << 127 | chance << 48
        if sampler.should_sample(None, trace_id, "n").decision.is_sampled():
            assert is_kept_by_id(trace_id)


@pytest.mark.parametrize(("trace_id", "leads"), [(LOW, True), (HIGH, False)], ids=["chosen", "not chosen"])
def test_a_pause_leads_to_a_trace_that_is_kept_by_its_id(trace_id: int, *, leads: bool) -> None:
    """A garbage collection marks no span, since it may come while the span is locked."""
    registry = CollectorRegistry()
    watch = GcPauseMonitor(Metrics(registry, version="1", environment="test"))
    tracing = Tracing(trace_id)
    with use_span(tracing.start(), end_on_exit=True):
        watch.start()
        gc.collect()
        watch.stop()
    shown = {
        sample.exemplar.labels["trace_id"]
        for family in registry.collect()
        for sample in family.samples
        if sample.exemplar
    }
    assert shown == ({f"{trace_id:032x}"} if leads else set())
    [ended] = tracing.ended()
    assert EXEMPLAR not in (ended.attributes or {})

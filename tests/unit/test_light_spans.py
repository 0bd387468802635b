from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracer,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from service.telemetry.light_spans import LightSpan, LightTracer, light


class World:
    """A provider whose spans end in memory."""

    def __init__(self, sampler: Sampler = DEFAULT_ON) -> None:
        self.memory = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.memory))
        self.sdk = self.provider.get_tracer("t", "1")
        self.tracer: Tracer = light(self.sdk)

    def ended(self) -> ReadableSpan:
        """The one span that has ended."""
        [span] = self.memory.get_finished_spans()
        return span


def said(span: ReadableSpan) -> dict[str, object]:
    """All that a span tells but its ids and times."""
    return {
        "name": span.name,
        "kind": span.kind,
        "attributes": dict(span.attributes or {}),
        "status": span.status.status_code,
        "events": [(event.name, (event.attributes or {}).get("exception.type")) for event in span.events],
        "links": len(span.links),
        "scope": span.instrumentation_scope,
        "resource": span.resource,
        "parent": span.parent,
    }


def work(tracer: Tracer) -> None:
    """All that the interface can do, done to one span."""
    span = tracer.start_span("a", kind=SpanKind.CLIENT, attributes={"x": 1, "list": [1, 2], "map": {"k": [1]}})
    span.update_name("b")
    span.set_attributes({"y": "z", "x": 2})
    span.add_event("told", {"a": 1})
    span.add_link(SpanContext(1, 2, is_remote=False))
    span.record_exception(KeyError("a cell"))
    span.set_status(Status(StatusCode.ERROR, "words"))
    span.set_status(StatusCode.UNSET)
    span.end()
    span.end()


def test_it_tells_what_the_sdks_span_tells() -> None:
    """Name, kind, attributes, status, events, links, scope, resource and parent are those of the SDK's span."""
    ours, theirs = World(), World()
    work(ours.tracer)
    work(theirs.sdk)
    assert isinstance(ours.ended(), LightSpan)
    expected = said(theirs.ended())
    assert said(ours.ended()) == {**expected, "resource": ours.provider.resource}
    assert "a cell" not in ours.ended().to_json()
    assert ours.ended().status.description is None


def test_nothing_changes_after_the_end() -> None:
    """What is set on a span that has ended is not heard, and it is handed on once."""
    world = World()
    span = world.tracer.start_span("a", start_time=5)
    span.end(7)
    assert not span.is_recording()
    span.set_attribute("x", 1)
    span.update_name("b")
    span.set_status(StatusCode.ERROR)
    span.add_event("late")
    span.add_link(SpanContext(1, 2, is_remote=False))
    span.end(9)
    told = said(world.ended())
    assert (told["name"], told["attributes"], told["status"], told["events"], told["links"]) == (
        "a", {}, StatusCode.UNSET, [], 0,
    )  # fmt: skip
    assert (world.ended().start_time, world.ended().end_time) == (5, 7)


def test_ok_is_the_last_word() -> None:
    """A status that is OK stays so."""
    world = World()
    with world.tracer.start_span("a") as span:
        span.set_status(StatusCode.OK)
        span.set_status(StatusCode.ERROR)
    assert world.ended().status.status_code is StatusCode.OK


@pytest.mark.parametrize("marked", [True, False])
def test_an_error_in_its_block(*, marked: bool) -> None:
    """It is an error by its type, as an event only where that is asked for, and goes on its way."""
    world = World()
    with pytest.raises(ValueError, match="Ann"), world.tracer.start_span("a", record_exception=marked):
        raise ValueError("Ann")
    told = said(world.ended())
    assert told["status"] is StatusCode.ERROR
    assert told["events"] == ([("exception", "ValueError")] if marked else [])
    assert "Ann" not in world.ended().to_json()


def test_parents_and_children() -> None:
    """A child is of its parent's trace with its flags, beside spans of the SDK, and current only where asked for."""
    world = World()
    with (
        world.tracer.start_as_current_span("root") as root,
        world.sdk.start_as_current_span("sdk") as between,
        world.tracer.start_span("leaf") as leaf,
    ):
        assert trace.get_current_span() is between
    assert isinstance(between, SdkSpan)
    spans = {span.name: span for span in world.memory.get_finished_spans()}
    assert spans["root"].parent is None
    assert spans["sdk"].parent == root.get_span_context()
    assert spans["leaf"].parent == between.get_span_context()
    contexts = [span.get_span_context() for span in (root, between, leaf)]
    assert len({context.trace_id for context in contexts}) == 1
    assert {int(context.trace_flags) for context in contexts} == {TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID}


@pytest.mark.parametrize(
    ("sampler", "recording", "sampled"),
    [
        (ALWAYS_OFF, False, False),
        (DEFAULT_ON, True, True),
        (StaticSampler(Decision.RECORD_ONLY), True, False),
        (ParentBased(TraceIdRatioBased(0.0)), False, False),
    ],
)
def test_the_sampler_decides_on_a_root(sampler: Sampler, *, recording: bool, sampled: bool) -> None:
    """A root that the sampler does not want is not recorded, and has valid ids all the same."""
    world = World(sampler)
    with world.tracer.start_span("a") as span:
        assert span.is_recording() is recording
    assert span.get_span_context().is_valid
    assert span.get_span_context().trace_flags.sampled is sampled
    assert len(world.memory.get_finished_spans()) == sampled


@pytest.mark.parametrize("sampled", [True, False])
def test_a_caller_elsewhere_has_decided(*, sampled: bool) -> None:
    """A remote parent's decision, ids and trace state are taken on, as the sampler has it."""
    world = World(ParentBased(ALWAYS_OFF))
    remote = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(int(sampled)))
    span = world.tracer.start_span("a", context=set_span_in_context(NonRecordingSpan(remote)))
    assert span.is_recording() is sampled
    assert span.get_span_context().trace_id == 5
    assert not span.get_span_context().trace_flags.random_trace_id


def test_limits_are_the_sdks_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment limits attributes, and where the tracer is not the SDK's, it stays as it is."""
    assert isinstance(World().tracer, LightTracer)
    assert isinstance(light(NoOpTracer()), NoOpTracer)
    for name in ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"):
        with monkeypatch.context() as patched:
            patched.setenv(name, "5")
            world = World()
            world.tracer.start_span("a", attributes={str(n): "x" * 9 for n in range(9)}).end()
            assert not isinstance(world.ended(), LightSpan)
            attributes = world.ended().attributes or {}
            assert len(attributes) == 5 or set(attributes.values()) == {"xxxxx"}


@pytest.mark.parametrize(
    "sampler",
    [
        DEFAULT_ON,
        ALWAYS_OFF,
        TraceIdRatioBased(0.3),
        ParentBased(TraceIdRatioBased(0.3)),
        StaticSampler(Decision.RECORD_AND_SAMPLE),
        StaticSampler(Decision.RECORD_ONLY),
    ],
)
def test_a_trace_begins_as_the_sampler_has_it(sampler: Sampler) -> None:
    """Begun at once or through the sampler, the decision on a trace is the one that the sampler makes of its id."""
    tracer = World(sampler).tracer
    assert isinstance(tracer, LightTracer)
    for _ in range(200):
        span = tracer.start_trace("a", SpanKind.SERVER)
        context = span.get_span_context()
        decision = sampler.should_sample(Context(), context.trace_id, "a").decision
        assert (span.is_recording(), context.trace_flags.sampled) == (decision.is_recording(), decision.is_sampled())
        assert context.is_valid
        assert context.trace_flags.random_trace_id

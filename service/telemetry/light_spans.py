"""Spans that cost a third of the SDK's, for those that a request makes: its own, and those of database and cache.

The SDK's span has three locks, cleans and copies every attribute and is copied itself when it ends, so that several
threads may write to it. These are written to by one task, with attributes of ours or of the instrumentations', and are
handed on as they are. Sampler, ids, resource and processors are the provider's; processors hear of their ends alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time_ns
from types import TracebackType
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.util.types import AnyValue, Attributes

from service.telemetry.exception_scrubbing import EXCEPTION, EXCEPTION_TYPE

MANY_ATTRIBUTES = 64
"""More than any of these spans has."""
_SCALARS = frozenset({str, int, bool, float})
_FLAGS = {
    (sampled, random): TraceFlags(sampled * TraceFlags.SAMPLED | random * TraceFlags.RANDOM_TRACE_ID)
    for sampled in (False, True)
    for random in (False, True)
}
_NOWHERE = Context()
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)


@dataclass(frozen=True, slots=True)
class _Origin:
    """What all spans of a tracer share."""

    sampler: Sampler
    ids: IdGenerator
    processor: SpanProcessor
    resource: Any
    scope: InstrumentationScope


class LightSpan(ReadableSpan, Span):
    """One span; for one task. Exceptions are recorded by type only."""

    # The defaults of what few spans have; the rest is set by the constructor, which does not call the SDK's.
    _events: Sequence[Event] = ()
    _links: Sequence[Link] = ()
    _status: Status = _UNSET
    _end_time: int | None = None
    _instrumentation_info = None
    _marks_exceptions = True

    def __init__(
        self, origin: _Origin, name: str, context: SpanContext, parent: SpanContext | None, kind: SpanKind
    ) -> None:
        self._origin = origin
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._resource = origin.resource
        self._instrumentation_scope = origin.scope
        self._attributes: dict[str, AnyValue] = {}
        self._start_time = time_ns()

    def adjust(self, links: Sequence[Link], start_time: int | None, *, marks_exceptions: bool) -> None:
        """Say what is seldom said when a span starts."""
        self._links = tuple(links)
        self._marks_exceptions = marks_exceptions
        if start_time is not None:
            self._start_time = start_time

    def get_span_context(self) -> SpanContext:
        """Its ids."""
        return self._context

    def is_recording(self) -> bool:
        """Until it ends."""
        return self._end_time is None

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Set one; nothing once it has ended."""
        if self._end_time is None:
            self._attributes[key] = value if type(value) in _SCALARS else _kept(value)

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Set some."""
        if self._end_time is None:
            own = self._attributes
            for key, value in attributes.items():
                own[key] = value if type(value) in _SCALARS else _kept(value)

    def update_name(self, name: str) -> None:
        """Rename it."""
        if self._end_time is None:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:  # noqa: ARG002 -- descriptions may quote data
        """Set it unless it is OK already, without the description."""
        code = status if isinstance(status, StatusCode) else status.status_code
        if self._end_time is None and code is not StatusCode.UNSET and self._status.status_code is not StatusCode.OK:
            self._status = _ERROR if code is StatusCode.ERROR else Status(code)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Add an event."""
        if self._end_time is None:
            self._events = (*self._events, Event(name, attributes, timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add a link."""
        if self._end_time is None:
            self._links = (*self._links, Link(context, attributes))

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,  # noqa: ARG002 -- they may quote what the message quotes
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: ARG002, FBT001, FBT002 -- the interface's
    ) -> None:
        """Add the event of an exception."""
        kind = type(exception)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        self.add_event(EXCEPTION, {EXCEPTION_TYPE: name}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """Hand it to the processors; once."""
        if self._end_time is None:
            self._end_time = time_ns() if end_time is None else end_time
            self._origin.processor.on_end(self)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if isinstance(exc_val, Exception):
            if self._marks_exceptions:
                self.record_exception(exc_val)
            self.set_status(StatusCode.ERROR)
        self.end()


class LightTracer(Tracer):
    """Starts light spans as the SDK's tracer would start its own."""

    def __init__(self, tracer: SdkTracer) -> None:
        self._bound = _bound(tracer.sampler)
        scope = tracer._instrumentation_scope  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- versions are pinned exactly
        self._origin = _Origin(tracer.sampler, tracer.id_generator, tracer.span_processor, tracer.resource, scope)

    def start_trace(self, name: str, kind: SpanKind) -> Span:
        """Begin a trace: what `start_span` does in an empty context, at once where a share of all ids is sampled."""
        origin = self._origin
        if self._bound is None:
            return self._decided(name, _NOWHERE, None, kind)
        trace_id = origin.ids.generate_trace_id()
        sampled = trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound
        flags = _FLAGS[sampled, origin.ids.is_trace_id_random()]
        context = SpanContext(trace_id, origin.ids.generate_span_id(), is_remote=False, trace_flags=flags)
        return LightSpan(origin, name, context, None, kind) if sampled else NonRecordingSpan(context)

    def start_span(  # noqa: PLR0917 -- the interface's
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 -- likewise
        set_status_on_exception: bool = True,  # noqa: ARG002, FBT001, FBT002 -- always
    ) -> Span:
        """A child of the context's span, or a root."""
        parent = trace.get_current_span(context).get_span_context()
        if parent.is_valid and not parent.is_remote and parent.trace_flags.sampled:
            span = self._child(name, parent, kind)
        else:
            started = self._decided(name, context, parent if parent.is_valid else None, kind)
            if not isinstance(started, LightSpan):
                return started
            span = started
        if attributes:
            span.set_attributes(attributes)
        if links or start_time is not None or not record_exception:
            span.adjust(links or (), start_time, marks_exceptions=record_exception)
        return span

    def start_as_current_span(self, name: str, *args: Any, end_on_exit: bool = True, **options: Any) -> Any:
        """Likewise, and make it the current one in the block."""
        return trace.use_span(
            self.start_span(name, *args, **options),
            end_on_exit=end_on_exit,
            record_exception=options.get("record_exception", True),
            set_status_on_exception=options.get("set_status_on_exception", True),
        )

    def _child(self, name: str, parent: SpanContext, kind: SpanKind) -> LightSpan:
        """Whatever the sampler: of a trace that is recorded here, each of the standard ones records all."""
        origin = self._origin
        context = SpanContext(
            parent.trace_id,
            origin.ids.generate_span_id(),
            is_remote=False,
            trace_flags=parent.trace_flags,
            trace_state=parent.trace_state,
        )
        return LightSpan(origin, name, context, parent, kind)

    def _decided(self, name: str, around: Context | None, parent: SpanContext | None, kind: SpanKind) -> Span:
        """A span that begins what is recorded here, if the sampler wants it."""
        ids = self._origin.ids
        if parent is None:
            trace_id, random = ids.generate_trace_id(), ids.is_trace_id_random()
        else:
            trace_id, random = parent.trace_id, parent.trace_flags.random_trace_id
        result = self._origin.sampler.should_sample(around, trace_id, name, kind)
        flags = _FLAGS[result.decision.is_sampled(), random]
        context = SpanContext(
            trace_id, ids.generate_span_id(), is_remote=False, trace_flags=flags, trace_state=result.trace_state
        )
        if not result.decision.is_recording():
            return NonRecordingSpan(context)
        span = LightSpan(self._origin, name, context, parent, kind)
        span.set_attributes(cast("Mapping[str, AnyValue]", result.attributes))
        return span


def _bound(sampler: Sampler) -> int | None:
    """Traces whose id's lower half is less are sampled; None where that is not all that the sampler looks at."""
    if isinstance(sampler, ParentBased):
        sampler = sampler._root  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- versions are pinned exactly
    if type(sampler) is TraceIdRatioBased:
        return sampler.bound
    return {id(ALWAYS_ON): TraceIdRatioBased.TRACE_ID_LIMIT + 1, id(ALWAYS_OFF): 0}.get(id(sampler))


def light(tracer: Tracer) -> Tracer:
    """The tracer with light spans; as it is where it is not the SDK's, or the environment limits what spans hold."""
    if not isinstance(tracer, SdkTracer):
        return tracer
    limits = tracer._span_limits  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- versions are pinned exactly
    many = limits.max_span_attributes is None or limits.max_span_attributes >= MANY_ATTRIBUTES
    return LightTracer(tracer) if many and limits.max_span_attribute_length is None else tracer


def _kept(value: AnyValue) -> AnyValue:
    """Copy a value into types that can be exported and are not changed afterwards."""
    if value is None or isinstance(value, (str, bool, int, float, bytes)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _kept(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_kept(inner) for inner in cast("Sequence[AnyValue]", value))
    return str(value)

"""Spans as OTLP's protobuf, written without protobuf's Python objects, which took most of the time of an export.

Spans have the same few names and attributes over and over, so their encoded forms are kept. What few spans have
(events, links, a trace state, attributes that are neither text nor number) is left to the SDK's own encoder; the tests
compare its bytes with these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from struct import Struct
from typing import Any, cast

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind

MAX_KEPT = 4096
"""Encoded forms that are kept; some are of addresses that do not come again, so at times all are given up."""

# Tags of opentelemetry/proto/trace/v1/trace.proto and common.proto: field number << 3 | wire type, often with a length.
_TRACE_ID, _SPAN_ID, _PARENT_ID, _NAME = b"\x0a\x10", b"\x12\x08", b"\x22\x08", b"\x2a"
_KINDS = {kind: b"\x30" + bytes((kind.value + 1,)) for kind in SpanKind}
_START, _END, _TIMES = 7 << 3 | 1, 8 << 3 | 1, Struct("<BQBQ")
_ATTRIBUTE, _KEY, _VALUE = b"\x4a", b"\x0a", b"\x12"
_STATUSES = (b"\x7a\x00", b"\x7a\x02\x18\x01", b"\x7a\x02\x18\x02")
"""Unset, OK, error."""
_FLAGS_LOCAL, _FLAGS_REMOTE = b"\x85\x01\x00\x01\x00\x00", b"\x85\x01\x00\x03\x00\x00"
"""Whether the parent is in another process."""
_TEXT, _BOOLEANS, _INTEGER, _DOUBLE = b"\x0a", (b"\x10\x00", b"\x10\x01"), b"\x18", Struct("<Bd")
_RESOURCE_SPANS, _RESOURCE, _SCOPE_SPANS, _SCOPE, _SPAN, _SCHEMA = b"\x0a", b"\x0a", b"\x12", b"\x0a", b"\x12", b"\x1a"
_SHORT = [bytes((size,)) for size in range(0x80)]
_NAMED = "\0"
"""What no attribute is called."""
_NOWHERE = SpanContext(0, 0, is_remote=False)
_SEVEN_BITS, _INT64 = 0x7F, 1 << 63


_Key = tuple[str, type[Any], Any]
"""Name, type and value: 1, 1.0 and true are equal to a dictionary."""


class _Unusual(Exception):
    """The span has what is left to the SDK."""


class SpanEncoder:
    """Makes the body of an export request; for one thread at a time."""

    def __init__(self) -> None:
        self._kept: dict[_Key, bytes] = {}

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """The request for these spans, by resource and instrumentation."""
        groups: dict[int, dict[int, list[ReadableSpan]]] = defaultdict(lambda: defaultdict(list))
        for span in spans:
            groups[id(span.resource)][id(span.instrumentation_scope)].append(span)
        return b"".join([self._resource_spans([*scopes.values()]) for scopes in groups.values()])

    def _resource_spans(self, scopes: list[list[ReadableSpan]]) -> bytes:
        """What is said of a resource and a scope comes from the SDK's encoder, by an empty span of each."""
        parts: list[bytes] = []
        for spans in scopes:
            [like] = encode_spans([_empty(spans[0])]).resource_spans
            [scope] = like.scope_spans
            if not parts:
                parts.append(_field(_RESOURCE, like.resource.SerializeToString()))
            head, schema = _field(_SCOPE, scope.scope.SerializeToString()), _text(_SCHEMA, scope.schema_url)
            parts.append(_field(_SCOPE_SPANS, b"".join([head, *map(self._span, spans), schema])))
        parts.append(_text(_SCHEMA, scopes[0][0].resource.schema_url))
        return _field(_RESOURCE_SPANS, b"".join(parts))

    def _span(self, span: ReadableSpan) -> bytes:
        try:
            return _field(_SPAN, self._usual(span))
        except _Unusual:
            [like] = encode_spans([span]).resource_spans
            return _field(_SPAN, like.scope_spans[0].spans[0].SerializeToString())

    def _usual(self, span: ReadableSpan) -> bytes:
        context, parent, status = span.context or _NOWHERE, span.parent, span.status
        if span.events or span.links or context.trace_state or status.description or span.dropped_attributes:
            raise _Unusual
        kept, name = self._kept, span.name
        parts = [
            *(_TRACE_ID, context.trace_id.to_bytes(16, "big"), _SPAN_ID, context.span_id.to_bytes(8, "big")),
            b"" if parent is None else _PARENT_ID + parent.span_id.to_bytes(8, "big"),
            kept.get((_NAMED, str, name)) or self._keep((_NAMED, str, name), _text(_NAME, name)),
            _KINDS[span.kind],
            _TIMES.pack(_START, span.start_time or 0, _END, span.end_time or 0),
        ]
        try:
            parts += [
                kept.get((key, type(value), value)) or self._attribute(key, value)
                for key, value in (span.attributes or {}).items()
            ]
        except TypeError:  # a value that cannot be hashed
            raise _Unusual from None
        parts += (_STATUSES[status.status_code.value], _flags(parent))
        return b"".join(parts)

    def _attribute(self, name: str, value: Any) -> bytes:
        encoded = _field(_ATTRIBUTE, _text(_KEY, name) + _field(_VALUE, _value(value)))
        return self._keep((name, cast("type[Any]", type(value)), value), encoded)

    def _keep(self, key: _Key, encoded: bytes) -> bytes:
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[key] = encoded
        return encoded


class LightExporter(OTLPSpanExporter):
    """The SDK's exporter, with its settings, limits and repetitions, and that encoder."""

    def __init__(self, endpoint: str | None = None) -> None:
        super().__init__(endpoint)
        self._encoder = SpanEncoder()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch. Raises what the encoder raises."""
        if self._shutdown:
            return SpanExportResult.FAILURE
        body = self._encoder.encode(spans)
        if 0 < self._max_request_size < len(body):
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS if self._client.export(body).success else SpanExportResult.FAILURE


def _empty(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan("", _NOWHERE, resource=span.resource, instrumentation_scope=span.instrumentation_scope)


def _value(value: Any) -> bytes:
    """The fields of an AnyValue."""
    match value:
        case str():
            return _text(_TEXT, value, always=True)
        case bool():
            return _BOOLEANS[value]
        case int() if -_INT64 <= value < _INT64:
            return _INTEGER + _varint(value % (_INT64 * 2))
        case float():
            return _DOUBLE.pack(4 << 3 | 1, value)
        case _:
            raise _Unusual


def _text(tag: bytes, text: str | None, *, always: bool = False) -> bytes:
    """Nothing for an empty one, as protobuf has it, unless it is one of several kinds of value."""
    return _field(tag, text.encode("utf-8", "replace")) if text else tag + b"\x00" if always else b""


def _field(tag: bytes, content: bytes) -> bytes:
    size = len(content)
    return tag + (_SHORT[size] if size <= _SEVEN_BITS else _varint(size)) + content


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > _SEVEN_BITS:
        octets.append(number & _SEVEN_BITS | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def _flags(parent: SpanContext | None) -> bytes:
    return _FLAGS_REMOTE if parent is not None and parent.is_remote else _FLAGS_LOCAL

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from service.telemetry import otlp
from service.telemetry.light_spans import light
from service.telemetry.otlp import LightExporter, SpanEncoder

VALUES: list[Any] = [
    "", "ü\n", "x" * 300, True, False, 0, 1, 127, 128, -1, 1 << 40, -(1 << 63), (1 << 63) - 1, 0.0, 1.5, float("inf"),
    ("a", "b"), [1, 2], {"a": {"b": 1}}, None, b"\xff",
]  # fmt: skip


class Made:
    """Spans of a provider with two resources' worth of tracers."""

    def __init__(self) -> None:
        self.memory = InMemorySpanExporter()
        self.provider = TracerProvider(
            resource=Resource.create({"service.name": "s", "n": 1}, "https://schema"), shutdown_on_exit=False
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self.memory))

    @property
    def spans(self) -> list[ReadableSpan]:
        """What has ended."""
        return list(self.memory.get_finished_spans())


@pytest.fixture
def made() -> Made:
    """No span yet."""
    return Made()


def agree(spans: list[ReadableSpan]) -> bool:
    """Whether both encoders write the same bytes, twice in a row."""
    encoder = SpanEncoder()
    expected = encode_spans(spans).SerializeToString()
    return [encoder.encode(spans), encoder.encode(spans)] == [expected, expected]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_kind_of_attribute(made: Made, value: Any) -> None:
    """An attribute of any type is written as the SDK's encoder writes it, on its spans and on light ones."""
    for tracer in (made.provider.get_tracer("t"), light(made.provider.get_tracer("t"))):
        tracer.start_span("x", attributes={"key": value, "é" * 100: "v"}).end()
    assert len(made.spans) == 2
    assert agree(made.spans[:1])
    assert agree(made.spans[1:])


def test_equal_values_of_different_types(made: Made) -> None:
    """1, 1.0 and true are equal to Python and three values to a collector."""
    for value in (1, True, 1.0, 0, False, 0.0):
        made.provider.get_tracer("t").start_span("x", attributes={"k": value}).end()
    assert agree(made.spans)


def test_what_few_spans_have(made: Made) -> None:
    """Events, links, statuses, kinds, remote parents and trace states are all there."""
    tracer = light(made.provider.get_tracer("t", "1", schema_url="https://scope"))
    remote = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("v", "1")]))
    around = set_span_in_context(NonRecordingSpan(remote))
    local = set_span_in_context(NonRecordingSpan(SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1))))
    for kind in SpanKind:
        for status in StatusCode:
            span = tracer.start_span("x", context=local, kind=kind)
            span.set_status(status)
            span.end()
    event = tracer.start_span("event", context=around)
    event.add_event("told", {"a": 1})
    event.end()
    tracer.start_span("link", links=[Link(remote, {"a": "b"})]).end()
    with made.provider.get_tracer("other").start_as_current_span("outer") as outer:
        outer.set_status(StatusCode.ERROR, "words")
        tracer.start_span("inner").end()
    for span in made.spans:
        assert agree([span])
    request = ExportTraceServiceRequest.FromString(SpanEncoder().encode(made.spans))
    [resource] = request.resource_spans
    assert {scope.scope.name: len(scope.spans) for scope in resource.scope_spans} == {"t": 18, "other": 1}
    assert resource.schema_url == "https://schema"


def test_two_resources(made: Made) -> None:
    """Spans of two providers in one batch stay with the resource of each."""
    other = Made()
    for provider in (made.provider, other.provider):
        provider.get_tracer("t").start_span("x").end()
    request = ExportTraceServiceRequest.FromString(SpanEncoder().encode([*made.spans, *other.spans]))
    assert [len(resource.scope_spans[0].spans) for resource in request.resource_spans] == [1, 1]


def test_names_that_never_end(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of names and values is bounded, and nothing is wrong once it is given up."""
    monkeypatch.setattr(otlp, "MAX_KEPT", 8)
    for number in range(30):
        made.provider.get_tracer("t").start_span(f"n{number}", attributes={"k": f"v{number}"}).end()
    encoder = SpanEncoder()
    assert encoder.encode(made.spans) == encode_spans(made.spans).SerializeToString()
    assert len(encoder._kept) <= 8


def test_text_that_is_no_unicode(made: Made) -> None:
    """A lone surrogate costs one character, not the batch."""
    light(made.provider.get_tracer("t")).start_span("x\ud800", attributes={"k": "v\ud800"}).end()
    request = ExportTraceServiceRequest.FromString(SpanEncoder().encode(made.spans))
    [span] = request.resource_spans[0].scope_spans[0].spans
    assert (span.name, span.attributes[0].value.string_value) == ("x?", "v?")


class Collector:
    """Takes what is posted, and answers with the next of the given statuses, at last with 200."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((self.path, headers, body))
                self.send_response(outer.statuses.pop(0) if outer.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Of the traces."""
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"


@pytest.fixture
def collector() -> Iterator[Collector]:
    """One that listens."""
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def test_settings_of_the_environment(made: Made, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers and compression of OTEL_EXPORTER_OTLP_* go with a request, and it is protobuf over HTTP."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=ours")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    made.provider.get_tracer("t").start_span("x").end()
    exporter = LightExporter(collector.url)
    assert exporter.export(made.spans) is SpanExportResult.SUCCESS
    exporter.shutdown()
    [(path, headers, body)] = collector.asked
    assert (path, headers["content-type"], headers["x-tenant"]) == ("/v1/traces", "application/x-protobuf", "ours")
    assert gzip.decompress(body) == encode_spans(made.spans).SerializeToString()


def test_a_busy_collector_is_asked_again(made: Made, collector: Collector) -> None:
    """503 is tried again, 400 is not."""
    made.provider.get_tracer("t").start_span("x").end()
    exporter = LightExporter(collector.url)
    collector.statuses = [503]
    assert exporter.export(made.spans) is SpanExportResult.SUCCESS
    collector.statuses = [400]
    assert exporter.export(made.spans) is SpanExportResult.FAILURE
    exporter.shutdown()
    assert len(collector.asked) == 3
    assert exporter.export(made.spans) is SpanExportResult.FAILURE
    assert len(collector.asked) == 3


def test_a_batch_that_is_too_large(made: Made, collector: Collector) -> None:
    """A request over the exporter's limit is not sent."""
    made.provider.get_tracer("t").start_span("x").end()
    exporter = LightExporter(collector.url)
    exporter._max_request_size = 10
    assert exporter.export(made.spans) is SpanExportResult.FAILURE
    exporter.shutdown()
    assert collector.asked == []

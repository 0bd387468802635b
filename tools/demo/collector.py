"""Collect traces in this process: receive OTLP over HTTP, and return spans by trace id.

It takes the place of Jaeger, so that the demo proves the service's real export without one.
Protocol: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from types import TracebackType
from typing import Self

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tools.demo.trace_tree import KINDS, Kind, Span

PATH = "/v1/traces"
MAX_BODY_BYTES = 16 * 2**20
"""Of one export, also after decompression; the SDK's batches of 512 spans stay far below."""
_PROTOBUF = "application/x-protobuf"
_GZIP_WINDOW = 31
"""zlib's number for a gzip stream with the largest window."""


class Collector:
    """Listen on a free port of 127.0.0.1 for the length of a `with` block."""

    def __init__(self) -> None:
        self._spans: dict[str, dict[str, Span]] = {}
        self._arrived = Condition()
        self._last_arrival: dict[str, float] = {}
        self._server = _Server(self)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="otlp-collector")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Return the base address for an exporter, without the path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, spans: Iterable[Span]) -> None:
        """Keep the spans; one that was sent twice counts once."""
        with self._arrived:
            for span in spans:
                self._spans.setdefault(span.trace_id, {})[span.span_id] = span
                self._last_arrival[span.trace_id] = time.monotonic()
            self._arrived.notify_all()

    def spans(self, trace_id: str) -> tuple[Span, ...]:
        """Return the spans of one trace that have arrived."""
        with self._arrived:
            return tuple(self._spans.get(trace_id, {}).values())

    def wait_for_trace(
        self, trace_id: str, *, seconds: float, quiet: float = 0.6, awaited: Iterable[tuple[str, Kind]] = ()
    ) -> tuple[Span, ...]:
        """Wait until a trace is complete, for at most `seconds`, and return its spans.

        A trace is complete when it has a root, every other span has its parent, and no span has arrived for `quiet`
        seconds (longer than the delay of the exporter's batches). Another process may export later than that: name
        such spans in `awaited`, by name and kind, and the trace is not complete without them.
        """
        needed = set(awaited)
        deadline = time.monotonic() + seconds
        with self._arrived:
            while (now := time.monotonic()) < deadline:
                quiet_left = self._last_arrival.get(trace_id, now) + quiet - now
                complete = _is_complete(self._spans.get(trace_id, {}), needed)
                if complete and quiet_left <= 0:
                    break
                self._arrived.wait(min(quiet_left if complete else deadline - now, deadline - now))
        return self.spans(trace_id)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, collector: Collector) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.collector = collector


class _Handler(BaseHTTPRequestHandler):
    """Handle one export, which is one request on one connection (HTTP/1.0)."""

    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] -- the base class knows only its own base
    timeout = 10

    def do_POST(self) -> None:
        """Store the spans of an export, or answer with the reason why not."""
        status, body = self._receive()
        self.send_response(status)
        self.send_header("Content-Type", _PROTOBUF)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
        """Log nothing: the terminal shows the report."""

    def _receive(self) -> tuple[HTTPStatus, bytes]:
        length = self.headers.get("Content-Length", "")
        if self.path != PATH:
            return HTTPStatus.NOT_FOUND, b""
        if not length.isdecimal():
            return HTTPStatus.LENGTH_REQUIRED, b""
        if int(length) > MAX_BODY_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b""
        try:
            body = _decompressed(self.rfile.read(int(length)), self.headers.get("Content-Encoding"))
            spans = tuple(decode_spans(body))
        except (DecodeError, zlib.error, ValueError):
            return HTTPStatus.BAD_REQUEST, b""
        self.server.collector.add(spans)
        return HTTPStatus.OK, ExportTraceServiceResponse().SerializeToString()


def decode_spans(body: bytes) -> Iterator[Span]:
    """Decode the spans of one protobuf export. Raises DecodeError."""
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from map(_span, scope.spans)


def _span(span: trace_pb2.Span) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=KINDS[span.kind] if 0 <= span.kind < len(KINDS) else "unspecified",
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        attributes=dict(map(_attribute, span.attributes)),
    )


def _attribute(pair: KeyValue) -> tuple[str, str | int | float | bool]:
    return pair.key, _plain(pair.value)


def _plain(value: AnyValue) -> str | int | float | bool:
    """Return a scalar as it is; an array, a map or bytes as the text of its protobuf."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "bool_value":
            return value.bool_value
        case _:
            return str(value).strip()


def _decompressed(body: bytes, encoding: str | None) -> bytes:
    """Decompress a body. Raises ValueError for an unknown encoding or too large a body."""
    if encoding in {None, "identity"}:
        return body
    if encoding != "gzip":
        raise ValueError(f"The encoding {encoding} is not known.")
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    plain = inflater.decompress(body, MAX_BODY_BYTES)
    if not inflater.eof:
        raise ValueError("The body is cut off, or larger than a collector takes.")
    return plain


def _is_complete(spans: dict[str, Span], needed: set[tuple[str, Kind]]) -> bool:
    return (
        any(not span.parent_id for span in spans.values())
        and all(not span.parent_id or span.parent_id in spans for span in spans.values())
        and needed <= {(span.name, span.kind) for span in spans.values()}
    )

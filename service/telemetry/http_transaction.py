"""Serve one HTTP request for the observer: record its outcome, and answer when the application fails to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter, time_ns
from typing import Any, Final
from urllib.parse import quote

import msgspec
import structlog
from opentelemetry.trace import Span, StatusCode

from service.features.context import RequestContext
from service.telemetry.catalog import CLIENT_CLOSED_REQUEST, METHODS
from service.telemetry.exemplars import request_exemplar
from service.telemetry.http_attributes import request_attributes

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

_SERVER_ERROR: Final = 500
_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class HttpTransaction:
    """Hold one request and its outcome."""

    __slots__ = (
        "_receive",
        "_send",
        "client_left",
        "correlation",
        "count",
        "ended",
        "error_type",
        "exemplar",
        "failed",
        "method",
        "path",
        "scope",
        "span",
        "status",
    )

    def __init__(
        self,
        scope: Message,
        span: Span,
        correlation: RequestContext,
        count: Callable[[HttpTransaction], None] | None = None,
    ) -> None:
        """`count` is called before the last byte is sent, so that metrics that survive a kill include the request."""
        self.scope = scope
        self.span = span
        self.correlation = correlation
        self.method: str = scope["method"]
        self.path: str = scope["path"]  # the framework changes the scope's path
        self.status = 0
        self.ended = 0.0
        """`time.perf_counter()` when the last byte was handed to the server; 0 before."""
        self.count = count
        """None after it was called."""
        self.exemplar: dict[str, str] | None = None
        """Links to the request's trace, if that is kept."""
        self.failed = False
        """Whether the answer was cut off."""
        self.error_type = ""
        """The type of the error that broke the service, if known."""
        self.client_left = False

    @property
    def template(self) -> str | None:
        """Return the route that the framework matched."""
        return self.scope.get("path_template")

    def final_status(self) -> int:
        """Return the answer's status; 499 if the client left before it, 500 if the service failed."""
        if self.failed:
            return _SERVER_ERROR
        return self.status or (CLIENT_CLOSED_REQUEST if self.client_left else _SERVER_ERROR)

    async def run(self, app: Application, receive: Receive, send: Send) -> None:
        """Serve the request, and answer it if the application fails or gives no answer."""
        self._receive = receive
        self._send = send
        try:
            await app(self.scope, self._receive_noting_disconnect, self._send_with_headers)
            if not self.ended and not self.client_left:
                await self._unfinished()
        except Exception as error:  # noqa: BLE001 -- the outermost layer: whatever comes here is answered, not passed on
            await self._failed(error)
        finally:
            if self.span.is_recording():
                self._end_span()

    async def _receive_noting_disconnect(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.client_left = True
        return message

    async def _send_with_headers(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.client_left:
                self.status = CLIENT_CLOSED_REQUEST
                return
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._headers()]}
        elif self.status == CLIENT_CLOSED_REQUEST:
            return
        last = message["type"] == "http.response.body" and not message.get("more_body")
        if last and self.count is not None:
            self.count(
                self
            )  # before sending: an answer that a client has must be counted, even if this process is killed
            self.count = None
        await self._send(message)
        if last:
            self.ended = perf_counter()

    def _headers(self) -> tuple[tuple[bytes, bytes], ...]:
        correlation = self.correlation
        return (
            (b"x-request-id", correlation.request_id.encode()),
            (b"x-trace-id", correlation.trace_id.encode()),
            (b"x-process-time", b"%.6f" % (perf_counter() - correlation.started)),
        )

    async def _unfinished(self) -> None:
        _LOGGER.error("application did not finish its answer" if self.status else "application gave no answer")
        if self.status:
            self.failed = True  # the server cuts the connection
        else:
            self.error_type = "no_answer"
            await self._send_problem()

    async def _failed(self, error: Exception) -> None:
        if self.client_left and self.status in (0, CLIENT_CLOSED_REQUEST):
            return  # no client is left to be answered, and frameworks notice it by an error
        _LOGGER.error("request failed", exc_info=error)
        if not self.ended:
            self.error_type = type(error).__qualname__
        if not self.status:
            await self._send_problem()
        elif not self.ended:
            # Too late for another answer: the server closes the connection when this returns.
            self.failed = True

    async def _send_problem(self) -> None:
        body = _problem(self.correlation, self.path)
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
        await self._send_with_headers({"type": "http.response.start", "status": _SERVER_ERROR, "headers": headers})
        await self._send_with_headers({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})

    def _end_span(self) -> None:
        """Name and describe the span, now that the outcome is known; it ends with the answer's last byte."""
        span, status, template = self.span, self.final_status(), self.template
        method = self.method if self.method in METHODS else "HTTP"
        span.update_name(f"{method} {template}" if template else method)
        attributes = request_attributes(self.scope, self.method, self.path)
        attributes["http.response.status_code"] = status
        if template is not None:
            attributes["http.route"] = template
        if status >= _SERVER_ERROR:
            attributes["error.type"] = self.error_type or str(status)
            span.set_status(StatusCode.ERROR)
        span.set_attributes(attributes)
        self.exemplar = request_exemplar(
            span,
            seconds=(self.ended or perf_counter()) - self.correlation.started,
            failed=status >= _SERVER_ERROR,
            enqueued=self.correlation.enqueued,
        )
        span.end(time_ns() - int((perf_counter() - self.ended) * 1e9) if self.ended else None)


def _problem(correlation: RequestContext, path: str) -> bytes:
    """Encode the problem document (RFC 9457) of an unhandled failure, in the words of the API's own."""
    return msgspec.json.encode(
        {
            "type": "/api/problems/internal_error",
            "title": "The service failed",
            "status": _SERVER_ERROR,
            "detail": "The service failed to answer this request.",
            "instance": quote(path, errors="replace"),
            "error_category": "internal",
            "error_code": "internal_error",
            "error_severity": "critical",
            "retry_after": None,
            "support_reference": f"FA-{correlation.request_id}",
            "request_id": correlation.request_id,
            "trace_id": correlation.trace_id,
            "errors": [],
        }
    )

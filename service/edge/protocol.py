"""uvicorn's HTTP protocol with limits: bytes of the header, time to send a request, time to take an answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.edge.connections import Connections
from service.edge.limits import ANSWERS, Refusal

SINGLE = (b"host", b"authorization", b"content-length")
"""Fields that must not come twice: a proxy and the service could each take another one."""


FIELD_OVERHEAD = 4
"""Bytes of a field beside name and value: colon, space, end of line."""


class _RefusedError(Exception):
    """Ends parsing; the parser wraps it in an error of its own."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. Created by uvicorn; `limited_protocol` binds it to the process's connections."""

    all_connections: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._address = ""
        self._field_bytes = 0
        self._unparsed_bytes = 0
        """Of the header that is awaited, in all pieces since the one in which it began."""
        self._head_since: float | None = None
        """When the header that is awaited began; None while none is."""
        self._reading_since: float | None = None
        """When the body that is being read began; None while none is."""
        self._body_bytes = 0
        self._swept_at = 0.0
        self._unsent = 0
        self._stuck_since: float | None = None
        self._refusal: Refusal | None = None

    # Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] -- as uvicorn has it
        """Accept the connection, or answer that there are too many."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        refusal = self.all_connections.refusal(self._address)
        if refusal is not None:
            self._refuse(refusal)
            return
        self.all_connections.add(self, self._address)
        self._head_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give its place back."""
        self.all_connections.remove(self, self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, unless the header grows too large."""
        if self._refusal is not None:
            return
        self._unset_keepalive_if_required()
        in_head = self._head_since is not None
        try:
            self.parser.feed_data(data)  # pyright: ignore[reportOptionalMemberAccess] -- None once the connection is lost
        except httptools.HttpParserUpgrade:
            self._unsupported_upgrade_warning()
        except httptools.HttpParserError:
            self._refuse(self._refusal or "malformed")
            return
        if in_head and self._head_since is not None:
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > self.all_connections.limits.max_header_bytes > 0:
                self._refuse("headers_too_large")

    # Parser

    def on_message_begin(self) -> None:
        """Begin a header."""
        super().on_message_begin()
        self._field_bytes = self._unparsed_bytes = 0
        if self._head_since is None:
            self._head_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        super().on_url(url)
        if len(self.url) > self.all_connections.limits.max_url_bytes > 0:
            self._stop("url_too_long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        limits = self.all_connections.limits
        if len(self.headers) >= limits.max_headers > 0:
            self._stop("too_many_headers")
        self._field_bytes += len(name) + len(value) + FIELD_OVERHEAD
        if self._field_bytes > limits.max_header_bytes > 0:
            self._stop("headers_too_large")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, unless its header can be read in two ways."""
        if not self._is_plain():
            self._stop("ambiguous")
        self._head_since = None
        self._reading_since, self._body_bytes = self.loop.time(), 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request's reading."""
        self._reading_since = None
        super().on_message_complete()

    def _is_plain(self) -> bool:
        names = [name for name, _ in self.headers if name in SINGLE]
        if len(names) != len(set(names)):
            return False
        if self.url.startswith(b"/") or self.url == b"*":
            return True
        hosts = [value for name, value in self.headers if name == b"host"]
        target = urlsplit(self.url)
        return bool(hosts) and target.netloc.lower() == hosts[0].lower()

    def _stop(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise _RefusedError

    # Time

    def sweep(self, now: float) -> None:
        """Close the connection when its header, its body or its taking of an answer is too slow."""
        if self.transport.is_closing():
            return
        limits = self.all_connections.limits
        if self._head_since is not None:
            if 0 < limits.header_timeout_seconds < now - self._head_since:
                self._refuse("header_timeout")
        elif self._reading_since is not None:
            self._sweep_body(now)
        self._sweep_answer(now)
        self._swept_at = now

    def _sweep_body(self, now: float) -> None:
        limits, since = self.all_connections.limits, cast("float", self._reading_since)
        if self.flow.read_paused:  # the service is slow, not the client
            self._reading_since = since + (now - max(self._swept_at, since))
            return
        late = now - since - limits.body_grace_seconds
        if late > 0 and self._body_bytes < limits.min_body_bytes_per_second * (now - since):
            self._refuse("body_timeout")

    def _sweep_answer(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._stuck_since = unsent, now if unsent else None
        elif 0 < self.all_connections.limits.send_timeout_seconds < now - (self._stuck_since or now):
            self.all_connections.refused("send_timeout")
            self.transport.abort()

    # Refusal

    def _refuse(self, refusal: Refusal) -> None:
        """Answer why, where an answer can still be sent, and close."""
        self._refusal = refusal
        self._head_since = self._reading_since = None
        self.all_connections.refused(refusal)
        if self.cycle is not None and not self.cycle.response_complete:  # pyright: ignore[reportUnnecessaryComparison] -- None before the first request
            self.transport.abort()  # the application is answering, or was about to: it sees a disconnect
            return
        answer = ANSWERS[refusal]
        body = json.dumps(
            {
                "type": "about:blank",
                "title": answer.title,
                "status": answer.status,
                "detail": answer.detail,
                "error_code": answer.code,
                "retry_after": answer.retry_after,
            }
        ).encode()
        lines = [
            STATUS_LINE[answer.status],
            b"content-type: application/problem+json\r\n",
            b"content-length: %d\r\nconnection: close\r\n" % len(body),
            b"retry-after: %d\r\n" % answer.retry_after if answer.retry_after else b"",
            b"\r\n",
            body,
        ]
        self.transport.write(b"".join(lines))
        self.transport.close()


def limited_protocol(connections: Connections) -> type[LimitedHttpProtocol]:
    """Return the protocol class for `uvicorn.Config(http=…)` that counts its connections there."""
    return type("BoundHttpProtocol", (LimitedHttpProtocol,), {"all_connections": connections})

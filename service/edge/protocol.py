"""uvicorn's HTTP protocol with limits: bytes of the header, time to send a request, time to take an answer."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.edge.connections import Connections, network_of
from service.features.events import ConnectionRefusal

SINGLE = (b"host", b"authorization", b"content-length")
"""Fields that must not come twice: a proxy and the service could each take another one."""
FIELD_OVERHEAD = 4
"""Bytes of a field beside name and value: colon, space, end of line."""
HEALTH_PATH = b"/health"
LINGER_SECONDS = 2.0
LINGER_BYTES = 262_144
"""How long, and for how much that is thrown away, a refused client may go on sending: if its connection were closed at
once, the kernel would reset it, and the client might never see why."""


class _RefusedError(Exception):
    """Ends parsing; the parser wraps it in an error of its own."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. Created by uvicorn; `limited_protocol` binds it to the process's connections."""

    all_connections: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.network = ""
        self._beyond: ConnectionRefusal | None = None
        """Why it is in reserve; None when it has a place."""
        self._field_bytes = 0
        self._unparsed_bytes = 0
        """Of the header that is awaited, in all pieces since the one in which it began."""
        self._head_since: float | None = None
        """When the header that is awaited began; None while none is."""
        self._reading_since: float | None = None
        """When the body that is being read began; None while none is."""
        self._idle_since: float | None = None
        """When the last answer ended; None before it, and from the end of the next header."""
        self._body_bytes = 0
        self._swept_at = 0.0
        self._unsent = 0
        self._stuck_since: float | None = None
        self._refusal: ConnectionRefusal | None = None
        self._refused_at = 0.0
        self._ignored_bytes = 0

    # Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] -- as uvicorn has it
        """Take a place, or one in reserve."""
        super().connection_made(transport)
        self.network = network_of(self.client[0]) if self.client else ""  # the socket's peer, whatever a proxy says
        self._head_since = self.loop.time()
        self._beyond = self.all_connections.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give its place back."""
        self.all_connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, unless the header grows too large."""
        if self._refusal is not None:
            self._ignore(len(data))
            return
        self._unset_keepalive_if_required()
        in_head = self._head_since is not None
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal or "malformed")
            return
        if in_head and self._head_since is not None:
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > self.all_connections.limits.max_header_bytes:
                self._refuse("headers_too_large")

    def _feed(self, data: bytes) -> None:
        """Parse; a wish to upgrade is ignored, as RFC 9110 (7.8) has it, and what follows it is a request like any."""
        while data and self.parser is not None:  # pyright: ignore[reportUnnecessaryComparison] -- None once it is lost
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            else:
                return

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
        if len(self.url) > self.all_connections.limits.max_url_bytes:
            self._stop("url_too_long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        limits = self.all_connections.limits
        if len(self.headers) >= limits.max_headers:
            self._stop("too_many_headers")
        self._field_bytes += len(name) + len(value) + FIELD_OVERHEAD
        if self._field_bytes > limits.max_header_bytes:
            self._stop("headers_too_large")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, unless its header can be read in two ways or the connection has no place."""
        if not self._is_plain():
            self._stop("ambiguous")
        if self._beyond is not None and not self.url.startswith(HEALTH_PATH):
            self._stop(self._beyond)
        super().on_headers_complete()
        self._head_since = self._idle_since = None
        self._reading_since, self._body_bytes = self.loop.time(), 0
        if self._beyond is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request's reading."""
        self._reading_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._idle_since = None if self.pipeline else self.loop.time()
        super().on_response_complete()

    def _is_plain(self) -> bool:
        names = [name for name, _ in self.headers if name in SINGLE]
        if len(names) != len(set(names)):
            return False
        if self.url.startswith(b"/"):
            return True
        hosts = [value for name, value in self.headers if name == b"host"]
        target = urlsplit(self.url)
        return bool(hosts) and target.netloc.lower() == hosts[0].lower()

    def _stop(self, refusal: ConnectionRefusal) -> None:
        self._refusal = refusal
        raise _RefusedError

    # Time

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for its client; None while a request is being served."""
        if self._refusal is not None:
            return self._refused_at
        return self._idle_since if self._head_since is None else self._head_since

    def sweep(self, now: float) -> None:
        """Close the connection when its header, its body or its taking of an answer is too slow."""
        if self.transport.is_closing():
            return
        if self._refusal is not None:
            if now - self._refused_at > LINGER_SECONDS:
                self.transport.abort()
            return
        if self._head_since is not None:
            if now - self._head_since > self.all_connections.limits.header_timeout_seconds:
                self._refuse("header_timeout")
        elif self._reading_since is not None:
            self._sweep_body(now, self._reading_since)
        self._sweep_answer(now)
        self._swept_at = now

    def _sweep_body(self, now: float, since: float) -> None:
        limits = self.all_connections.limits
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:  # the service is slow, not the client
            self._reading_since = since + (now - max(self._swept_at, since))
            return
        late = now - since - limits.body_grace_seconds
        if late > 0 and self._body_bytes < limits.min_body_bytes_per_second * (now - since):
            self._refuse("body_timeout")

    def _sweep_answer(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._stuck_since = unsent, now if unsent else None
        elif now - (self._stuck_since or now) > self.all_connections.limits.send_timeout_seconds:
            self.all_connections.refused("send_timeout")
            self.transport.abort()

    # Refusal

    def give_way(self) -> None:
        """Close, so that another connection has room."""
        if self._refusal is None:
            self.all_connections.refused(self._beyond or "evicted")
            if self._beyond is not None and self._head_since is not None:
                self._write_answer(self._beyond)
        self.transport.close()

    def _refuse(self, refusal: ConnectionRefusal) -> None:
        """Answer why, where that cannot be taken for the answer to something else, and close."""
        in_head = self._head_since is not None
        self._refusal, self._refused_at = refusal, self.loop.time()
        self.all_connections.refused(refusal)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:  # pyright: ignore[reportUnnecessaryComparison] -- None before the first request
            if in_head or cycle.response_started or self.pipeline:
                self.transport.abort()  # the application sees a disconnect
                return
            cycle.disconnected = True
            cycle.message_event.set()
        elif not in_head:
            self.transport.abort()  # answered already
            return
        self._write_answer(refusal)
        self.transport.write_eof()

    def _write_answer(self, refusal: ConnectionRefusal) -> None:
        path = self.url.partition(b"?")[0].decode("latin-1") if self.headers else ""  # with a field the target is whole
        status, headers, body = self.all_connections.render(refusal, path if path.startswith("/") else "")
        fields = [*self.server_state.default_headers, *headers, (b"connection", b"close")]
        lines = [b"%b: %b\r\n" % field for field in fields]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))

    def _ignore(self, count: int) -> None:
        self._ignored_bytes += count
        if self._ignored_bytes > LINGER_BYTES:
            self.transport.abort()


def limited_protocol(connections: Connections) -> type[LimitedHttpProtocol]:
    """Return the protocol class for `uvicorn.Config(http=…)` that counts its connections there."""
    return type("BoundHttpProtocol", (LimitedHttpProtocol,), {"all_connections": connections})

"""uvicorn's HTTP protocol with limits: bytes of the header, time to send a request, time to take an answer."""

from __future__ import annotations

import asyncio
from typing import Any, Literal
from urllib.parse import urlsplit

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.edge.connections import Connections, network_of
from service.edge.limits import EdgeLimits
from service.features.events import ConnectionRefusal

SINGLE = (b"host", b"authorization", b"content-length")
"""Fields that must not come twice: a proxy and the service could each take another one."""
FIELD_OVERHEAD = 4
"""Bytes of a field beside name and value: colon, space, end of line."""
SLASH = ord("/")
HEALTH_PATH = b"/health"
HOSTLESS_VERSION = "1.0"
"""Of HTTP, in which a request may have no Host: load balancers' probes have none."""
SCHEMES = (b"http", b"https")
LINGER_SECONDS = 2.0
LINGER_BYTES = 262_144
"""How long, and for how much that is thrown away, a refused client may go on sending: if its connection were closed at
once, the kernel would reset it, and the client might never see why."""


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in headers)


def _is_on_host(url: bytes, host: bytes | None) -> bool:
    """Whether a target that is no path is an address of this service on the host that the Host field names."""
    target = urlsplit(url)
    return host is not None and target.scheme in SCHEMES and target.netloc.lower() == host.lower()


def _is_doubled(headers: list[tuple[bytes, bytes]]) -> bool:
    names = [name for name, _ in headers if name in SINGLE]
    return len(names) > len(set(names))


class _RefusedError(Exception):
    """Ends parsing; the parser wraps it in an error of its own."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. Created by uvicorn; `limited_protocol` binds it to the process's connections."""

    all_connections: Connections
    limits: EdgeLimits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.network = ""
        self._beyond: ConnectionRefusal | None = None
        """Why it is in reserve; None when it has a place."""
        self._awaits: Literal["head", "body", "nothing"] = "head"
        """What the client has not sent to its end yet."""
        self._since = 0.0
        """Since when that is awaited; set once a piece of it has been parsed and more is to come."""
        self._arrived = 0
        """Bytes of it; of a header more when something else follows it at once."""
        self._idle_since: float | None = None
        """Since when the last request has been answered and nothing of the next has arrived."""
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
        self._since = self.loop.time()
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
        self._idle_since = None
        before = self._awaits
        if before == "nothing":
            self._awaits = "head"
        self._arrived += len(data)
        try:
            self.parser.feed_data(data)  # pyright: ignore[reportOptionalMemberAccess] -- None once the connection is lost
        except httptools.HttpParserUpgrade as upgrade:
            self._continue(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or "malformed")
        else:
            if self._awaits != "nothing":
                self._await_more(before)

    def _continue(self, data: bytes) -> None:
        """Ignore a wish to upgrade, as RFC 9110 (7.8) has it: what follows is a request like any other."""
        if data:
            self.data_received(data)

    def _await_more(self, before: str) -> None:
        """Note since when the rest is awaited, and refuse a header that is too large already."""
        if self._awaits != before:
            self._since = self.loop.time()
        if self._awaits != "head" or self.headers is None:  # pyright: ignore[reportUnnecessaryComparison] -- None before the first request
            return
        if len(self.url) > self.limits.max_url_bytes:
            self._refuse("url_too_long")
        elif len(self.headers) > self.limits.max_headers:
            self._refuse("too_many_headers")
        elif self._arrived > self.limits.max_header_bytes:
            self._refuse("headers_too_large")

    # Parser

    def on_headers_complete(self) -> None:
        """Start the request, unless its header is too large or can be read in two ways, or there is no place."""
        refusal = self._refusal_of_head()
        if refusal is not None:
            self._refusal = refusal
            raise _RefusedError
        HttpToolsProtocol.on_headers_complete(self)  # quicker than super(), as below: once for each request
        self._awaits, self._arrived = "body", 0
        if self._beyond is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """End the request's reading."""
        self._awaits = "nothing"
        HttpToolsProtocol.on_message_complete(self)

    def on_response_complete(self) -> None:
        """Go on with the next request; uvicorn's own would also set a timer each time, where the sweep does."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()

    def _refusal_of_head(self) -> ConnectionRefusal | None:
        limits, headers, url = self.limits, self.headers, self.url
        if len(url) > limits.max_url_bytes:
            return "url_too_long"
        if len(headers) > limits.max_headers:
            return "too_many_headers"
        if self._arrived > limits.max_header_bytes < _size(url, headers):
            return "headers_too_large"
        if self._is_ambiguous(dict(headers)):
            return "ambiguous"
        return self._beyond if self._beyond is not None and not url.startswith(HEALTH_PATH) else None

    def _is_ambiguous(self, fields: dict[bytes, bytes]) -> bool:
        """Whether a proxy and the service could take the request for different ones: by host, credential or length."""
        if len(fields) < len(self.headers) and _is_doubled(self.headers):
            return True
        host = fields.get(b"host")
        if host is None and self.parser.get_http_version() != HOSTLESS_VERSION:  # pyright: ignore[reportOptionalMemberAccess] -- None once the connection is lost
            return True
        return self.url[0] != SLASH and not _is_on_host(self.url, host)

    # Time

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for its client; None while a request is being served."""
        if self._refusal is not None:
            return self._refused_at
        if self._idle_since is not None:
            return self._idle_since
        return None if self._is_serving() else self._since

    def _is_serving(self) -> bool:
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison] -- None before the first request

    def sweep(self, now: float) -> None:
        """Close the connection when its header, its body or its taking of an answer is too slow."""
        if self.transport.is_closing():
            return
        if self._refusal is not None:
            if now - self._refused_at > LINGER_SECONDS:
                self.transport.abort()
            return
        if self._awaits == "body":
            self._sweep_body(now)
        elif self._idle_since is not None:
            self._sweep_idle(now, self._idle_since)
        elif self._awaits == "head" and not self._is_serving():
            self._sweep_head(now)
        self._sweep_answer(now)
        self._swept_at = now

    def _sweep_idle(self, now: float, since: float) -> None:
        if now - since > self.timeout_keep_alive:
            self.transport.close()

    def _sweep_head(self, now: float) -> None:
        if now - self._since > self.limits.header_timeout_seconds:
            self._refuse("header_timeout")

    def _sweep_body(self, now: float) -> None:
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:  # the service is slow, not the client
            self._since += now - max(self._swept_at, self._since)
            return
        seconds = now - self._since
        late = seconds > self.limits.body_grace_seconds
        if late and self._arrived < self.limits.min_body_bytes_per_second * seconds:
            self._refuse("body_timeout")

    def _sweep_answer(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._stuck_since = unsent, now if unsent else None
        elif now - (self._stuck_since or now) > self.limits.send_timeout_seconds:
            self.all_connections.refused("send_timeout")
            self.transport.abort()

    # Refusal

    def give_way(self) -> None:
        """Close, so that another connection has room."""
        if self._refusal is None:
            self.all_connections.refused(self._beyond or "evicted")
            if self._beyond is not None and self._awaits == "head":
                self._write_answer(self._beyond)
        self.transport.close()

    def _refuse(self, refusal: ConnectionRefusal) -> None:
        """Answer why, where that cannot be taken for the answer to something else, and close."""
        self._refusal, self._refused_at = refusal, self.loop.time()
        self.all_connections.refused(refusal)
        cycle = self.cycle
        if self._is_serving():
            if self._awaits != "body" or cycle.response_started or self.pipeline:
                self.transport.abort()  # the application sees a disconnect
                return
            cycle.disconnected = True
            cycle.message_event.set()
        elif self._awaits != "head":
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
    return type(
        "BoundHttpProtocol", (LimitedHttpProtocol,), {"all_connections": connections, "limits": connections.limits}
    )

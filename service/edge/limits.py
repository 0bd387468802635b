"""Limits of connections, and what a client is answered that goes past one."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Refusal = Literal[
    "url_too_long",
    "headers_too_large",
    "too_many_headers",
    "malformed",
    "ambiguous",
    "header_timeout",
    "body_timeout",
    "send_timeout",
    "too_many_connections",
    "too_many_connections_of_address",
]
"""Why a connection was refused or closed; a closed set, used as a metric's label."""


class EdgeLimits(Struct, frozen=True, kw_only=True):
    """Bounds of what one connection, one address, and all connections together may take. 0 turns a bound off."""

    max_url_bytes: int = 16_384
    max_header_bytes: int = 65_536
    """Of request line and header fields together."""
    max_headers: int = 100
    header_timeout_seconds: float = 10.0
    """From the connection, or from a request's first byte, to the end of its header."""
    body_grace_seconds: float = 10.0
    """For which a body may be slower than `min_body_bytes_per_second`."""
    min_body_bytes_per_second: float = 1024.0
    """Mean over the time in which the service was reading."""
    send_timeout_seconds: float = 60.0
    """For which a client may take nothing of its answer."""
    max_connections: int = 1000
    max_connections_per_address: int = 250


class Answer(Struct, frozen=True):
    """A problem document for a request that never became one."""

    status: int
    title: str
    code: str
    detail: str
    retry_after: int | None = None


ANSWERS: dict[Refusal, Answer] = {
    "url_too_long": Answer(414, "URI Too Long", "url_too_long", "The URL is longer than the service accepts."),
    "headers_too_large": Answer(
        431, "Request Header Fields Too Large", "headers_too_large", "The header is larger than the service accepts."
    ),
    "too_many_headers": Answer(
        431, "Request Header Fields Too Large", "headers_too_large", "The header has too many fields."
    ),
    "malformed": Answer(400, "Bad Request", "request_malformed", "This is not HTTP/1.1."),
    "ambiguous": Answer(
        400,
        "Bad Request",
        "request_malformed",
        "Send one Host and at most one Authorization field, and a target on the same host.",
    ),
    "header_timeout": Answer(408, "Request Timeout", "request_timeout", "The header did not arrive in time."),
    "body_timeout": Answer(408, "Request Timeout", "request_timeout", "The body arrives too slowly."),
    "too_many_connections": Answer(
        503, "Service Unavailable", "too_many_connections", "All connections are taken; try again.", 1
    ),
    "too_many_connections_of_address": Answer(
        429, "Too Many Requests", "too_many_connections", "Too many connections from this address; reuse them.", 1
    ),
}
"""`send_timeout` has none: the client does not read."""

"""Limits of connections."""

from __future__ import annotations

from msgspec import Struct


class EdgeLimits(Struct, frozen=True, kw_only=True):
    """Bounds of what one connection, one address, and all connections together may take."""

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
    """0 is no limit."""

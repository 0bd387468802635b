"""Bound what clients' connections may take, and keep file descriptors for everything else."""

from __future__ import annotations

import resource

import structlog

from service.api.refusals import answer_refusal
from service.edge.connections import RESERVED_CONNECTIONS, Connections
from service.edge.limits import EdgeLimits
from service.edge.protocol import LimitedHttpProtocol, limited_protocol
from service.resources.runtime import Runtime
from service.settings import Settings

OTHER_DESCRIPTORS = 256
"""For everything but connections of clients, the database and Redis: files of uploads and results, libraries, calls of
models and webhooks, pipes to child processes."""
MIN_CONNECTIONS = 16

_LOGGER: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


def connection_protocol(runtime: Runtime) -> type[LimitedHttpProtocol]:
    """Return the protocol of the API's connections, with the limits of the settings."""
    settings = runtime.settings
    limits = EdgeLimits(
        max_url_bytes=settings.max_url_bytes,
        max_header_bytes=settings.max_header_bytes,
        max_headers=settings.max_headers,
        header_timeout_seconds=settings.header_timeout_seconds,
        min_body_bytes_per_second=settings.min_body_bytes_per_second,
        send_timeout_seconds=settings.send_timeout_seconds,
        max_connections=_affordable_connections(settings),
        max_connections_per_address=settings.max_connections_per_address,
    )
    return limited_protocol(Connections(limits, answer_refusal, runtime.telemetry.observer.record))


def _affordable_connections(settings: Settings) -> int:
    """Return MAX_CONNECTIONS, or fewer when this process may not open so many files."""
    pools = settings.database_pool_size + settings.database_max_overflow
    if settings.redis_url is not None:
        pools += settings.redis_max_connections
    others = pools + OTHER_DESCRIPTORS + RESERVED_CONNECTIONS
    files = ensure_open_files(settings.max_connections + others)
    affordable = max(MIN_CONNECTIONS, files - others)
    if affordable < settings.max_connections:
        _LOGGER.warning(
            "MAX_CONNECTIONS is lowered: this process may open too few files (ulimit -n)", limit=affordable, files=files
        )
    return min(settings.max_connections, affordable)


def ensure_open_files(needed: int) -> int:
    """Raise the number of files that this process may open to `needed`, as far as it is allowed to; returns it.

    Not further: child processes inherit it, and some close every file that they could have.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, allowed = (needed if limit == resource.RLIM_INFINITY else limit for limit in (soft, hard))
    if soft >= needed or soft == allowed:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, allowed), hard))
    return min(needed, allowed)

"""The worker's own connections: few, beside the pool that requests use, so that a heartbeat never waits for those."""

from __future__ import annotations

import logging

from procrastinate import PsycopgConnector
from psycopg.conninfo import conninfo_to_dict, make_conninfo

POOL_SIZE = 4
POOL_SECONDS = 5.0
"""For a connection of the pool, and for the pool to make one; after an outage the next statement tries again."""
_SESSION = "-c timezone=UTC -c statement_timeout=30000"
_DEFAULTS = {
    "application_name": "feature-agent-worker",
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def connector_to(database_url: str) -> PsycopgConnector:
    """Procrastinate's connections to a `postgresql://` address; nothing connects before it is opened."""
    # Each failed attempt would be a line of its own; the manager tells of an outage once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    address = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
    given = conninfo_to_dict(address)
    options = f"{_SESSION} {given.get('options') or ''}".strip()
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in given}
    return PsycopgConnector(
        conninfo=make_conninfo(address, **defaults, options=options),
        min_size=1,
        max_size=POOL_SIZE,
        timeout=POOL_SECONDS,
        reconnect_timeout=POOL_SECONDS,
    )

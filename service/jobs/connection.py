"""Connect the worker to the database beside the pool that requests use, so that a heartbeat never waits for them."""

from __future__ import annotations

import logging

from procrastinate import PsycopgConnector
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.store.database import CONNECTION_DEFAULTS

POOL_SIZE = 4
POOL_TIMEOUT_SECONDS = 5.0
"""To wait for a connection of the pool, and for the pool to open one; after an outage the next statement retries."""
_SESSION = "-c timezone=UTC -c statement_timeout=30000"
_DEFAULTS = {**CONNECTION_DEFAULTS, "application_name": "feature-agent-worker"}


def connector_to(database_url: str) -> PsycopgConnector:
    """Make Procrastinate's connector for a `postgresql://` address; nothing connects before it is opened."""
    # The pool would log each failed attempt; the manager logs an outage once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    address = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
    given = conninfo_to_dict(address)
    options = f"{_SESSION} {given.get('options') or ''}".strip()
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in given}
    return PsycopgConnector(
        conninfo=make_conninfo(address, **defaults, options=options),
        min_size=1,
        max_size=POOL_SIZE,
        timeout=POOL_TIMEOUT_SECONDS,
        reconnect_timeout=POOL_TIMEOUT_SECONDS,
    )

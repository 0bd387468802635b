"""Translate the errors of SQLAlchemy and the driver into the domain's."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.features.errors import DependencyUnavailable

POOL_RETRY_SECONDS = 1.0
"""Until a connection of a busy pool is likely free."""
OUTAGE_RETRY_SECONDS = 3.0
"""A failover or restart takes a few seconds."""


class DependencyUnusable(Exception):
    """A dependency cannot be used as it is configured: which, where, why, and what to do.

    For operators only: it may name hosts and accounts, but never a password.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} {remedy}")
        self.what = what
        self.remedy = remedy


@contextmanager
def database_errors() -> Generator[None]:
    """Raise DependencyUnavailable for a database that is unreachable, overloaded or too slow; let other errors pass.

    The message is the same for all causes: the driver's own may name hosts and accounts. It stays in `__cause__`.
    """
    try:
        yield
    except PoolTimeout as error:
        raise DependencyUnavailable("All database connections are in use.", retry_after=POOL_RETRY_SECONDS) from error
    except (OperationalError, InterfaceError) as error:
        raise _outage() from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _outage() from error
        raise


def _outage() -> DependencyUnavailable:
    return DependencyUnavailable("The database does not answer.", retry_after=OUTAGE_RETRY_SECONDS)

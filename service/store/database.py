"""The PostgreSQL database: its connections, its schema, and the store on it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from opentelemetry.instrumentation.sqlalchemy.engine import (  # pyright: ignore[reportMissingTypeStubs] -- it ships none
    EngineTracer,
)
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import TracerProvider
from sqlalchemy import URL, QueuePool, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.features.errors import DependencyUnavailable
from service.store.failures import database_errors
from service.store.notices import PostgresNotices
from service.store.reach import not_migrated, reach_database
from service.store.repeats import RepeatedExtractions
from service.store.revision import REVISION, current_revision
from service.store.states import StateReads
from service.store.unit_of_work import SqlStore
from service.store.upkeep import SqlUpkeep

if TYPE_CHECKING:
    from service.store.schema import Standing

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
DRIVER = "postgresql+psycopg"
CONNECT_SECONDS = 5
STATEMENT_MILLISECONDS = 30_000
"""All statements go by key; one that takes longer waits for something that does not come."""
IDLE_IN_TRANSACTION_MILLISECONDS = 60_000
"""A transaction whose process hangs gives its locks up."""
RECYCLE_SECONDS = 1800
"""Connections are renewed before a firewall between forgets them."""

_SESSION = (
    f"-c timezone=UTC -c statement_timeout={STATEMENT_MILLISECONDS} "
    f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MILLISECONDS}"
)


class Database:
    """One pool of connections, and what is built on it."""

    def __init__(self, engine: AsyncEngine, tracer_provider: TracerProvider | None = None) -> None:
        self._engine = engine
        tracer = None if tracer_provider is None else tracer_provider.get_tracer("service.store")
        self._states = StateReads(self._lasting_connection, tracer)
        self._repeats = RepeatedExtractions(self._lasting_connection, tracer)
        self._store = SqlStore(engine, self._states, self._repeats)
        self._upkeep = SqlUpkeep(engine)

    @property
    def store(self) -> SqlStore:
        """The store; its units of work also give the `connection` that they run on."""
        return self._store

    @property
    def upkeep(self) -> SqlUpkeep:
        """What housekeeping asks of the database."""
        return self._upkeep

    def driver_arguments(self, session: str = _SESSION) -> dict[str, Any]:
        """What psycopg connects with beside the pool, to the same address in the same way; holds the password.

        `session` are options of the session that the address may override; empty for a tool that sets its own.
        """
        address = self._engine.url
        _, arguments = self._engine.dialect.create_connect_args(address)
        return {**arguments, **_connect_args(address, session)}

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that sees one instant, writes nothing, and may stay open for as long as a backup takes."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with database_errors():
            async with self._engine.connect() as pooled:
                connection = await pooled.execution_options(**options)
                for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                    await connection.execute(text(f"SET LOCAL {limit} = 0"))
                yield connection

    def notices(self) -> PostgresNotices:
        """What tells of changed extractions; one a process, to be entered before it is used."""
        return PostgresNotices(self._lasting_connection)

    async def reach(self) -> None:
        """Make sure that the database can be used. Raises DependencyUnusable."""
        await reach_database(self.driver_arguments())

    async def prepare(self) -> bool:
        """Reach the database, then `migrate`; what a process does first.

        Raises DependencyUnusable with all that an operator needs, DatabaseTooNew, and DependencyUnavailable.
        """
        await self.reach()
        try:
            return await self.migrate()
        except (DBAPIError, DependencyUnavailable) as error:
            refused = error if isinstance(error, DBAPIError) else error.__cause__
            driver = refused.orig if isinstance(refused, DBAPIError) else None
            if isinstance(driver, psycopg.Error):
                raise not_migrated(self.driver_arguments(), driver, REVISION) from error
            raise

    async def migrate(self) -> bool:
        """Bring the schema to this release's revision; any number of processes may do so at once.

        False when a newer release has migrated it and this one's code still works on it: it is left as it is. Raises
        DatabaseTooNew and DependencyUnavailable.
        """
        if await self.revision() == REVISION:
            return True
        # Alembic is the work's alone: nearly every start finds the schema in order, and 9 MiB smaller.
        from service.store.schema import upgrade  # noqa: PLC0415

        with database_errors():
            return await asyncio.to_thread(upgrade, self._engine.url, _connect_args(self._engine.url))

    async def standing(self) -> Standing:
        """How the schema stands to this release. Raises DependencyUnavailable."""
        from service.store.schema import standing  # noqa: PLC0415 -- as above

        with database_errors():
            async with self._engine.connect() as connection:
                return await connection.run_sync(standing)

    async def revision(self) -> str | None:
        """The revision of the database's schema; None for an empty database. Raises DependencyUnavailable."""
        with database_errors():
            async with self._engine.connect() as connection:
                return await connection.run_sync(current_revision)

    def pool_connections(self) -> dict[Literal["in_use", "idle"], int]:
        """Open connections by what they do."""
        pool = self._engine.pool
        if not isinstance(pool, QueuePool):
            raise TypeError(type(pool).__name__)
        return {"in_use": pool.checkedout(), "idle": pool.checkedin()}

    async def close(self) -> None:
        """Close all connections."""
        await self._states.close()
        await self._repeats.close()
        await self._engine.dispose()

    async def _lasting_connection(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(autocommit=True, **self.driver_arguments())


def open_database(
    url: str,
    *,
    pool_size: int,
    max_overflow: int,
    pool_timeout: float,
    tracer_provider: TracerProvider | None = None,
) -> Database:
    """The database at a `postgresql://` address; nothing connects before it is used.

    `pool_timeout` is in seconds. With a tracer provider every statement is a span, without its parameters. Raises
    ValueError for an address that is none, with a message that does not repeat it.
    """
    address = _address(url)
    engine = create_async_engine(
        address,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=pool_timeout,
        pool_pre_ping=True,
        pool_recycle=RECYCLE_SECONDS,
        hide_parameters=True,
        connect_args=_connect_args(address, _SESSION),
    )
    if tracer_provider is not None:
        _trace(engine, tracer_provider)
    return Database(engine, tracer_provider)


def _address(url: str) -> URL:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        shown = f" {scheme}://" if separator and re.fullmatch(r"[a-z0-9+.-]{1,40}", scheme) else ""
        raise ValueError(f"The database address must begin with postgresql://, not{shown or ' with something else'}.")
    try:
        return make_url(url).set(drivername=DRIVER)
    except (ArgumentError, ValueError):
        raise ValueError("The database address cannot be read; it looks like postgresql://user@host/name.") from None


def _connect_args(address: URL, session: str = "") -> dict[str, object]:
    """What the driver is told beside the address, which may say otherwise."""
    defaults: dict[str, object] = {
        "application_name": "feature-agent",
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    chosen = {name: value for name, value in defaults.items() if name not in address.query}
    return {**chosen, "options": f"{session} {address.query.get('options', '')}".strip()}


def _trace(engine: AsyncEngine, provider: TracerProvider) -> None:
    """Give this engine's statements spans.

    The instrumentor itself would also wrap SQLAlchemy's constructors, trace all engines of the process with the
    first one's provider, and add a span for each use of a pooled connection.
    """
    tracer = provider.get_tracer("opentelemetry.instrumentation.sqlalchemy")
    usage = NoOpMeterProvider().get_meter(__name__).create_up_down_counter("db.client.connections.usage")
    _StatementTracer(tracer, engine.sync_engine, usage)


class _StatementTracer(EngineTracer):
    """The instrumentation, but that `db.operation.name` is the operation alone, as the conventions have it."""

    def _set_db_client_span_attributes(self, span: Any, statement: Any, db_name: Any, attrs: Any) -> None:  # noqa: ARG002 -- the base's
        """Without the database, which is said by `db.namespace`."""
        super()._set_db_client_span_attributes(span, statement, None, attrs)  # pyright: ignore[reportUnknownMemberType]

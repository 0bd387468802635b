"""Open the PostgreSQL database: its connections, its schema, and the store on it."""

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
    from service.store.schema import SchemaState

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
DRIVER = "postgresql+psycopg"
CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_MILLISECONDS = 30_000
"""All statements use an index; one that takes longer waits for a lock or a server that does not answer."""
IDLE_IN_TRANSACTION_MILLISECONDS = 60_000
"""After which a transaction whose process hangs releases its locks."""
RECYCLE_SECONDS = 1800
"""After which connections are renewed, before a firewall on the way drops them."""
CONNECTION_DEFAULTS: dict[str, str | int] = {
    "application_name": "feature-agent",
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""libpq's parameters that an address may override: a dead peer is noticed after about a minute."""

_SESSION = (
    f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_MILLISECONDS} "
    f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MILLISECONDS}"
)


class Database:
    """Hold one pool of connections, and the store and tools that use it."""

    def __init__(self, engine: AsyncEngine, tracer_provider: TracerProvider | None = None) -> None:
        self._engine = engine
        tracer = None if tracer_provider is None else tracer_provider.get_tracer("service.store")
        self._states = StateReads(self._dedicated_connection, tracer)
        self._repeats = RepeatedExtractions(self._dedicated_connection, tracer)
        self._store = SqlStore(engine, self._states, self._repeats)
        self._upkeep = SqlUpkeep(engine)

    @property
    def store(self) -> SqlStore:
        """The store; its units of work also have the `connection` that they run on."""
        return self._store

    @property
    def upkeep(self) -> SqlUpkeep:
        """The housekeeping's queries."""
        return self._upkeep

    def driver_arguments(self, session: str = _SESSION) -> dict[str, Any]:
        """Return psycopg's arguments for a connection beside the pool, to the same address; they hold the password.

        `session` are session options that the address may override; empty for a tool that sets its own.
        """
        address = self._engine.url
        _, arguments = self._engine.dialect.create_connect_args(address)
        return {**arguments, **_connect_args(address, session)}

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[AsyncConnection]:
        """Open a read-only transaction on one snapshot, without the time limits, for as long as a backup takes."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with database_errors():
            async with self._engine.connect() as pooled:
                connection = await pooled.execution_options(**options)
                for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                    await connection.execute(text(f"SET LOCAL {limit} = 0"))
                yield connection

    def notices(self) -> PostgresNotices:
        """Make the listener for changed extractions; one for each process, to be entered before it is used."""
        return PostgresNotices(self._dedicated_connection)

    async def reach(self) -> None:
        """Check that the database can be used. Raises DependencyUnusable."""
        await reach_database(self.driver_arguments())

    async def prepare(self) -> bool:
        """Check the database, then migrate it; every process does this first.

        Raises DependencyUnusable, whose message is for operators, DatabaseTooNew, and DependencyUnavailable.
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
        """Migrate the schema to this release's revision; several processes may do so at once.

        False when a newer release has migrated it and this one's code still works on it: then it is not changed.
        Raises DatabaseTooNew and DependencyUnavailable.
        """
        if await self.revision() == REVISION:
            return True
        # Alembic takes 9 MiB, and nearly every start finds the schema migrated.
        from service.store.schema import upgrade  # noqa: PLC0415

        with database_errors():
            return await asyncio.to_thread(upgrade, self._engine.url, _connect_args(self._engine.url))

    async def schema_state(self) -> SchemaState:
        """Compare the schema with this release. Raises DependencyUnavailable."""
        from service.store.schema import schema_state  # noqa: PLC0415 -- as above

        with database_errors():
            async with self._engine.connect() as connection:
                return await connection.run_sync(schema_state)

    async def revision(self) -> str | None:
        """Read the revision of the schema; None for an empty database. Raises DependencyUnavailable."""
        with database_errors():
            async with self._engine.connect() as connection:
                return await connection.run_sync(current_revision)

    def pool_connections(self) -> dict[Literal["in_use", "idle"], int]:
        """Count open connections by state."""
        pool = self._engine.pool
        if not isinstance(pool, QueuePool):
            raise TypeError(type(pool).__name__)
        return {"in_use": pool.checkedout(), "idle": pool.checkedin()}

    async def close(self) -> None:
        """Close all connections."""
        await self._states.close()
        await self._repeats.close()
        await self._engine.dispose()

    async def _dedicated_connection(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(autocommit=True, **self.driver_arguments())


def open_database(
    url: str,
    *,
    pool_size: int,
    max_overflow: int,
    pool_timeout: float,
    tracer_provider: TracerProvider | None = None,
) -> Database:
    """Open the database at a `postgresql://` address; nothing connects before it is used.

    `pool_timeout` is in seconds. With a tracer provider every statement is a span, without its parameters. Raises
    ValueError for a malformed address, with a message that does not repeat it.
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
    """Return the driver's arguments beside the address, which overrides them."""
    defaults = {name: value for name, value in CONNECTION_DEFAULTS.items() if name not in address.query}
    return {**defaults, "options": f"{session} {address.query.get('options', '')}".strip()}


def _trace(engine: AsyncEngine, provider: TracerProvider) -> None:
    """Trace this engine's statements.

    The instrumentor itself would also patch SQLAlchemy's constructors, trace all engines of the process with the
    first one's provider, and add a span for each use of a pooled connection.
    """
    tracer = provider.get_tracer("opentelemetry.instrumentation.sqlalchemy")
    usage = NoOpMeterProvider().get_meter(__name__).create_up_down_counter("db.client.connections.usage")
    _StatementTracer(tracer, engine.sync_engine, usage)


class _StatementTracer(EngineTracer):
    """Set `db.operation.name` to the operation alone, as the semantic conventions require."""

    def _set_db_client_span_attributes(self, span: Any, statement: Any, db_name: Any, attrs: Any) -> None:  # noqa: ARG002 -- the base's
        """Leave out the database's name, which is in `db.namespace`."""
        super()._set_db_client_span_attributes(span, statement, None, attrs)  # pyright: ignore[reportUnknownMemberType]

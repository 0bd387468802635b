"""What every command needs: the database, the artifact store, Redis when configured, and the authenticator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from opentelemetry.trace import TracerProvider
from redis.asyncio import BlockingConnectionPool

from service.features.identity import DEFAULT_SCOPES, ApiKey, Scope
from service.features.ports import Artifacts, Clock
from service.features.stores import Store
from service.resources.overrides import NO_OVERRIDES, Overrides
from service.resources.secrets import read_or_create_secret, read_secret, write_secret
from service.security import keys
from service.security.authenticator import Authenticator
from service.security.tokens import TokenIssuer
from service.settings import Settings
from service.store.artifacts import open_artifacts
from service.store.database import Database, open_database
from service.store.embedded import start_embedded
from service.store.redis_pool import open_redis_pool

DEVELOPMENT_PRINCIPAL = "development"


class SystemClock:
    """Implement `ports.Clock` with the machine's clock."""

    def now(self) -> datetime:
        """Return the present instant, in UTC."""
        return datetime.now(UTC)


def new_id() -> str:
    """Generate a random id of 32 hexadecimal characters."""
    return uuid4().hex


@dataclass(frozen=True, slots=True)
class Storage:
    """The open stores, and the authenticator on them."""

    settings: Settings
    clock: Clock
    new_id: Callable[[], str]
    database: Database
    store: Store
    """The database's repositories, as requests and runs use them."""
    artifacts: Artifacts
    redis_pool: BlockingConnectionPool | None
    authenticator: Authenticator
    database_url: str = field(repr=False)
    """For parts that open connections of their own; it may hold a password."""
    _cleanup: ExitStack

    @property
    def development_key_path(self) -> Path:
        """The file in which a development service keeps its API key."""
        return self.settings.data_dir / "development.key"

    async def close(self) -> None:
        """Close the connections, then leave the embedded database that this process uses."""
        if self.redis_pool is not None:
            await self.redis_pool.aclose()
        await self.database.close()
        self._cleanup.close()

    async def create_key(
        self, name: str, scopes: tuple[Scope, ...], expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """Generate and store an API key; only here its secret is returned."""
        key, secret = keys.generate(name, scopes, now=self.clock.now(), expires_at=expires_at)
        async with self.store.begin() as work:
            await work.keys.add(key)
        return key, secret

    async def development_key(self) -> str:
        """Return the key in `DATA_DIR/development.key`; create one unless the database knows it."""
        secret = read_secret(self.development_key_path)
        if secret and await self._is_active(secret):
            return secret
        _, secret = await self.create_key(DEVELOPMENT_PRINCIPAL, DEFAULT_SCOPES)
        write_secret(self.development_key_path, secret)
        return secret

    async def _is_active(self, secret: str) -> bool:
        key_id = keys.parse_id(secret)
        if key_id is None:
            return False
        async with self.store.begin() as work:
            key = await work.keys.find(key_id)
        return key is not None and keys.matches(key, secret) and keys.state(key, self.clock.now()) == "active"


def open_storage(
    settings: Settings, *, tracer_provider: TracerProvider | None = None, overrides: Overrides = NO_OVERRIDES
) -> Storage:
    """Open the stores that the settings name; without DATABASE_URL, start the embedded PostgreSQL.

    Connects to nothing yet. Raises EmbeddedUnavailable, and ValueError for an address that cannot be used.
    """
    clock = overrides.clock or SystemClock()
    with ExitStack() as cleanup:
        database_url = _database_url(settings, cleanup)
        database = _open_database(settings, database_url, tracer_provider)
        store = database.store if overrides.wrap_store is None else overrides.wrap_store(database.store)
        tokens = TokenIssuer(_jwt_secret(settings), settings.jwt_algorithm)
        return Storage(
            settings=settings,
            clock=clock,
            new_id=overrides.new_id or new_id,
            database=database,
            store=store,
            artifacts=overrides.artifacts or open_artifacts(artifacts_address(settings)),
            redis_pool=_redis_pool(settings),
            authenticator=Authenticator(store, tokens, clock),
            database_url=database_url,
            _cleanup=cleanup.pop_all(),
        )


def artifacts_address(settings: Settings) -> str:
    """Return ARTIFACTS_URL, or a folder under DATA_DIR."""
    return settings.artifacts_url or str(settings.data_dir / "artifacts")


def _open_database(settings: Settings, url: str, tracer_provider: TracerProvider | None) -> Database:
    try:
        return open_database(
            url,
            pool_size=settings.database_pool_size,
            max_overflow=settings.database_max_overflow,
            pool_timeout=settings.database_pool_timeout,
            tracer_provider=tracer_provider,
        )
    except ValueError as error:
        raise ValueError(f"DATABASE_URL: {error}") from None


def _database_url(settings: Settings, cleanup: ExitStack) -> str:
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    server = start_embedded(settings.data_dir / "postgresql")
    cleanup.callback(server.stop)
    return server.url


def _jwt_secret(settings: Settings) -> str:
    if settings.jwt_secret is not None:
        return settings.jwt_secret.get_secret_value()
    return read_or_create_secret(settings.data_dir / "jwt.secret")


def _redis_pool(settings: Settings) -> BlockingConnectionPool | None:
    if settings.redis_url is None:
        return None
    return open_redis_pool(
        settings.redis_url.get_secret_value(),
        password=settings.redis_password.get_secret_value() if settings.redis_password else None,
        db=settings.redis_db,
        max_connections=settings.redis_max_connections + 1,  # the rate limiter holds one all the time
    )

"""What every command needs: the database, the artifact store, Redis when there is one, and who may use them."""

from __future__ import annotations

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
from service.resources.secrets import read_secret, secret_kept_in, write_secret
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
    """The machine's clock."""

    def now(self) -> datetime:
        """The present instant, in UTC."""
        return datetime.now(UTC)


def new_id() -> str:
    """A fresh random id: 32 hexadecimal characters."""
    return uuid4().hex


@dataclass(frozen=True, slots=True)
class Storage:
    """Open stores and the authenticator in front of them."""

    settings: Settings
    clock: Clock
    database: Database
    artifacts: Artifacts
    redis_pool: BlockingConnectionPool | None
    authenticator: Authenticator
    database_url: str = field(repr=False)
    """For who needs connections of its own; it may hold a password."""
    _cleanup: ExitStack

    @property
    def store(self) -> Store:
        """The database's repositories."""
        return self.database.store

    @property
    def development_key_path(self) -> Path:
        """Where a development service keeps its key."""
        return self.settings.data_dir / "development.key"

    async def close(self) -> None:
        """Close in reverse: connections first, then the embedded database that this process started."""
        if self.redis_pool is not None:
            await self.redis_pool.aclose()
        await self.database.close()
        self._cleanup.close()

    async def create_key(
        self, name: str, scopes: tuple[Scope, ...], expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """Make and store a key; its secret is given once, here."""
        key, secret = keys.generate(name, scopes, now=self.clock.now(), expires_at=expires_at)
        async with self.store.begin() as work:
            await work.keys.add(key)
        return key, secret

    async def development_key(self) -> str:
        """The key in `DATA_DIR/development.key`, made anew when there is none that the database knows."""
        secret = read_secret(self.development_key_path)
        if secret and await self._known(secret):
            return secret
        _, secret = await self.create_key(DEVELOPMENT_PRINCIPAL, DEFAULT_SCOPES)
        write_secret(self.development_key_path, secret)
        return secret

    async def _known(self, secret: str) -> bool:
        key_id = keys.parse_id(secret)
        if key_id is None:
            return False
        async with self.store.begin() as work:
            key = await work.keys.find(key_id)
        return key is not None and keys.matches(key, secret) and keys.state(key, self.clock.now()) == "active"


def open_storage(
    settings: Settings, *, clock: Clock | None = None, tracer_provider: TracerProvider | None = None
) -> Storage:
    """Open the stores that the settings name; with no DATABASE_URL, start the embedded PostgreSQL.

    Raises EmbeddedUnavailable, or ValueError for an address that cannot be used. Connects to nothing yet.
    """
    clock = clock or SystemClock()
    with ExitStack() as cleanup:
        database_url = _database_url(settings, cleanup)
        database = _open_database(settings, database_url, tracer_provider)
        tokens = TokenIssuer(_jwt_secret(settings), settings.jwt_algorithm)
        return Storage(
            settings=settings,
            clock=clock,
            database=database,
            artifacts=open_artifacts(artifacts_address(settings)),
            redis_pool=_redis_pool(settings),
            authenticator=Authenticator(database.store, tokens, clock),
            database_url=database_url,
            _cleanup=cleanup.pop_all(),
        )


def artifacts_address(settings: Settings) -> str:
    """ARTIFACTS_URL, or a folder under DATA_DIR."""
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
    return secret_kept_in(settings.data_dir / "jwt.secret")


def _redis_pool(settings: Settings) -> BlockingConnectionPool | None:
    if settings.redis_url is None:
        return None
    return open_redis_pool(
        settings.redis_url.get_secret_value(),
        password=settings.redis_password.get_secret_value() if settings.redis_password else None,
        db=settings.redis_db,
        max_connections=settings.redis_max_connections + 1,  # the rate limit keeps one to itself
    )

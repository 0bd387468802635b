"""Fixtures for every folder: a PostgreSQL server for the session, databases on it, and settings for a service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from embedded_postgres.server import start_embedded
from service.settings import Settings
from service.store.schema import upgrade
from tests.redis_process import RedisProcess, running_redis

WHOLE_SERVICES = tuple(Path(__file__).parent / name for name in ("e2e", "loadtest", "monitoring", "red_team"))
"""What runs here is many processes, or all parts at once: tracing its lines tells little and takes as long again."""
OFTEN = tuple(
    Path(__file__).parent / "operations" / f"test_{name}.py"
    for name in ("basic_oracles", "edges", "metamorphic", "more_oracles", "oracles", "properties")
)
"""The same lines again and again, on other data; test_dialects and tests/tables run each of them under measure."""


EMPTY_ALL_TABLES = """
DO $$ BEGIN EXECUTE (
    SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') || ' RESTART IDENTITY'
    FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'
); END $$
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure coverage where a test aims at one part."""
    for item in items:
        if item.path in OFTEN or any(item.path.is_relative_to(folder) for folder in WHOLE_SERVICES):
            item.add_marker("unmeasured")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a PostgreSQL server of this test session, which writes nothing through to the disk."""
    server = start_embedded(tmp_path_factory.mktemp("pg"))
    with _connect(server.url) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(SQL("ALTER SYSTEM SET {} = off").format(Identifier(setting)))
        connection.execute("SELECT pg_reload_conf()")
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def new_database(postgres_url: str) -> Callable[[], str]:
    """Creates an empty database and returns its address."""

    def create() -> str:
        name = f"test_{uuid4().hex}"
        with _connect(postgres_url) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return make_url(postgres_url).set(database=name).render_as_string(hide_password=False)

    return create


@pytest.fixture(scope="session")
def migrated_databases(new_database: Callable[[], str]) -> Callable[[], AbstractContextManager[str]]:
    """Lends databases with this release's schema and no rows; they are emptied afterwards and lent again."""
    free: list[str] = []

    @contextmanager
    def lend() -> Iterator[str]:
        if not free:
            free.append(new_database())
            upgrade(make_url(free[0]), {})
        url = free.pop()
        yield url
        with _connect(url) as connection:
            connection.execute(EMPTY_ALL_TABLES)
        free.append(url)

    return lend


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    """Address of an empty database."""
    return new_database()


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[RedisProcess]:
    """A redis-server of the test's own."""
    with running_redis(tmp_path) as process:
        yield process


@pytest.fixture(scope="session")
def make_settings(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Settings]:
    """Makes settings for a service of its own: fresh database, fresh data folder, free ports; no `.env` is read."""

    def make(**values: object) -> Settings:
        folder: Path = tmp_path_factory.mktemp("data")
        defaults: dict[str, object] = {
            "environment": "test",
            "data_dir": folder,
            "database_url": new_database() if "database_url" not in values else None,
            "port": 0,
            "prometheus_port": 0,
            "rate_limit_per_minute": 0,
            "max_waiting_per_principal": 0,
        }
        return Settings(_env_file=None, **{**defaults, **values})

    return make


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)

"""Fixtures for every folder: a real PostgreSQL for the session, a fresh database on demand, a live service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from service.settings import Settings
from service.store.embedded import start_embedded

WHOLE_SERVICES = tuple(Path(__file__).parent / name for name in ("e2e", "loadtest", "monitoring", "red_team"))
"""What runs here is many processes, or all parts at once: tracing its lines tells little and takes as long again."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure coverage where a test aims at one part."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in WHOLE_SERVICES):
            item.add_marker("unmeasured")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a PostgreSQL server of this test session's own."""
    server = start_embedded(tmp_path_factory.mktemp("pg"))
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def new_database(postgres_url: str) -> Callable[[], str]:
    """Makes an empty database and gives its address."""

    def make() -> str:
        name = f"test_{uuid4().hex}"
        with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        address, _, query = postgres_url.partition("?")
        return f"{address.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")

    return make


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    """Address of an empty database."""
    return new_database()


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
        }
        return Settings(_env_file=None, **{**defaults, **values})

    return make

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import create_engine, inspect

from service.features.errors import DependencyUnavailable
from service.store.database import Database, open_database
from service.store.schema import DatabaseTooNew
from service.store.tables import METADATA

ROOT = Path(__file__).parents[2]
MIGRATE = """
import asyncio, sys
from service.store.database import open_database
sys.stdin.readline()
async def migrate():
    database = open_database(sys.argv[1], pool_size=1, max_overflow=0, pool_timeout=5.0)
    await database.migrate()
    print(await database.revision())
    await database.close()
asyncio.run(migrate())
"""


def open_at(url: str) -> Database:
    """A database with a pool of one."""
    return open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)


def go_to(url: str, revision: str) -> None:
    """Bring the database up or down to that revision, as a release that ends there leaves it."""
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "service.store:migrations")
        config.attributes["connection"] = connection
        at = MigrationContext.configure(connection).get_current_revision() or ""
        (command.upgrade if at < revision else command.downgrade)(config, revision)
    engine.dispose()


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the tables of revision 0001."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - names of our own
            for table in ("datasets", "extractions", "api_keys")
        }


FILL = """
INSERT INTO datasets VALUES ('ann', 'sales', 'text/csv', 10, 'datasets/x.parquet', '{"row_count": 1}', now());
INSERT INTO extractions (id, owner, dataset_id, request, status, created_at, progress, request_id, trace_id)
VALUES ('e1', 'ann', 'sales', '{"dataset_id": "sales"}', 'queued', now(), 0, '', '');
INSERT INTO api_keys VALUES ('k1', 'ann', sha256('secret'), ARRAY['admin'], now());
"""


def head() -> str:
    """The newest revision in the package."""
    config = Config()
    config.set_main_option("script_location", "service.store:migrations")
    revision = ScriptDirectory.from_config(config).get_current_head()
    assert revision is not None
    return revision


async def test_empty_database_comes_to_head(database_url: str) -> None:
    """An empty database has no revision; migrating brings it to the newest, and again changes nothing."""
    database = open_at(database_url)
    assert await database.revision() is None
    for _ in range(2):
        await database.migrate()
        assert await database.revision() == head()
    await database.close()


def test_four_processes_migrate_at_once(database_url: str) -> None:
    """Four processes that migrate an empty database at the same moment all succeed."""
    migrate_at_once(database_url)


def migrate_at_once(database_url: str) -> None:
    """Let four processes migrate at the same moment; all of them come to the newest revision."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", MIGRATE, database_url],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outcomes = [process.communicate(timeout=100) for process in processes]
    assert [out.strip() for out, _ in outcomes] == [head()] * 4, outcomes
    assert [process.returncode for process in processes] == [0] * 4


async def test_services_of_one_process_migrate_at_once(new_database: Callable[[], str]) -> None:
    """Two databases that one process migrates at the same time both come to the newest revision."""
    databases = [open_at(new_database()) for _ in range(2)]
    await asyncio.gather(*(database.migrate() for database in databases))
    assert [await database.revision() for database in databases] == [head()] * 2
    for database in databases:
        await database.close()


async def test_newer_database_is_refused(database_url: str) -> None:
    """A database that a newer release has migrated is left alone, with its revision in the message."""
    database = open_at(database_url)
    await database.migrate()
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseTooNew, match="revision 9999, which this release does not know") as refused:
        await database.migrate()
    assert isinstance(refused.value, DependencyUnavailable)
    assert not refused.value.retryable
    assert await database.revision() == "9999"
    await database.close()


async def test_failed_migration_leaves_nothing(database_url: str) -> None:
    """When a migration fails half-way the database is as it was."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE api_keys (unexpected integer)")
    database = open_at(database_url)
    with pytest.raises(Exception, match="already exists"):
        await database.migrate()
    assert await database.revision() is None
    await database.close()
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT to_regclass('datasets')").fetchone() == (None,)


async def test_tables_are_what_migrations_make(database_url: str) -> None:
    """The tables in the code and those that the migrations make are the same: columns, types, indexes and checks."""
    database = open_at(database_url)
    await database.migrate()
    await database.close()
    engine = create_engine(database_url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
        checks = {
            (table, check["name"])
            for table in METADATA.tables
            for check in inspect(connection).get_check_constraints(table)
        }
    engine.dispose()
    assert differences == []
    declared = {
        (name, str(constraint.name))
        for name, table in METADATA.tables.items()
        for constraint in table.constraints
        if type(constraint).__name__ == "CheckConstraint"
    }
    assert checks == declared


async def test_an_older_database_keeps_its_rows(database_url: str) -> None:
    """A database in use at revision 0001 comes to the newest and back without losing or changing a row."""
    go_to(database_url, "0001")
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute(FILL)
    before = rows(database_url)
    assert [len(found) for found in before.values()] == [1, 1, 1]
    database = open_at(database_url)
    await database.migrate()
    assert await database.revision() == head()
    await database.close()
    assert rows(database_url) == before
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute("INSERT INTO model_spending VALUES ('ann', '2026-03-01', 1, 2, 0.25, 0, now())")
    go_to(database_url, "0001")
    assert rows(database_url) == before
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT to_regclass('model_spending')").fetchone() == (None,)


def test_an_older_database_is_migrated_by_four_processes_at_once(database_url: str) -> None:
    """Four processes of a new release that meet a database of the old one at the same moment all succeed."""
    go_to(database_url, "0001")
    migrate_at_once(database_url)


async def test_migrations_go_back(database_url: str) -> None:
    """Downgrading to the beginning leaves no table, and the way up works again."""
    database = open_at(database_url)
    await database.migrate()
    engine = create_engine(database_url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "service.store:migrations")
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()
    await database.migrate()
    assert await database.revision() == head()
    await database.close()


def test_template_makes_a_revision(tmp_path: Path) -> None:
    """The packaged template renders a revision that Python accepts, after the newest one."""
    migrations = shutil.copytree(files("service.store") / "migrations", tmp_path / "migrations")  # type: ignore[type-var]
    config = Config()
    config.set_main_option("script_location", str(migrations))
    made = command.revision(config, "A thought", rev_id="abcd")
    assert isinstance(made, Script)
    assert made.down_revision == head()
    assert made.doc == "A thought."

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from procrastinate.schema import SchemaManager
from sqlalchemy import create_engine, inspect

from service.features.errors import DependencyUnavailable
from service.store import schema
from service.store.database import Database, open_database
from service.store.revision import REVISION
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


TABLES_OF_0001 = {
    "datasets": "owner, id, media_type, size_bytes, artifact_key, profile, created_at",
    "extractions": "id, owner, dataset_id, request, status, created_at, progress, request_id, trace_id",
    "api_keys": "*",
}


def all_rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the tables of revision 0001."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return {
            table: connection.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608 - names of our own
            for table, columns in TABLES_OF_0001.items()
        }


FILL = """
INSERT INTO datasets VALUES ('ann', 'sales', 'text/csv', 10, 'datasets/x.parquet', '{"row_count": 1}', now());
INSERT INTO extractions (id, owner, dataset_id, request, status, created_at, progress, request_id, trace_id)
VALUES ('e1', 'ann', 'sales', '{"dataset_id": "sales"}', 'queued', now(), 0, '', '');
INSERT INTO api_keys VALUES ('k1', 'ann', sha256('secret'), ARRAY['admin'], now());
"""


def configuration() -> Config:
    """Where the revisions are."""
    config = Config()
    config.set_main_option("script_location", "service.store:migrations")
    return config


def head() -> str:
    """The newest revision in the package."""
    revision = ScriptDirectory.from_config(configuration()).get_current_head()
    assert revision is not None
    return revision


def before(revision: str) -> list[str]:
    """All revisions that come before one."""
    scripts = ScriptDirectory.from_config(configuration())
    return [script.revision for script in scripts.walk_revisions("base", revision)][1:]


def go(url: str, direction: Callable[[Config, str], None], revision: str) -> None:
    """Upgrade or downgrade to a revision."""
    engine = create_engine(url)
    with engine.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        direction(config, revision)
    engine.dispose()


def rows(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What one statement gives."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return connection.execute(statement.encode(), values).fetchall()


LEFT_TYPES = "SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typname LIKE 'procr%%'"
COLUMNS_OF_0001 = (
    "id, owner, dataset_id, request, status, created_at, progress, stage, started_at, finished_at, result, failure, "
    "request_id, trace_id"
)
READ_OF_0001 = f"SELECT {COLUMNS_OF_0001} FROM extractions"  # noqa: S608 -- the columns are those above
INSERT_OF_0001 = f"""
    INSERT INTO extractions ({COLUMNS_OF_0001}) VALUES (
        %s, 'ada', 'sales', '{{"dataset_id": "sales", "feature_description": "spend"}}', %s, now(), 100, NULL, now(),
        now(), NULL, '{{"code": "c", "category": "internal", "message": "m", "retryable": false}}', 'r', 't'
    ) RETURNING id
"""  # noqa: S608 -- likewise
"""As the first release writes an extraction, with the columns that it knows."""
UPDATE_OF_0001 = """
    UPDATE extractions SET status = 'failed', progress = 100, stage = NULL, finished_at = now()
    WHERE id = %s AND status NOT IN ('completed', 'failed', 'cancelled') RETURNING status
"""


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


def test_this_release_knows_its_own_revision() -> None:
    """It is that of the newest migration: a start that finds it does nothing."""
    assert head() == REVISION


async def test_services_of_one_process_migrate_at_once(new_database: Callable[[], str]) -> None:
    """Two databases that one process migrates at the same time both come to the newest revision."""
    databases = [open_at(new_database()) for _ in range(2)]
    await asyncio.gather(*(database.migrate() for database in databases))
    assert [await database.revision() for database in databases] == [head()] * 2
    for database in databases:
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


def is_ours(name: str | None, kind: str, _: object) -> bool:
    """Whether the table is the service's and not the job queue's."""
    return kind != "table" or not str(name).startswith("procrastinate_")


async def test_tables_are_what_migrations_make(database_url: str) -> None:
    """The tables in the code and those that the migrations make are the same: columns, types, indexes and checks."""
    database = open_at(database_url)
    await database.migrate()
    await database.close()
    engine = create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": is_ours})
        differences = compare_metadata(context, METADATA)
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
    before = all_rows(database_url)
    assert [len(found) for found in before.values()] == [1, 1, 1]
    database = open_at(database_url)
    await database.migrate()
    assert await database.revision() == head()
    await database.close()
    assert all_rows(database_url) == before
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute("INSERT INTO model_spending VALUES ('ann', '2026-03-01', 1, 2, 0.25, 0, now())")
    go_to(database_url, "0001")
    assert all_rows(database_url) == before
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
    go(database_url, command.downgrade, "base")
    assert rows(database_url, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [
        ("alembic_version",), ("alembic_version_pkc",)
    ]  # fmt: skip
    assert rows(database_url, "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == []
    assert rows(database_url, LEFT_TYPES) == []
    await database.migrate()
    assert await database.revision() == head()
    await database.close()


@pytest.mark.parametrize("start", before("0003"))
async def test_rows_of_older_releases_live_on(database_url: str, start: str) -> None:
    """Rows from before durable jobs are read after the upgrade, and are still there after a downgrade."""
    go(database_url, command.upgrade, start)
    assert rows(database_url, INSERT_OF_0001, "old", "failed") == [("old",)]
    database = open_at(database_url)
    await database.migrate()
    async with database.store.begin() as work:
        old = await work.extractions.get("ada", "old")
    await database.close()
    assert (old.status, old.lane, old.due_at, old.detached, old.cancel_requested) == (
        "failed", "small", None, False, False
    )  # fmt: skip
    assert (old.attempt, old.crashes, old.retries, old.version) == (0, 0, 0, 0)
    for direction, revision in ((command.downgrade, start), (command.upgrade, "head")):
        go(database_url, direction, revision)
        assert rows(database_url, READ_OF_0001)[0][:5:4] == ("old", "failed")


async def test_previous_release_writes_on_after_the_upgrade(database_url: str) -> None:
    """During a rollout the previous release still inserts and ends extractions, and reads those of this release."""
    database = open_at(database_url)
    await database.migrate()
    assert rows(database_url, INSERT_OF_0001, "theirs", "processing") == [("theirs",)]
    assert rows(database_url, UPDATE_OF_0001, "theirs") == [("failed",)]
    async with database.store.begin() as work:
        assert (await work.extractions.get("ada", "theirs")).status == "failed"
        again = await work.extractions.revive("theirs")
        claimed = await work.extractions.claim("theirs", again.created_at)
    assert claimed is not None
    assert claimed.attempt == 1
    assert rows(database_url, READ_OF_0001)[0][:5:4] == ("theirs", "processing")
    await database.close()


async def test_migration_does_not_hold_everybody_up(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that does not soon get a table to itself gives up, and can be tried again."""
    monkeypatch.setattr(schema, "TABLE_LOCK_TIMEOUT", "50ms")
    go(database_url, command.upgrade, "0001")
    database = open_at(database_url)
    with psycopg.connect(database_url.replace("+psycopg", "")) as backup:
        backup.execute("LOCK TABLE extractions IN ACCESS SHARE MODE")
        with pytest.raises(DependencyUnavailable):
            await database.migrate()
    assert await database.revision() == "0001"
    await database.migrate()
    assert await database.revision() == head()
    await database.close()


def test_queue_schema_is_the_installed_one() -> None:
    """The job queue's tables are those that the installed Procrastinate expects; a newer one needs a revision."""
    frozen = (files("service.store") / "migrations/procrastinate_3_10.sql").read_text(encoding="utf-8")
    assert frozen.endswith(SchemaManager.get_schema())


async def test_queue_works_on_its_tables(database_url: str) -> None:
    """What the migration made of the queue's schema, percent signs and all, takes a job and tells of it."""
    database = open_at(database_url)
    await database.migrate()
    await database.close()
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=database_url.replace("+psycopg", "")))
    async with app.open_async():
        assert await app.check_connection_async()
        await app.configure_task("some:task", queue="small", allow_unknown=True).defer_async(share="5%")
    assert rows(database_url, "SELECT args, status::text FROM procrastinate_jobs") == [({"share": "5%"}, "todo")]
    assert rows(database_url, "SELECT type::text FROM procrastinate_events") == [("deferred",)]


def test_template_makes_a_revision(tmp_path: Path) -> None:
    """The packaged template renders a revision that Python accepts, after the newest one."""
    migrations = shutil.copytree(files("service.store") / "migrations", tmp_path / "migrations")  # type: ignore[type-var]
    config = Config()
    config.set_main_option("script_location", str(migrations))
    made = command.revision(config, "A thought", rev_id="abcd")
    assert isinstance(made, Script)
    assert made.down_revision == head()
    assert made.doc == "A thought."
    assert head() == made.module.WORKS_FOR

"""Two releases on one database: the schema says which code may use it, and each release keeps to that."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy.exc import ProgrammingError

from service.features.errors import DependencyUnavailable
from service.store import database as database_module
from service.store import schema
from service.store.revision import REVISION
from service.store.schema import DatabaseTooNew
from tests.integration.test_migrations import (
    ROOT,
    configuration,
    go,
    migrate_at_once,
    open_at,
    rows,
)
from tests.integration.test_store import dataset

NEWER = "9000"
REVISION_FILE = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEWER}"
down_revision = "{REVISION}"
WORKS_FOR = "{{works_for}}"


def upgrade():
    op.add_column("datasets", sa.Column("note", sa.Text))
    op.create_table("notes", sa.Column("id", sa.Text, primary_key=True))


def downgrade():
    op.drop_table("notes")
    op.drop_column("datasets", "note")
"""
"""What a later release may add while this one's code still runs."""
OLDEST = "SELECT oldest_revision FROM schema_compatibility"
UPGRADE = """
import sys
from sqlalchemy import make_url
from service.store import schema
schema.SCRIPTS = sys.argv[2]
sys.stdin.readline()
print(schema.upgrade(make_url(sys.argv[1]), {}))
"""


def newer(folder: Path, works_for: str = REVISION) -> str:
    """Make the migrations of a later release, which declares the oldest code that works on its schema."""
    scripts = folder / "newer-migrations"
    shutil.copytree(str(files("service.store") / "migrations"), scripts)
    content = REVISION_FILE.replace("{works_for}", works_for)
    (scripts / "versions/r9000_notes.py").write_text(content, encoding="utf-8")
    return str(scripts)


async def upgraded(url: str, scripts: str) -> None:
    """Migrate the database as the release with those migrations does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "SCRIPTS", scripts)
        patch.setattr(database_module, "REVISION", NEWER)
        database = open_at(url)
        try:
            assert await database.migrate()
            assert await database.schema_state() == "current"
        finally:
            await database.close()


def change(url: str, statement: str) -> None:
    """Run one statement and commit it."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(statement.encode())


def test_every_revision_declares_whom_it_works_for() -> None:
    """Since the table exists, each revision names a known one not newer than itself, and never goes back."""
    scripts = [*ScriptDirectory.from_config(configuration()).walk_revisions()][::-1]
    known = [script.revision for script in scripts]
    declaring = [script for script in scripts if script.revision >= "0006"]
    places = [known.index(script.module.WORKS_FOR) for script in declaring]
    assert places == sorted(places)
    assert all(place <= known.index(script.revision) for place, script in zip(places, declaring, strict=True))


@pytest.mark.parametrize("start", [None, "0001", "0005"])
async def test_the_row_after_an_upgrade(database_url: str, start: str | None) -> None:
    """An empty and an older database say, once migrated, which code works on them, in one row."""
    if start is not None:
        go(database_url, command.upgrade, start)
    database = open_at(database_url)
    assert await database.schema_state() == "older"
    assert await database.migrate()
    assert await database.schema_state() == "current"
    await database.close()
    assert rows(database_url, OLDEST) == [("0006",)]
    with pytest.raises(psycopg.errors.CheckViolation):
        change(database_url, "INSERT INTO schema_compatibility VALUES (2, '0001')")


def test_the_row_after_four_upgrades_at_once(database_url: str) -> None:
    """Four processes that migrate at the same moment leave one row."""
    migrate_at_once(database_url)
    assert rows(database_url, OLDEST) == [("0006",)]


async def test_an_old_release_starts_on_a_newer_schema_that_serves_it(database_url: str, tmp_path: Path) -> None:
    """After the migration of the next release this one starts, migrates nothing, and reads and writes."""
    database = open_at(database_url)
    await database.migrate()
    async with database.store.begin() as work:
        await work.datasets.add(dataset("ada", "before"))
    await database.close()
    await upgraded(database_url, newer(tmp_path))

    database = open_at(database_url)
    assert await database.schema_state() == "newer"
    assert await database.migrate() is False
    assert await database.revision() == NEWER
    async with database.store.begin() as work:
        await work.datasets.add(dataset("ada", "after"))
    async with database.store.begin() as work:
        found = (await work.datasets.list("ada", limit=10)).items
    assert {one.id for one in found} == {"before", "after"}
    await database.close()
    assert rows(database_url, "SELECT note FROM datasets") == [(None,), (None,)]


async def test_a_rollback_and_the_way_forward_again(database_url: str, tmp_path: Path) -> None:
    """Upgrade, rollback and upgrade of the pods: each release starts each time, and the row stays what it was."""
    scripts = newer(tmp_path)
    await upgraded(database_url, scripts)
    for _ in range(2):
        database = open_at(database_url)
        assert not await database.migrate()
        await database.close()
        assert rows(database_url, OLDEST) == [(REVISION,)]
        await upgraded(database_url, scripts)
    assert rows(database_url, "SELECT version_num FROM alembic_version") == [(NEWER,)]


async def test_an_old_release_is_refused_a_schema_that_does_not_serve_it(database_url: str, tmp_path: Path) -> None:
    """A schema that says it needs newer code is left alone, with its revision in the message and what to do."""
    await upgraded(database_url, newer(tmp_path, NEWER))
    assert rows(database_url, OLDEST) == [(NEWER,)]
    await refused(database_url)


@pytest.mark.parametrize("loss", ["DELETE FROM schema_compatibility", "DROP TABLE schema_compatibility"])
async def test_an_old_release_is_refused_a_newer_schema_that_does_not_say(
    database_url: str, tmp_path: Path, loss: str
) -> None:
    """Without the row or its table a newer schema is refused as one that does not serve this code."""
    await upgraded(database_url, newer(tmp_path))
    change(database_url, loss)
    await refused(database_url)


async def refused(url: str) -> None:
    """Require that this release does not touch the database."""
    database = open_at(url)
    assert await database.schema_state() == "too new"
    with pytest.raises(DatabaseTooNew, match=r"revision 9000, which this release does not know.* Run that") as error:
        await database.migrate()
    assert isinstance(error.value, DependencyUnavailable)
    assert not error.value.retryable
    assert await database.revision() == NEWER
    await database.close()


@pytest.mark.parametrize("start", ["base", "0006"])
def test_two_releases_upgrade_at_once(database_url: str, tmp_path: Path, start: str) -> None:
    """Processes of this and of the next release that start together all succeed, and the newer schema stays."""
    if start != "base":
        go(database_url, command.upgrade, start)
    theirs = newer(tmp_path)
    releases = [theirs, schema.SCRIPTS, theirs, schema.SCRIPTS]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, database_url, scripts],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for scripts in releases
    ]  # fmt: skip
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outcomes = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outcomes
    assert {out for (out, _), scripts in zip(outcomes, releases, strict=True) if scripts == theirs} == {"True\n"}
    assert rows(database_url, "SELECT version_num FROM alembic_version") == [(NEWER,)]
    assert rows(database_url, OLDEST) == [(REVISION,)]


async def test_a_failed_migration_leaves_the_row(database_url: str, tmp_path: Path) -> None:
    """When a later revision fails, the database still says what it said, and this release finds it in order."""
    database = open_at(database_url)
    await database.migrate()
    change(database_url, "CREATE TABLE notes (unexpected integer)")
    with pytest.raises(ProgrammingError, match="already exists"):
        await upgraded(database_url, newer(tmp_path, NEWER))
    assert rows(database_url, OLDEST) == [("0006",)]
    assert await database.schema_state() == "current"
    await database.close()


def test_a_downgrade_takes_the_row_along(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down from a schema that needs newer code the database says again what the older revision declares."""
    config = configuration()
    config.set_main_option("script_location", newer(tmp_path, NEWER))
    monkeypatch.setattr("tests.integration.test_migrations.configuration", lambda: config)
    go(database_url, command.upgrade, "head")
    assert rows(database_url, OLDEST) == [(NEWER,)]
    go(database_url, command.downgrade, REVISION)
    assert rows(database_url, OLDEST) == [("0006",)]

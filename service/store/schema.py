"""Migrate the schema to this release's revision. Imports Alembic; `revision.py` says without it whether to."""

from __future__ import annotations

import threading
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, NullPool, create_engine, func, select, text

from service.features.errors import DependencyUnavailable
from service.store.revision import current_revision, oldest_revision

SchemaState = Literal["older", "current", "newer", "too new"]
"""A schema to be migrated, this release's, a newer one on which its code works, or one on which it does not."""

SCRIPTS = "service.store:migrations"
MIGRATION_LOCK = 0x66656174_6D696772
"""Key of the advisory lock that migrations hold: "feat" and "migr" in ASCII."""
LOCK_TIMEOUT = "120s"
"""To wait for another process's migration, after which there is nothing left to do."""
TOO_NEW = (
    "The database is at revision {}, which this release does not know: a newer release has migrated it. Run that "
    "release, or restore a backup from before."
)
TABLE_LOCK_TIMEOUT = "10s"
"""To wait for a table that a long transaction uses, such as a backup: later statements wait behind the migration."""

# Alembic keeps the running migration in module variables: one at a time in a process.
_ALEMBIC = threading.Lock()


class DatabaseTooNew(DependencyUnavailable):
    """A newer release has migrated the database, and this one's code does not work on it; retrying does not help."""

    retryable = False


def upgrade(url: URL, connect_args: dict[str, object]) -> bool:
    """Migrate the database to this release's revision, in one transaction. Blocks.

    False for a newer schema on which this release's code works: then it is not changed. Processes that start together
    wait for the first of them: without the lock all but one would fail on a table that another has just created. Raises
    DatabaseTooNew, and what SQLAlchemy raises for an unavailable database.
    """
    engine = create_engine(url, poolclass=NullPool, connect_args=connect_args, hide_parameters=True)
    with _ALEMBIC, engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        connection.execute(text(f"SET LOCAL lock_timeout = '{TABLE_LOCK_TIMEOUT}'"))
        found = schema_state(connection)
        if found == "too new":
            raise DatabaseTooNew(TOO_NEW.format(current_revision(connection)))
        if found == "older":
            config = _configuration()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return found != "newer"


def schema_state(connection: Connection) -> SchemaState:
    """Compare the database's schema with this release; an empty database is "older"."""
    revision = current_revision(connection)
    scripts = ScriptDirectory.from_config(_configuration())
    if revision is not None and revision == scripts.get_current_head():
        return "current"
    if revision is None or knows(revision):
        return "older"
    return "newer" if knows(oldest_revision(connection)) else "too new"


def knows(revision: str | None) -> bool:
    """Whether the revision is this release's or an older one, from which its migrations can start."""
    scripts = ScriptDirectory.from_config(_configuration())
    return revision in {script.revision for script in scripts.walk_revisions()}


def _configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    return config

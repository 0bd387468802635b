"""How the database's schema comes to this release's revision. Imports Alembic: `revision.py` says whether it must."""

from __future__ import annotations

import threading
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, NullPool, create_engine, func, select, text

from service.features.errors import DependencyUnavailable
from service.store.revision import current_revision, oldest_revision

Standing = Literal["older", "current", "newer", "too new"]
"""How a schema stands to this release: to be migrated, in order, newer but fit for its code, or not to be used."""

SCRIPTS = "service.store:migrations"
MIGRATION_LOCK = 0x66656174_6D696772
"""Key of the advisory lock that migrations hold: "feat" and "migr" in ASCII."""
LOCK_TIMEOUT = "120s"
"""For another process's migration, which is then found done."""
TOO_NEW = (
    "The database is at revision {}, which this release does not know: a newer release has migrated it. Run that "
    "release, or restore a backup from before."
)
TABLE_LOCK_TIMEOUT = "10s"
"""For a table that somebody uses for long, such as a backup: all later statements on it wait behind a migration."""

# alembic keeps the migration that runs in variables of its modules: one at a time in a process.
_ALEMBIC = threading.Lock()


class DatabaseTooNew(DependencyUnavailable):
    """A newer release has migrated the database, and this one's code does not work on it; waiting does not help."""

    retryable = False


def upgrade(url: URL, connect_args: dict[str, object]) -> bool:
    """Bring the database to this release's revision, in one transaction. Blocks.

    False for a newer schema on which this release's code works: it is left as it is. Processes that start together wait
    for the first of them: without the lock all but one would fail on a table that another has just created. Raises
    DatabaseTooNew, and what SQLAlchemy raises for a database that is away.
    """
    engine = create_engine(url, poolclass=NullPool, connect_args=connect_args, hide_parameters=True)
    with _ALEMBIC, engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        connection.execute(text(f"SET LOCAL lock_timeout = '{TABLE_LOCK_TIMEOUT}'"))
        found = standing(connection)
        if found == "too new":
            raise DatabaseTooNew(TOO_NEW.format(current_revision(connection)))
        if found == "older":
            config = _configuration()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return found != "newer"


def standing(connection: Connection) -> Standing:
    """How the database's schema stands to this release; an empty database is "older"."""
    revision = current_revision(connection)
    scripts = ScriptDirectory.from_config(_configuration())
    if revision is not None and revision == scripts.get_current_head():
        return "current"
    if revision is None or knows(revision):
        return "older"
    return "newer" if knows(oldest_revision(connection)) else "too new"


def knows(revision: str | None) -> bool:
    """Whether the revision is this release's or an older one, and so its code and its migrations follow from it."""
    scripts = ScriptDirectory.from_config(_configuration())
    return revision in {script.revision for script in scripts.walk_revisions()}


def _configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    return config

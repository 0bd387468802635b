"""How the database's schema comes to this release's revision. Imports Alembic: `revision.py` says whether it must."""

from __future__ import annotations

import threading

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, NullPool, create_engine, func, select, text

from service.features.errors import DependencyUnavailable
from service.store.revision import current_revision

MIGRATION_LOCK = 0x66656174_6D696772
"""Key of the advisory lock that migrations hold: "feat" and "migr" in ASCII."""
LOCK_PATIENCE = "120s"
"""For another process's migration, which is then found done."""
TABLE_PATIENCE = "10s"
"""For a table that somebody uses for long, such as a backup: all later statements on it wait behind a migration."""

# alembic keeps the migration that runs in variables of its modules: one at a time in a process.
_ALEMBIC = threading.Lock()


class DatabaseTooNew(DependencyUnavailable):
    """A newer release has migrated the database; waiting does not help."""

    retryable = False


def upgrade(url: URL, connect_args: dict[str, object]) -> None:
    """Bring the database to this release's revision, in one transaction. Blocks.

    Processes that start together wait for the first of them: without the lock all but one would fail on a table that
    another has just created. Raises DatabaseTooNew, and what SQLAlchemy raises for a database that is away.
    """
    engine = create_engine(url, poolclass=NullPool, connect_args=connect_args, hide_parameters=True)
    with _ALEMBIC, engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_PATIENCE}'"))
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        connection.execute(text(f"SET LOCAL lock_timeout = '{TABLE_PATIENCE}'"))
        config = _configuration()
        config.attributes["connection"] = connection
        _require_known(current_revision(connection))
        command.upgrade(config, "head")


def knows(revision: str) -> bool:
    """Whether this release can bring a database of that revision to its own."""
    scripts = ScriptDirectory.from_config(_configuration())
    return revision in {script.revision for script in scripts.walk_revisions()}


def _require_known(revision: str | None) -> None:
    if revision is not None and not knows(revision):
        raise DatabaseTooNew(
            f"The database is at revision {revision}, which this release does not know: a newer release has migrated "
            "it. Run that release, or restore a backup from before."
        )


def _configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", "service.store:migrations")
    return config

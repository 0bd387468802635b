"""The revision of the database's schema, and which code may use it. A start that finds them in order reads no more."""

from __future__ import annotations

from sqlalchemy import Connection, text

REVISION = "0006"
"""This release's: that of the newest file in `migrations/versions`."""


def current_revision(connection: Connection) -> str | None:
    """The database's; None for one that was never migrated."""
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    return connection.scalar(text("SELECT version_num FROM alembic_version"))


def oldest_revision(connection: Connection) -> str | None:
    """The oldest revision whose code works on the schema; None for a database that does not say."""
    if not declares(connection):
        return None
    return connection.scalar(text("SELECT oldest_revision FROM schema_compatibility"))


def declare_oldest(connection: Connection, works_for: str) -> None:
    """Write the oldest revision whose code works on the schema, which `declares` it."""
    statement = text(
        "INSERT INTO schema_compatibility (id, oldest_revision) VALUES (1, :oldest) "
        "ON CONFLICT (id) DO UPDATE SET oldest_revision = excluded.oldest_revision"
    )
    connection.execute(statement, {"oldest": works_for})


def declares(connection: Connection) -> bool:
    """Whether the schema has a place for the oldest revision whose code works on it."""
    return connection.scalar(text("SELECT to_regclass('schema_compatibility')")) is not None

"""Read the revision of the schema and which releases may use it, without importing Alembic."""

from __future__ import annotations

from sqlalchemy import Connection, text

REVISION = "0008"
"""This release's revision: that of the newest file in `migrations/versions`."""


def current_revision(connection: Connection) -> str | None:
    """Read the database's revision; None when it was never migrated."""
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    return connection.scalar(text("SELECT version_num FROM alembic_version"))


def oldest_revision(connection: Connection) -> str | None:
    """Read the oldest revision whose code works on the schema; None when the schema does not record it."""
    if not declares(connection):
        return None
    return connection.scalar(text("SELECT oldest_revision FROM schema_compatibility"))


def declare_oldest(connection: Connection, works_for: str) -> None:
    """Record the oldest revision whose code works on the schema."""
    statement = text(
        "INSERT INTO schema_compatibility (id, oldest_revision) VALUES (1, :oldest) "
        "ON CONFLICT (id) DO UPDATE SET oldest_revision = excluded.oldest_revision"
    )
    connection.execute(statement, {"oldest": works_for})


def declares(connection: Connection) -> bool:
    """Whether the schema has the table that records the oldest compatible revision."""
    return connection.scalar(text("SELECT to_regclass('schema_compatibility')")) is not None

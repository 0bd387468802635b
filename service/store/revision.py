"""The revision of the database's schema."""

from __future__ import annotations

from sqlalchemy import Connection, text

REVISION = "0005"
"""This release's: that of the newest file in `migrations/versions`."""


def current_revision(connection: Connection) -> str | None:
    """The database's; None for one that was never migrated."""
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    return connection.scalar(text("SELECT version_num FROM alembic_version"))

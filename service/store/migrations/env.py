"""Runs the revisions on the connection that `service.store.schema` hands over, in its transaction."""  # noqa: INP001 - alembic finds it by path

from __future__ import annotations

from alembic import context

from service.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()

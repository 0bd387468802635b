"""Runs the revisions on the connection that `service.store.schema` hands over, in its transaction."""  # noqa: INP001 - alembic finds it by path

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

from service.store.revision import declare_oldest, declares
from service.store.tables import METADATA


def declare(
    ctx: MigrationContext,
    step: MigrationInfo,
    heads: Collection[Any],  # noqa: ARG001 -- alembic passes all by name
    run_args: Mapping[str, Any],  # noqa: ARG001 -- likewise
) -> None:
    """Write which code works on the schema that this step leaves, up or down: what the revision's file declares."""
    if ctx.connection is None or not declares(ctx.connection):
        return
    for script in context.script.get_revisions(step.destination_revision_ids):
        declare_oldest(ctx.connection, script.module.WORKS_FOR)


context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, on_version_apply=declare
)
with context.begin_transaction():
    context.run_migrations()

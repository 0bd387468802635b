"""`feature-agent migrate`: bring the database to this release's schema."""

from __future__ import annotations

import click

from service.commands.running import print_json, with_storage
from service.resources.storage import Storage
from service.store.revision import REVISION


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def migrate(*, as_json: bool) -> None:
    """Bring the database to this release's schema; safe to run from several places at once."""

    async def work(storage: Storage) -> str | None:
        return await storage.database.revision()

    revision = with_storage(work)
    if as_json:
        print_json({"revision": revision, "release_revision": REVISION})
    elif revision != REVISION:
        click.echo(
            f"The database is at revision {revision}, newer than this release's {REVISION}, which still works on it. "
            "Nothing was migrated."
        )
    else:
        click.echo(f"The database is at revision {revision}.")

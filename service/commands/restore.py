"""`feature-agent restore`: a backup's rows and files back where the settings say."""

from __future__ import annotations

import click

from service.commands.backup import open_backup, tell, with_unmigrated
from service.resources.storage import Storage
from service.store.backup import Manifest
from service.store.restore import restore as bring_back


@click.command()
@click.argument("url", metavar="URL")
@click.option("--yes", is_flag=True, help="Replace all rows of a database that has some.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def restore(url: str, *, yes: bool, as_json: bool) -> None:
    """Bring the backup at URL back into the database and the artifact store that the settings name.

    Every file is checked against the manifest; the rows come last, all or none. Stop the service before.
    """
    backup = open_backup(url)

    async def work(storage: Storage) -> Manifest:
        return await bring_back(storage.database, storage.artifacts, backup, replace=yes)

    tell("Restored", with_unmigrated(work), as_json=as_json)
